"""MOBIKE by us (RFC 4555): Postern's own address changes, and its SAs with strongSwan go on at the new one; and where an end has more than
one address, they go on at another one when the first one is dead."""
import contextlib
import json

import pytest

import ike_wire
import lab
import traffic
from balance import assert_balanced, settled_excess
from ike_documents import ike_sas
from ike_lab import inside
from ike_pairs import SwanLab
from ike_wire import AUTH, CREATE_CHILD, SA_INIT
from lab import OUT4, OUT6
from netns import wait_until

AWAY, AWAY6 = "192.0.2.21", "2001:db8:ff::21"
SWAN_AWAY = "192.0.2.22"


class Roaming(SwanLab):
    """Postern's outside interface has the addresses that somebody else gives it, as by DHCP. `family`: of the outer and the inner addresses."""
    family = 4

    def __init__(self, scratch):
        super().__init__(scratch, right={"log": {"ike": 2}, "options": {"interfaces_use": "out0"}}, flows=(self.flow,))
        self.n1.sysctl("net.ipv4.conf.out0.promote_secondaries", 1)

    @property
    def flow(self) -> str:
        return f"map{self.family}"

    @property
    def home(self) -> str:
        return self.outer(1, self.family)

    @property
    def away(self) -> str:
        return AWAY if self.family == 4 else AWAY6

    def document(self, **options) -> dict:
        document = super().document(**options)
        next(one for one in document["interfaces"] if one["name"] == "out0").pop("addresses", None)
        return document

    def lives_at(self, *addresses: str, gap: bool = False) -> None:
        """These and no other; with a gap out0 has none in between."""
        shown = json.loads(self.n1.ip("-j", f"-{self.family}", "address", "show", "dev", "out0", "scope", "global"))
        before = [one["local"] for link in shown for one in link.get("addr_info", []) if "local" in one]
        mask = "24" if self.family == 4 else "64 nodad"
        gone = [f"address del {one}/{mask.split()[0]} dev out0" for one in before if one not in addresses]
        come = [f"address add {one}/{mask.split()[0]} dev out0{mask[2:]}" for one in addresses if one not in before]
        route = [f"route replace {inside(2, self.flow)} via {self.outer(2, self.family)} src {addresses[0]}"]
        if gap:
            self.n1.ip_batch(*gone)
            wait_until(lambda: "out0 has no IPv4 address any more" in self.left.process.log(), 5, "the node misses it")
            self.n1.ip_batch(*come, *route)
        else:
            self.n1.ip_batch(*come, *gone, *route)

    @contextlib.contextmanager
    def swan_has(self, *addresses: str):
        """strongSwan's outside interface has these and no other, while the context lasts."""
        self.n2.sysctl("net.ipv4.conf.out0.promote_secondaries", 1)
        def set_to(wanted: tuple[str, ...]) -> None:
            shown = json.loads(self.n2.ip("-j", "-4", "address", "show", "dev", "out0", "scope", "global"))
            has = [one["local"] for link in shown for one in link.get("addr_info", []) if "local" in one]
            self.n2.ip_batch(*(f"address add {one}/24 dev out0" for one in wanted if one not in has),
                             *(f"address del {one}/24 dev out0" for one in has if one not in wanted))
        set_to(addresses)
        try:
            yield set_to
        finally:
            set_to((OUT4[2],))

    def dead(self, where, address: str):
        """Nothing arrives at this address of that gateway; how much has been lost by that."""
        return self.lost(where, f"ip daddr {address}")

    def serves(self, address: str) -> bool:
        return any(sa["local"] == address for sa in ike_sas(self.left))

    def fresh(self, mobike: bool = True, by: str = "postern", beside: tuple[str, ...] = (), **options) -> dict:
        """`beside`: other addresses that Postern has from the start."""
        self.lives_at(self.home)
        if beside:
            self.lives_at(self.home, *beside)  # the first one is the one that IKE goes by
        remote = ["%any"] if by == "postern" else [self.home]
        self.configure(ike="aes128-sha256-x25519", esp="aes128-sha256", mobike=mobike, local_id=self.home,
                       swan={"flow": self.flow, "family": self.family, "more": {"mobike": "yes", "remote_addrs": remote}}, **options)
        self.up(by, self.flow)
        return ike_sas(self.left)[0]

    def goes_on(self, before: dict, local: str, remote: str) -> None:
        """By the same IKE SA, between these, as strongSwan has it, too."""
        self.ping_both(self.flow)
        after = ike_sas(self.left)[0]
        assert (after["local_spi"], after["remote_spi"], after["local"], after["remote"]) == (
            before["local_spi"], before["remote_spi"], local, remote)
        assert [(sa["local-host"], sa["remote-host"]) for sa in self.peer.established()] == [(remote, local)]

    def theirs(self) -> list[tuple]:
        return [(sa["uniqueid"], sa["remote-host"], child["uniqueid"]) for sa in self.peer.established() for child in sa["child-sas"]]

    @contextlib.contextmanager
    def protected(self):
        found: list[ike_wire.Wire] = []
        with self.capture() as capture:
            yield found
            found.append(ike_wire.read(capture.frames(), (self.home, self.away, self.outer(2, self.family), SWAN_AWAY)))
        found[0].assert_nothing_clear()


@pytest.fixture(scope="module")
def world(module_scratch):
    with Roaming(module_scratch) as made:
        yield made
        made.lives_at(OUT4[1])


class Roaming6(Roaming):
    family = 6


@pytest.fixture(scope="module")
def world6(module_scratch):
    with Roaming6(module_scratch / "6") as made:
        yield made


@pytest.fixture(params=["world", pytest.param("world6", marks=pytest.mark.slow)], ids=["IPv4", "IPv6"])
def either(request):
    return request.getfixturevalue(request.param)


def test_our_address_changes_under_a_stream(either):
    """The same IKE SA at both ends, no new negotiation, and packets go on within a moment; and back again. (The child goes on too, until
    strongSwan rekeys it, as its userland ESP has it.)"""
    world, (home, away) = either, (either.home, either.away)
    before = world.fresh()
    assert before["mobike"] and before["local"] == home
    excess = settled_excess(world.left)
    for where in (away, home):
        with world.protected() as seen:
            stream = traffic.Stream(world.hA, world.hB, lab.host(2, world.flow), count=1000, rate=500, quiet=6)
            world.lives_at(where)
            wait_until(lambda: world.theirs()[0][1] == where, 10, "strongSwan follows")
            wait_until(lambda: world.ping(world.flow, 1) == 1, 10, "packets pass")
            sent, received = stream.finish()
            world.ping_both(world.flow)
        after = ike_sas(world.left)[0]
        assert (after["local_spi"], after["remote_spi"], after["local"]) == (before["local_spi"], before["remote_spi"], where)
        assert {message.exchange for message in seen[0].ike}.isdisjoint({SA_INIT, AUTH})
        assert not seen[0].repeated
        assert received["distinct"] > 0.8 * sent["sent"], "most of what was sent meanwhile has arrived"
    assert_balanced(world.left, since=excess)
    assert f"from {away} to {home}" in world.left.process.log()
    world.down()


def test_an_address_that_is_gone_for_a_moment(world):
    """As a lease that ends before the next one begins: the SAs wait for the grace, and move then."""
    before = world.fresh()
    with world.protected():
        world.lives_at(AWAY, gap=True)
        wait_until(lambda: world.theirs() and world.theirs()[0][1] == AWAY, 15, "strongSwan follows")
        wait_until(lambda: world.ping(count=1) == 1, 10, "packets pass")
        world.ping_both()
    assert ike_sas(world.left)[0]["local_spi"] == before["local_spi"]
    world.down()


@pytest.mark.parametrize("by", ("postern", "strongswan"))
def test_after_a_rekey_by_either_end(world, by):
    """RFC 4555 2: who began the first IKE SA moves, whoever rekeyed it."""
    world.fresh()
    if by == "postern":
        world.left.postern("crypto", "session", "rekey")
    else:
        world.peer.rekey(ike="net")
    wait_until(lambda: len(ike_sas(world.left)) == 1 and len(world.peer.established()) == 1, 10, "one is left")
    before = ike_sas(world.left)[0]
    world.lives_at(AWAY)
    wait_until(lambda: world.theirs() and world.theirs()[0][1] == AWAY, 10, "strongSwan follows")
    wait_until(lambda: world.ping(count=1) == 1, 10, "packets pass")
    assert ike_sas(world.left)[0]["local_spi"] == before["local_spi"]
    world.down()


def test_without_mobike_there_is_a_new_negotiation(world):
    before = world.fresh(mobike=False)
    with world.protected() as seen:
        world.lives_at(AWAY)
        wait_until(lambda: not world.serves(OUT4[1]), 10, "the old IKE SA is gone")
        wait_until(lambda: world.ping(count=1) == 1, 20, "packets pass")
    after = ike_sas(world.left)[0]
    assert after["local"] == AWAY and after["local_spi"] != before["local_spi"]
    assert SA_INIT in {message.exchange for message in seen[0].ike}
    world.down()


def passes(world) -> None:
    wait_until(lambda: world.ping(world.flow, 1) == 1, 15, "packets pass")


def no_new_negotiation(seen: list[ike_wire.Wire]) -> None:
    assert {message.exchange for message in seen[0].ike}.isdisjoint({SA_INIT, AUTH})
    assert not seen[0].repeated


def test_the_peers_other_addresses_are_known(world):
    """RFC 4555 3.4, 3.6: both ends tell in IKE_AUTH what they have, and when it changes."""
    with world.swan_has(OUT4[2], SWAN_AWAY) as swan_has:
        mark = world.peer.mark()
        world.fresh(beside=(AWAY,))
        assert SWAN_AWAY in ike_sas(world.left)[0]["other_addresses"]
        assert f"Remote additional addr: {SWAN_AWAY}" in world.left.postern("show", "crypto", "ikev2", "session", "detail").stdout
        world.peer.said(f"got additional MOBIKE peer address: {AWAY}", mark)
        swan_has((OUT4[2],))
        wait_until(lambda: SWAN_AWAY not in ike_sas(world.left)[0]["other_addresses"], 10, "strongSwan has told that it is gone")
        mark = world.peer.mark()
        world.lives_at(world.home)
        world.peer.said("got|parsed INFORMATIONAL request .*NO_ADD_ADDR", mark)
        world.lives_at(world.home, AWAY)
        world.peer.said(f"got additional MOBIKE peer address: {AWAY}", mark)
        world.ping_both()
    world.down()


def test_the_peers_address_is_dead_and_it_has_another(world):
    """RFC 4555 3.5: a request that is not answered goes to the peer's next address, and the SAs with it."""
    with world.swan_has(OUT4[2], SWAN_AWAY):
        before = world.fresh()
        with world.dead(world.n2, OUT4[2]), world.protected() as seen:
            world.left.postern("crypto", "session", "rekey")
            wait_until(lambda: ike_sas(world.left)[0]["remote"] == SWAN_AWAY, 20, "Postern tries the other one")
            passes(world)
            world.ping_both()
        no_new_negotiation(seen)
        assert len(ike_sas(world.left)) == 1 and ike_sas(world.left)[0]["remote"] == SWAN_AWAY
        assert len(world.peer.established()) == 1
        # The rekey that was under way was answered there.
        assert ike_sas(world.left)[0]["local_spi"] != before["local_spi"]
    world.down()


def test_the_peers_address_is_dead_and_it_has_no_other(world):
    before = world.fresh()
    assert SWAN_AWAY not in before["other_addresses"]
    with world.dead(world.n2, OUT4[2]) as lost, world.protected() as seen:
        world.left.postern("crypto", "session", "rekey")
        wait_until(lambda: lost() >= 5, 20, "it is asked again and again")
        assert ike_sas(world.left)[0]["remote"] == OUT4[2]
    assert {message.destination for message in seen[0].ike if message.exchange == CREATE_CHILD} == {OUT4[2]}
    world.down()


def test_the_peer_says_that_its_address_is_gone(world):
    """RFC 4555 3.5, 3.6: strongSwan, which answered, has another address now; who began follows."""
    with world.swan_has(OUT4[2], SWAN_AWAY) as swan_has:
        before = world.fresh()
        with world.protected() as seen:
            swan_has((SWAN_AWAY,))
            wait_until(lambda: ike_sas(world.left)[0]["remote"] == SWAN_AWAY, 15, "Postern follows")
            passes(world)
            world.goes_on(before, world.home, SWAN_AWAY)
        no_new_negotiation(seen)
    world.down()


def test_we_have_another_address_and_strongswan_goes_there(world):
    """RFC 4555 3.4: an initiator of another make finds the first one of ours dead, and moves to the one that it was told of."""
    before = world.fresh(by="strongswan", beside=(AWAY,))
    with world.protected() as seen:
        # No way to the first one any more, as when an uplink goes: strongSwan looks for another one at once.
        world.n2.ip_batch(f"route add {AWAY}/32 dev out0 src {OUT4[2]}", "route del 192.0.2.0/24 dev out0")
        try:
            wait_until(lambda: ike_sas(world.left)[0]["local"] == AWAY, 20, "strongSwan goes there")
            passes(world)
            world.goes_on(before, AWAY, OUT4[2])
        finally:
            world.n2.ip_batch(f"route add 192.0.2.0/24 dev out0 src {OUT4[2]}", f"route del {AWAY}/32 dev out0")
    no_new_negotiation(seen)
    world.down()


def test_our_address_changes_where_strongswan_began(world):
    """RFC 4555 3.5, 3.6: who answered says where it is now, and its packets come from there at once."""
    before = world.fresh(by="strongswan")
    with world.protected() as seen:
        world.lives_at(AWAY)
        wait_until(lambda: world.theirs() and world.theirs()[0][1] == AWAY, 15, "strongSwan follows")
        passes(world)
        world.goes_on(before, AWAY, OUT4[2])
    no_new_negotiation(seen)
    world.down()


def test_a_peer_that_moves_is_asked_whether_it_is_there(world):
    """RFC 4555 3.7: between strongSwan's update and the first ESP to its new place there are a request of ours and its answer."""
    with world.swan_has(OUT4[2], SWAN_AWAY) as swan_has:
        before = world.fresh(by="strongswan")
        with world.protected() as seen:
            swan_has((SWAN_AWAY,))
            passes(world)
            world.goes_on(before, world.home, SWAN_AWAY)
        there = [message for message in seen[0].ike if SWAN_AWAY in (message.source, message.destination)]
        asked = next(message for message in there if message.source == world.home and not message.response)
        answered = next(message for message in there if message.source == SWAN_AWAY and message.response and message.message_id == asked.message_id)
        assert asked.time < answered.time < seen[0].first_esp[SWAN_AWAY]
    world.down()
