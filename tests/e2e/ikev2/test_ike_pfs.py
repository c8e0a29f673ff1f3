"""TS-59, TS-63, TS-64, TS-66: rekeys of a child with strongSwan. A key exchange of its own that one end wants, both, or nobody; many rekeys under a stream;
and a lifetime that is over."""
import re
import time

import pytest

import ike_wire
import lab
import traffic
from ike_documents import children, diagnosis
from ike_pairs import SwanLab
from ike_wire import CREATE_CHILD
from netns import wait_until

pytestmark = pytest.mark.usefixtures("no_stream_is_left")

QUICK = "aes128-sha256-x25519"
PLAIN, X25519, MODP, EITHER = "aes128-sha256", "aes128-sha256-x25519", "aes128-sha256-modp2048", "aes128-sha256-modp2048-x25519"
RATE = 20000
REPLAY_WINDOW = 64


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch, flows=("map4",), dataplane={"umem_frames": 32768, "ring_entries": 16384}) as made:
        made.deep_buffers()
        yield made


def established(world, ours: str, theirs: str, **options) -> str:
    """The SPI of the one child, whose keys are those of the IKE SA."""
    world.configure(ike=QUICK, esp=ours, swan={"esp_proposals": [theirs], "proposals": [QUICK]}, **options)
    world.up("postern")
    (child,) = children(world.left)
    assert child["pfs_group"] is None and "dh-group" not in world.peer.children()[0]
    return child["esp_spi_in"]


def one_child(world, but: str) -> dict:
    """The successor, alone."""
    wait_until(lambda: len(children(world.left)) == len(world.peer.children()) == 1 and children(world.left)[0]["esp_spi_in"] != but, 12,
               f"a new child; there is {world.peer.sas()}")
    return children(world.left)[0]


def volume(world) -> None:
    """More than the smallest lifetime of kilobytes."""
    traffic.stream(world.hA, world.hB, lab.host(2, "map4"), count=1700, rate=4000, size=1200, quiet=0.2)


def requests(log: str, verb: str) -> list[str]:
    """Payloads of strongSwan's ("generating") or our ("parsed") CREATE_CHILD_SA requests."""
    return re.findall(rf"{verb} CREATE_CHILD_SA request \d+ \[ ([^\]]*) \]", log)


def answers(log: str, verb: str) -> list[str]:
    return re.findall(rf"{verb} CREATE_CHILD_SA response \d+ \[ ([^\]]*) \]", log)


def test_nobody_wants_it(world):
    """TS-64: no KE payload in a rekey of either end, as strongSwan reads them."""
    first, since = established(world, PLAIN, PLAIN, association={"lifetime_kilobytes": 2560}), world.peer.mark()
    world.peer.rekey(child="c")
    second = one_child(world, first)
    volume(world)
    third = one_child(world, second["esp_spi_in"])
    assert second["pfs_group"] is third["pfs_group"] is None and "dh-group" not in world.peer.children()[0]
    log = world.peer.log()[since:]
    asked = requests(log, "generating") + requests(log, "parsed")
    assert len(requests(log, "generating")) == 1 and requests(log, "parsed") and all("REKEY_SA" in one and "KE" not in one.split() for one in asked), asked
    world.ping_both()


@pytest.mark.parametrize("theirs, group", [(X25519, ("CURVE_25519", 31)), (MODP, ("MODP_2048", 14))], ids=["x25519", "modp2048"])
def test_the_peer_alone_wants_it(world, theirs, group):
    """TS-64: taken from a peer that asks for it, of whatever group we know."""
    first, since = established(world, PLAIN, theirs), world.peer.mark()
    world.peer.rekey(child="c")
    child = one_child(world, first)
    assert (world.peer.children()[0]["dh-group"], child["pfs_group"]) == group
    assert all("KE" in one.split() for one in requests(world.peer.log()[since:], "generating"))
    world.ping_both()


def failures(world) -> list[tuple[str, str]]:
    return [(one["failure"], one["role"]) for one in diagnosis(world.left, lab.OUT4[2])]


def test_the_peer_alone_demands_it_of_us(world):
    """We ask without: it is the peer's to refuse, and the SA that there is goes on."""
    first, since = established(world, PLAIN, X25519, association={"lifetime_kilobytes": 2560}), world.peer.mark()
    stream = world.stream(rate=1000, size=1200)
    world.peer.said(r"generating CREATE_CHILD_SA response \d+ \[ N\(NO_PROP\) \]", since, 10)
    stream.finish()
    assert "KE" not in requests(world.peer.log()[since:], "parsed")[0].split()
    wait_until(lambda: ("no_common_child_proposal", "initiator") in failures(world), 5, f"the diagnosis: {failures(world)}")
    assert [child["esp_spi_in"] for child in children(world.left)] == [first]


@pytest.mark.parametrize("theirs", [PLAIN, MODP], ids=["none", "another group"])
def test_we_alone_demand_it(world, theirs):
    """TS-66: a rekey without a key exchange, or with a group that is not ours: NO_PROPOSAL_CHOSEN, and the SA that there is goes on."""
    first, since = established(world, X25519, theirs), world.peer.mark()
    world.peer.rekey(child="c")
    world.peer.said(r"parsed CREATE_CHILD_SA response \d+ \[ N\(NO_PROP\) \]", since)
    assert answers(world.peer.log()[since:], "parsed")[0] == "N(NO_PROP)"
    rows = [one for one in diagnosis(world.left, lab.OUT4[2]) if one["failure"] == "no_common_child_proposal" and one["said_by"] == "us"]
    assert rows and "DH group" in rows[0]["differs"], diagnosis(world.left)
    assert [child["esp_spi_in"] for child in children(world.left)] == [first]
    world.ping_both()


def test_we_demand_another_group_than_the_peer_tried(world):
    """TS-66: INVALID_KE_PAYLOAD names ours, which the peer has as well."""
    first, since = established(world, X25519, EITHER), world.peer.mark()
    world.peer.rekey(child="c")
    child = one_child(world, first)
    assert (world.peer.children()[0]["dh-group"], child["pfs_group"]) == ("CURVE_25519", 31)
    assert answers(world.peer.log()[since:], "parsed")[0] == "N(INVAL_KE)" and len(requests(world.peer.log()[since:], "generating")) == 2
    world.ping_both()


# -- many, and by time

@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("back", [False, True], ids=["out", "in"])
def test_twenty_rekeys_under_a_stream(world, back):
    """TS-63: none is lost, none is doubled, and what overtakes is less than a window at each rekey."""
    spi = established(world, "aes128gcm16", "aes128gcm16")
    stream = world.stream(back=back, rate=RATE)
    for _ in range(20):
        stream.more(2 * RATE)  # old inbound SAs stay for ten seconds, and a flow has eight SAs at most
        world.peer.rekey(child="c")
        spi = one_child(world, spi)["esp_spi_in"]
    stream.more(10000)
    got = stream.finish()
    assert got["sent"] >= 40 * RATE and got["send_seconds"] * RATE < got["sent"] * 1.1, f"the rate was held: {got}; counted: {world.losses()}"
    assert got["lost"] == got["wrong"] == got["duplicate"] == 0, f"{got}; counted: {world.losses()}"
    assert got["reordered"] <= 20 * REPLAY_WINDOW, got
    world.ping_both()


@pytest.mark.slow
def test_the_shortest_lifetime_is_over(world):
    """TS-59: of 120 seconds. We rekey before, the SPIs are new, and not one ping is lost."""
    first = established(world, "aes128gcm16", "aes128gcm16", association={"lifetime_seconds": 120})
    began, count = time.monotonic(), 650
    assert children(world.left)[0]["life_s"] == 120
    with world.capture("udp port 4500 and udp[8:4] = 0") as capture:
        ping = world.hA.spawn("ping", "-n", "-i", "0.2", "-c", count, "-W", "5", "-I", lab.host(1, "map4"), lab.host(2, "map4"))
        wait_until(lambda: children(world.left)[0]["esp_spi_in"] != first, 120, "a rekey", 0.2, 1)
        assert time.monotonic() - began < 120, "before it expires"
        ping.wait(60)
        asked = ike_wire.read(capture.frames()).exchanges(CREATE_CHILD)
    assert {one.source for one in asked} == {lab.OUT4[1]}
    assert f"{count} packets transmitted, {count} received, 0% packet loss" in ping.log(), ping.log()[-500:]
    assert {child["esp_spi_in"] for child in children(world.left)}.isdisjoint({first})
