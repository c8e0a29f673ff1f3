"""IF-03: a gateway with two uplinks, whose map has a local address of its own, and strongSwan as its peer. One IKE SA and one pair of
SAs for both uplinks; they go on while routes move from one to the other.

         N1 out0 192.0.2.1 ------ W ------ 192.0.2.2 out0 N2
    (203.0.113.1)                              (203.0.113.2)
         N1 out1 198.51.100.1 ---------- 198.51.100.2 out1 N2
"""
import contextlib

import pytest

import ike_wire
import lab
import traffic
from balance import assert_balanced
from capture import Capture
from ike_documents import children, ike_sas
from ike_pairs import SwanLab
from netns import wait_until

OWN, PEER = "203.0.113.1", "203.0.113.2"
WANS = {"out0": ("192.0.2.1", "192.0.2.2"), "out1": ("198.51.100.1", "198.51.100.2")}


class SharedMap(SwanLab):
    def __init__(self, scratch):
        super().__init__(scratch, start=False, flows=("map4",), own4=None)
        try:
            self.veth(self.n1, "out1", self.n2, "out1")
            self.n1.ip("address", "add", "198.51.100.1/24", "dev", "out1")
            self.n2.ip("address", "add", "198.51.100.2/24", "dev", "out1")
            self.n2.ip("address", "add", f"{PEER}/32", "dev", "lo")
            for metric, device in ((100, "out0"), (200, "out1")):
                self.routes(device, metric)
            self.answers_by("out0")
            self.peer.start()
            self.peer.load(self.connection(2))
        except BaseException:
            self.close()
            raise

    def routes(self, device: str, metric: int) -> None:
        """N1 has a route by each uplink; the kernel takes those of one that goes down."""
        for network in (f"{PEER}/32", "10.2.0.0/16"):
            self.n1.ip("route", "replace", network, "via", WANS[device][1], "dev", device, "metric", metric)
        self.n1.ip("route", "del", "10.2.0.0/16", "metric", 0, check=False)

    def answers_by(self, device: str) -> None:
        self.n2.ip("route", "replace", f"{OWN}/32", "via", WANS[device][0], "dev", device)

    def connection(self, side, name="net", flow="map4", family=4, **options):
        made = super().connection(side, name, flow, family, **{"local_id": PEER, "remote_id": OWN, **options})
        made.local, made.remote = PEER, [OWN]
        return made

    def document(self, **options) -> dict:
        made = super().document(**options)
        made["crypto_maps"][0].update(local_address="lo")
        made["crypto_maps"][0]["entries"][0]["peer"] = PEER
        made["interfaces"] += [{"name": "out1", "addresses": ["198.51.100.1/24"], "crypto_map": "M4"},
                               {"name": "lo", "addresses": [f"{OWN}/32"]}]
        return made

    @contextlib.contextmanager
    def watched(self):
        """What crosses either uplink while the context lasts: a Wire for each, empty until then."""
        self._captures += 1
        seen: dict[str, ike_wire.Wire] = {}
        with Capture(self.w, "w2", self.scratch / f"u{self._captures}-0.pcap") as first, \
                Capture(self.n2, "out1", self.scratch / f"u{self._captures}-1.pcap") as second:
            yield seen
            seen.update(out0=ike_wire.read(first.frames()), out1=ike_wire.read(second.frames()))

    def spis(self) -> set[str]:
        """Of all SAs that `show crypto ipsec sa` has; those of both interfaces are the same."""
        shown = self.left.show("crypto", "ipsec", "sa")["interfaces"]
        assert [(one["name"], one["local"]) for one in shown] == [("out0", OWN), ("out1", OWN)]
        of = [{sa["spi"] for flow in one["flows"] for sa in flow["sas"]} for one in shown]
        assert of[0] == of[1]
        return of[0]

    def sealed(self) -> int:
        return self.left.show("crypto", "ipsec", "sa")["interfaces"][0]["flows"][0]["counters"]["encaps"]


@pytest.fixture(scope="module")
def shared(module_scratch):
    with SharedMap(module_scratch) as made:
        made.left.start()
        yield made


def up(made) -> set[str]:
    traffic.ping_until(made.hA, lab.host(2, "map4"), 20, source=lab.host(1, "map4"))
    assert len(spis := made.spis()) == 2
    return spis


def identity_of(made) -> tuple:
    """Of what strongSwan has: IKE SA and child by its numbers."""
    sas = made.peer.established()
    assert len(sas) == 1 and sas[0]["remote-host"] == OWN and sas[0]["local-host"] == PEER, sas
    assert len(sas[0]["child-sas"]) == 1
    return sas[0]["uniqueid"], sas[0]["child-sas"][0]["uniqueid"], sas[0]["initiator-spi"]


def fail_over(made) -> None:
    """out0's link goes down: N1's routes by it are gone, those by out1 count. N2 is told as a routing protocol would."""
    made.n1.ip("link", "set", "out0", "down")
    made.answers_by("out1")


def fail_back(made) -> None:
    made.n1.ip("link", "set", "out0", "up")
    made.routes("out0", 100)
    made.answers_by("out0")


def test_two_interfaces_share_one_pair_of_sas(shared):
    up(shared)
    assert len(ike_sas(shared.left)) == 1 and len(children(shared.left)) == 1
    identity_of(shared)
    text = shared.left.postern("show", "crypto", "ipsec", "sa").stdout
    for name in ("out0", "out1"):
        assert f"interface: {name}\n    Crypto map tag: M4, local addr {OWN}\n" in text
    assert text.count(f"local crypto endpt.: {OWN}, remote crypto endpt.: {PEER}") == 2
    maps = shared.left.postern("show", "crypto", "map").stdout
    assert f'Crypto Map: "M4" idb: lo local address: {OWN}\n' in maps and "  out0\n  out1\n" in maps
    assert "Interface: out0 out1\n" in shared.left.postern("show", "crypto", "session").stdout
    session = shared.left.show("crypto", "session", "interface", "out1")["sessions"]
    assert len(session) == 1 and session[0]["status"] == "UP-ACTIVE"


def test_the_same_sas_go_on_by_the_other_uplink(shared):
    """The link in use fails, and comes back: the SPIs on the wire and in show stay, nobody negotiates, nothing is in clear, packets balance."""
    spis = up(shared)
    before, numbers = identity_of(shared), {int(spi, 16) for spi in spis}
    with shared.watched() as seen:
        shared.ping_both(count=5)
    assert seen["out0"].spis() == numbers and not seen["out1"].esp
    with shared.watched() as seen:
        fail_over(shared)
        traffic.ping_until(shared.hA, lab.host(2, "map4"), 10, source=lab.host(1, "map4"))
        shared.ping_both(count=10)
        assert shared.spis() == spis and identity_of(shared) == before
    assert seen["out1"].spis() == numbers and len(seen["out1"].esp) >= 40
    assert {(one[0], one[1]) for one in seen["out1"].esp} == {(OWN, PEER), (PEER, OWN)}
    with shared.watched() as back:
        fail_back(shared)
        traffic.ping_until(shared.hA, lab.host(2, "map4"), 10, source=lab.host(1, "map4"))
        wait_until(lambda: shared.spis() == spis, 3, "the same SPIs")
        shared.ping_both(count=10)
    assert back["out0"].spis() == numbers and identity_of(shared) == before
    for wire in (*seen.values(), *back.values()):
        assert not wire.ike, "nobody negotiated"
        wire.assert_protected(0)
    assert_balanced(shared.left)


def test_a_stream_over_a_failing_link(shared):
    """Under load in both directions: one SA pair, and what is lost is what was under way while the routes changed."""
    spis = up(shared)
    with shared.watched() as seen:
        out = traffic.Stream(shared.hA, shared.hB, lab.host(2, "map4"), count=6000, rate=1500, quiet=3)
        back = traffic.Stream(shared.hB, shared.hA, lab.host(1, "map4"), count=6000, rate=1500, quiet=3, port=9001)
        begun = shared.sealed()
        wait_until(lambda: shared.sealed() > begun + 500, 10, "the streams run")
        fail_over(shared)
        (sent, received), (sent_back, received_back) = out.finish(), back.finish()
    assert received["distinct"] > 0.8 * sent["sent"] and received_back["distinct"] > 0.8 * sent_back["sent"], (received, received_back)
    assert seen["out1"].spis() == {int(spi, 16) for spi in spis} and len(seen["out1"].esp) > 1000
    for wire in seen.values():
        wire.assert_nothing_clear()
        assert not wire.ike
    fail_back(shared)
    up(shared)
    assert_balanced(shared.left)


def test_fragments_arrive_where_they_came_by(shared):
    """What the kernel reassembles has its interface too: strongSwan's kernel cuts what it has sealed."""
    up(shared)
    for move in (fail_over, fail_back):
        move(shared)
        traffic.ping_until(shared.hA, lab.host(2, "map4"), 10, source=lab.host(1, "map4"))
        assert shared.ping("map4", 3, back=True, size=1460) == 3
    assert_balanced(shared.left)


def test_a_rekey_by_the_other_uplink(shared):
    """Both ends rekey while only the second uplink works: the new pair is shared as well."""
    spis = up(shared)
    fail_over(shared)
    traffic.ping_until(shared.hA, lab.host(2, "map4"), 10, source=lab.host(1, "map4"))
    shared.peer.rekey(child="c")
    wait_until(lambda: len(shared.spis()) == 2 and not shared.spis() & spis, 8, "new SAs")
    fail_back(shared)
    traffic.ping_until(shared.hA, lab.host(2, "map4"), 10, source=lab.host(1, "map4"))
    shared.ping_both(count=3)
    assert len(shared.peer.established()) == 1


def test_one_clear_is_of_all_interfaces(shared):
    """By either interface the shared SAs are meant."""
    spis = up(shared)
    shared.left.postern("clear", "crypto", "sa", "interface", "out1")
    assert not up(shared) & spis


def test_refused(shared):
    """The document says what the address is of, and of one VRF."""
    def problems(change) -> str:
        document = shared.document()
        change(document)
        return shared.left.apply(document, check=False).stderr

    assert "/crypto_maps/0/local_address: \"lo7\" is no interface of this document" in problems(
        lambda made: made["crypto_maps"][0].update(local_address="lo7"))
    assert "/crypto_maps/0/local_address: in0 has no IPv4 address" in problems(
        lambda made: (made["crypto_maps"][0].update(local_address="in0"), made["interfaces"][1].update(addresses=["2001:db8:1::1/64"])))
    assert "which is in another VRF" in problems(
        lambda made: (made.update(vrfs=[{"name": "red", "table": 77}]), made["interfaces"][-1].update(vrf="red")))
    assert len(shared.spis()) == 2, "what was in force still is"
