"""MOBIKE by us (RFC 4555 3.5): Postern's own address changes, and its SAs with strongSwan go on at the new one."""
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
from ike_wire import AUTH, SA_INIT
from lab import OUT4, OUT6
from netns import wait_until

AWAY, AWAY6 = "192.0.2.21", "2001:db8:ff::21"


class Roaming(SwanLab):
    """Postern's outside interface has the addresses that somebody else gives it, as by DHCP. `family`: of the outer and the inner addresses."""
    family = 4

    def __init__(self, scratch):
        super().__init__(scratch, flows=(self.flow,))
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

    def serves(self, address: str) -> bool:
        return any(sa["local"] == address for sa in ike_sas(self.left))

    def fresh(self, mobike: bool = True, **options) -> dict:
        self.lives_at(self.home)
        self.configure(ike="aes128-sha256-x25519", esp="aes128-sha256", mobike=mobike, local_id=self.home,
                       swan={"flow": self.flow, "family": self.family, "more": {"mobike": "yes", "remote_addrs": ["%any"]}}, **options)
        self.up("postern", self.flow)
        return ike_sas(self.left)[0]

    def theirs(self) -> list[tuple]:
        return [(sa["uniqueid"], sa["remote-host"], child["uniqueid"]) for sa in self.peer.established() for child in sa["child-sas"]]

    @contextlib.contextmanager
    def protected(self):
        found: list[ike_wire.Wire] = []
        with self.capture() as capture:
            yield found
            found.append(ike_wire.read(capture.frames(), (self.home, self.away, self.outer(2, self.family))))
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
