"""The life of SAs that are up: rekeys under a numbered stream of 20,000 packets a second, deletes, restarts of either side."""
import os
import signal

import pytest

import ike_wire
import lab
import traffic
from ike_documents import children, ike_sas, wait_down
from ike_pairs import SwanLab, ike_pid
from ike_wire import CREATE_CHILD, INFORMATIONAL, SA_INIT
from netns import wait_until
from node import gone

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("no_stream_is_left")]

RATE = 20000


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch, flows=("map4",), dataplane={"umem_frames": 32768, "ring_entries": 16384}) as made:
        made.deep_buffers()
        yield made


def established(world, by: str = "postern", **options) -> dict:
    world.configure(**options)
    return world.up(by)


def spis(world) -> set[str]:
    return {child["esp_spi_in"] for child in children(world.left)}


def assert_nothing_lost(world, got: dict, least: int = 20000, rate: int = RATE) -> None:
    assert got["sent"] >= least and got["send_seconds"] * rate < got["sent"] * 1.1, f"the rate was held: {got}; counted: {world.losses()}"
    assert got["lost"] == got["wrong"] == got["duplicate"] == 0, f"{got}; counted: {world.losses()}"


def rekeyed_under_load(world, begin, changed, back: bool, rekeys: int = 1) -> ike_wire.Wire:
    """`begin()` starts a rekey while the stream runs; `changed()` says that it is over. Nothing is lost, doubled or in clear."""
    with world.capture("udp port 500 or (udp port 4500 and udp[8:4] = 0)") as capture:
        stream = world.stream(back=back, rate=RATE)
        for _ in range(rekeys):
            stream.more(6000)
            before = changed()
            begin()
            wait_until(lambda: changed() not in (before, None), 8, "the rekey is done")
        stream.more(10000)
        got = stream.finish()
        wire = ike_wire.read(capture.frames())
    assert_nothing_lost(world, got)
    return wire


@pytest.mark.parametrize("back", [False, True], ids=["out", "in"])
@pytest.mark.parametrize("esp", ["aes128gcm16", "aes256-sha256-x25519"])
@pytest.mark.alone
def test_child_rekeyed_by_strongswan(world, esp, back):
    """Twice, also with a key exchange of its own (PFS); one child SA remains."""
    established(world, esp=esp)
    wire = rekeyed_under_load(world, lambda: world.peer.rekey(child="c"), lambda: _only(spis(world)), back, rekeys=2)
    assert len(wire.exchanges(CREATE_CHILD)) == 2
    assert len(children(world.left)) == 1 == len(world.peer.children())
    assert len(children(world.left, lingering=True)) == 3, "packets of the old ones may still be on their way"
    if "x25519" in esp:
        assert children(world.left)[0]["pfs_group"] == 31 and world.peer.children()[0]["dh-group"] == "CURVE_25519"
    world.ping_both()


@pytest.mark.parametrize("back", [False, True], ids=["out", "in"])
@pytest.mark.parametrize("esp", ["aes256gcm16", "aes128gcm16-ecp256"])
@pytest.mark.alone
def test_child_rekeyed_by_postern(world, esp, back):
    """The volume lifetime is over after less than two seconds of the stream, again and again."""
    established(world, esp=esp, association={"lifetime_kilobytes": 6000})
    first = spis(world)
    with world.capture("udp port 4500 and udp[8:4] = 0") as capture:
        stream = world.stream(back=back, rate=RATE)
        wait_until(lambda: spis(world).isdisjoint(first), 10, "a first rekey")
        second = spis(world)
        wait_until(lambda: spis(world).isdisjoint(second), 10, "a second rekey")
        stream.more(10000)
        got = stream.finish()
        wire = ike_wire.read(capture.frames())
    assert_nothing_lost(world, got)
    asked = wire.exchanges(CREATE_CHILD)
    assert len(asked) >= 2 and {one.source for one in asked} == {lab.OUT4[1]}
    if "ecp256" in esp:
        assert children(world.left)[0]["pfs_group"] == 19


def _only(found: set[str]) -> str | None:
    """The newest while there are two is not told apart: wait until there is one."""
    return next(iter(found)) if len(found) == 1 else None


@pytest.mark.parametrize("back", [False, True], ids=["out", "in"])
@pytest.mark.alone
def test_ike_rekeyed_by_strongswan(world, back):
    """The children move to the successor, which lives on: it can rekey them."""
    established(world)
    before = spis(world)
    wire = rekeyed_under_load(world, lambda: world.peer.rekey(ike="net"), lambda: _only({sa["local_spi"] for sa in ike_sas(world.left)}), back, 2)
    assert len(wire.exchanges(CREATE_CHILD)) == 2 and not wire.exchanges(SA_INIT)
    assert spis(world) == before and len(world.peer.established()) == 1
    world.peer.rekey(child="c")
    wait_until(lambda: _only(spis(world)) not in (None, *before), 12, "the successor rekeys the child")


def _own_ike_spi(world) -> str | None:
    return _only({sa["local_spi"] for sa in ike_sas(world.left)})


@pytest.mark.parametrize("back", [False, True], ids=["out", "in"])
@pytest.mark.alone
def test_ike_rekeyed_by_postern(world, back):
    """By the operator's word; what the lifetime does by itself is test_ike_lifetime_is_over's. The children go on."""
    established(world)
    children_before = spis(world)
    wire = rekeyed_under_load(world, lambda: world.left.postern("crypto", "session", "rekey"), lambda: _own_ike_spi(world), back, 2)
    asked = wire.exchanges(CREATE_CHILD)
    assert len(asked) == 2 and {one.source for one in asked} == {lab.OUT4[1]} and not wire.exchanges(SA_INIT)
    assert spis(world) == children_before and len(world.peer.established()) == 1


@pytest.mark.slow
@pytest.mark.alone
def test_ike_lifetime_is_over(world):
    """The shortest lifetime of a profile is 120 seconds (IKE-40), so this one takes as long."""
    established(world, profile={"lifetime": 120})
    before = {sa["local_spi"] for sa in ike_sas(world.left)}
    children_before = spis(world)
    with world.capture("udp port 4500 and udp[8:4] = 0") as capture:
        stream = world.stream(rate=RATE)
        wait_until(lambda: {sa["local_spi"] for sa in ike_sas(world.left)}.isdisjoint(before), 130, "the IKE SA is rekeyed")
        stream.more(10000)
        got = stream.finish()
        wire = ike_wire.read(capture.frames())
    assert_nothing_lost(world, got)
    assert {one.source for one in wire.exchanges(CREATE_CHILD)} == {lab.OUT4[1]}
    assert spis(world) == children_before and len(world.peer.established()) == 1


@pytest.mark.alone
def test_both_rekey_the_child_at_once(world):
    """RFC 7296 2.8.1: whoever has the lowest nonce loses its SA; one remains and nothing is lost on the way."""
    established(world, association={"lifetime_kilobytes": 2560})
    first = spis(world)
    stream = world.stream(rate=RATE)
    for _ in range(6):
        wait_until(lambda: world.peer.children(), 5, "a child")
        world.peer.rekey(child="c")
        stream.more(6000)
    got = stream.finish()
    assert_nothing_lost(world, got)
    assert first.isdisjoint(spis(world))
    wait_until(lambda: len(children(world.left)) == 1 == len(world.peer.children()), 12, "one child SA remains")
    world.ping_both()


def test_simultaneous_initiation(world):
    """Both begin before either has heard of the other. Whatever remains carries traffic both ways, and it is not more than two."""
    world.configure(swan={"more": {"unique": "no"}})
    with world.lost(world.n1, "udp dport 500"), world.lost(world.n2, "udp dport 500"):
        world.peer.initiate_soon("net")
        world.ping(count=1, wait=1)
    wait_until(lambda: world.peer.children() and children(world.left), 8, "an SA is up")
    world.ping_both("map4", 5)
    wait_until(lambda: len(children(world.left)) == len(world.peer.children()) <= 2, 12, "both sides agree on what remains")


@pytest.mark.parametrize("what", ["ike", "child"])
def test_deleted_by_strongswan(world, what):
    established(world)
    if what == "ike":
        world.peer.terminate(ike="net")
        wait_down(world.left)
    else:
        world.peer.terminate(child="c")
        wait_until(lambda: not children(world.left), 8, "the child is deleted")
        assert len(ike_sas(world.left)) == 1
    with world.capture() as capture:
        assert world.ping(count=1, wait=5) == 1, "the next packet brings it back"
        ike_wire.read(capture.frames()).assert_protected(2)


@pytest.mark.parametrize("words", [("clear", "crypto", "session"), ("clear", "crypto", "sa")], ids=" ".join)
def test_cleared_by_postern(world, words):
    """The peer is told at once, and the next packet sets up anew."""
    sa = established(world)
    before = world.peer.children()[0]["uniqueid"]
    with world.capture("udp port 4500 and udp[8:4] = 0") as capture:
        world.left.postern(*words)
        wait_until(lambda: before not in [child["uniqueid"] for child in world.peer.children()], 8, "strongSwan's child is gone")
        if words[-1] == "session":
            wait_until(lambda: sa["uniqueid"] not in [one["uniqueid"] for one in world.peer.sas()], 8, "and its IKE SA")
        wire = ike_wire.read(capture.frames())
    assert [one for one in wire.exchanges(INFORMATIONAL) if one.source == lab.OUT4[1]], "told, not left to time out"
    assert world.ping(count=1, wait=5) == 1
    world.ping_both()


def test_peer_restarted(world):
    """strongSwan is killed without a word, comes back and initiates: INITIAL_CONTACT ends what was left of it."""
    established(world)
    before = spis(world)
    world.peer.kill()
    world.peer.start()
    world.deep_buffers()
    world.peer.initiate("net")
    wait_until(lambda: len(ike_sas(world.left)) == 1 and spis(world).isdisjoint(before), 8, "the old SA is gone")
    world.ping_both()


@pytest.mark.parametrize("mode", ["periodic", "on-demand"])
def test_dead_peer_is_detected(world, mode):
    """IKE-42: ten seconds of silence at least, and on demand packets that nobody answers; traffic sets up anew once the peer is back."""
    established(world, profile={"dpd": {"mode": mode, "interval": 10, "retry": 2}})
    before = spis(world)
    world.peer.kill()

    def given_up() -> bool:
        if mode == "on-demand":
            world.ping(count=1, wait=0.2)
        return not children(world.left) or spis(world).isdisjoint(before)

    wait_until(given_up, 45, "liveness gave up")
    world.peer.start()
    world.deep_buffers()
    traffic.ping_until(world.hA, lab.host(2, "map4"), 20)
    world.ping_both()


def test_a_silent_but_living_peer_is_not_given_up(world):
    """On demand: an idle SA is asked nothing, and a lost answer alone ends nothing."""
    established(world, profile={"dpd": {"mode": "on-demand", "interval": 10, "retry": 2}})
    before = spis(world)
    with world.lost(world.n1, "udp sport 4500 udp length < 200") as dropped:
        world.ping(count=1, wait=1)
        wait_until(lambda: dropped() >= 1, 15, "an answer is lost")
    world.ping_both()
    assert spis(world) == before


LIVELINESS = {"more": {"dpd_delay": "1s"}}


def test_who_asks_whether_we_live_is_answered(world):
    """strongSwan asks an idle IKE SA every second (RFC 7296 2.4); each time it is answered at once, and everything stays as it is."""
    sa = established(world, swan=LIVELINESS)
    before = spis(world)
    with world.capture("udp port 4500 and udp[8:4] = 0") as capture:
        goal = world.peer.counters()["info-in-resp"] + 3
        wait_until(lambda: world.peer.counters()["info-in-resp"] >= goal, 10, "three answers")
        wire = ike_wire.read(capture.frames())
    asked, answered = (wire.exchanges(INFORMATIONAL, response) for response in (False, True))
    assert {one.source for one in asked} == {lab.OUT4[2]} and {one.source for one in answered} == {lab.OUT4[1]}
    assert 3 <= len(answered) <= len(asked) <= len(answered) + 1 and all(one.exchange == INFORMATIONAL for one in wire.ike), wire.ike
    assert spis(world) == before and [one["uniqueid"] for one in world.peer.established()] == [sa["uniqueid"]]


@pytest.mark.slow
def test_given_up_while_postern_ike_stands_still(world):
    """A postern-ike that does not run answers nobody: strongSwan gives its SAs up. Once it runs again it knows a peer who has none, and what
    strongSwan begins then takes the place of the old ones."""
    established(world, swan=LIVELINESS)
    old_ike, old = _own_ike_spi(world), spis(world)
    pid = ike_pid(world.left)
    os.kill(pid, signal.SIGSTOP)
    try:
        world.peer.wait_none(20)
    finally:
        os.kill(pid, signal.SIGCONT)
    world.peer.initiate("net")
    wait_until(lambda: _own_ike_spi(world) not in (None, old_ike) and spis(world).isdisjoint(old), 8, "a new one alone")
    assert ike_pid(world.left) == pid and ike_sas(world.left)[0]["role"] == "responder"
    world.ping_both()


@pytest.mark.alone
def test_ike_daemon_killed(world):
    """Its child SAs go on undisturbed; the new daemon sets up anew, and no packet is lost on the way. (With `unique = replace`
    strongSwan itself would end what is up before it answers.)"""
    established(world, swan={"more": {"unique": "never"}})
    before = spis(world)
    killed = ike_pid(world.left)
    stream = world.stream(rate=RATE)
    stream.more(4000)
    world.kill_ike()
    stream.more(8000)
    wait_until(lambda: ike_pid(world.left) != killed, 10, "a new postern-ike")
    wait_until(lambda: len(children(world.left)) == 1 and spis(world).isdisjoint(before), 15, "re-established")
    stream.more(8000)
    got = stream.finish()
    assert_nothing_lost(world, got)
    world.ping_both()


@pytest.mark.alone
def test_posternd_killed_and_started(world):
    """The worker and its SAs live on, and so does postern-ike. Nothing is lost, with the steer TAP's queue as posternd makes it,
    and afterwards negotiation works."""
    established(world)
    world.tap_queue(4096)
    before = spis(world)
    stream = world.stream(rate=RATE)
    stream.more(4000)
    world.left.kill_daemon()
    stream.more(4000)
    world.left.start()
    stream.more(8000)
    got = stream.finish()
    world.deep_buffers()
    assert_nothing_lost(world, got, 16000)
    wait_until(lambda: spis(world) == before, 15, "the SA that IKE knew")
    world.ping_both()
    world.down()
    assert world.ping(count=1, wait=5) == 1


@pytest.mark.unbalanced("what the worker had read and not sent dies with it")
def test_worker_killed(world):
    """Its successor has the keys of what IKE negotiated; sequence numbers go on."""
    established(world)
    with world.capture() as capture:
        world.ping_both()
        killed = world.left.kill_worker()
        wait_until(lambda: gone(killed), 5, "the worker is gone")
        traffic.ping_until(world.hA, lab.host(2, "map4"), 15)
        world.ping_both()
        ike_wire.read(capture.frames()).assert_protected(8)


def test_stopped_node_tells_its_peer(scratch):
    """SIGTERM: DELETE is sent, so the peer does not keep a dead SA."""
    with SwanLab(scratch, flows=("map4",)) as made:
        made.peer.load(made.connection(2))
        made.up("postern")
        made.left.process.signal(signal.SIGTERM)
        made.peer.wait_none(8)
        made.left.process.wait(15)


@pytest.mark.alone
def test_packet_lifetime(world):
    """`lifetime_packets`: the child is rekeyed before its packets are used up, and nothing is lost."""
    established(world, esp="aes256gcm16", association={"lifetime_packets": 40000, "lifetime_kilobytes": "disable"})
    first = spis(world)
    stream = world.stream(rate=RATE)
    wait_until(lambda: spis(world).isdisjoint(first), 10, "a first rekey")
    second = spis(world)
    wait_until(lambda: spis(world).isdisjoint(second), 10, "a second rekey")
    assert_nothing_lost(world, stream.finish())
