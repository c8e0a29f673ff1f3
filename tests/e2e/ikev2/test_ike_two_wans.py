"""A gateway with two ways to its peer, strongSwan, whose address is on neither of them: IF-02 and IF-04.

    N1 out0 192.0.2.1 ---- W ---- 192.0.2.2 out0 N2 (203.0.113.2)
    N1 out1 198.51.100.1 ------------ 198.51.100.2 out1 N2
"""
import copy

import pytest

import lab
import traffic
from ike_documents import ike_sas
from ike_pairs import SwanLab
from netns import wait_until

PEER, NAME = "203.0.113.2", "n1.example"
WANS = {"out0": ("192.0.2.1", "192.0.2.2"), "out1": ("198.51.100.1", "198.51.100.2")}


class TwoWans(SwanLab):
    def __init__(self, scratch):
        super().__init__(scratch, start=False, flows=("map4",), local_id=NAME)
        try:
            self.veth(self.n1, "out1", self.n2, "out1")
            self.n1.ip("address", "add", "198.51.100.1/24", "dev", "out1")
            self.n2.ip("address", "add", "198.51.100.2/24", "dev", "out1")
            self.n2.ip("address", "add", f"{PEER}/32", "dev", "lo")
            self.way("out0")
            self.peer.start()
            self.peer.load(self.connection(2, local_id=PEER))
        except BaseException:
            self.close()
            raise

    def connection(self, side, name="net", flow="map4", family=4, **options):
        made = super().connection(side, name, flow, family, **{"remote_id": NAME, "more": {"unique": "never"}, **options})
        made.local, made.remote = PEER, [near for near, _ in WANS.values()]
        return made

    def way(self, device: str) -> None:
        """The routes of both gateways to each other's networks, by one of the two."""
        near, far = WANS[device]
        for network in (f"{PEER}/32", "10.2.0.0/16"):
            self.n1.ip("route", "replace", network, "via", far, "dev", device)

    def document(self, **options) -> dict:
        made = super().document(**options)
        made["crypto_maps"][0]["entries"][0]["peer"] = PEER
        made["interfaces"].append({"name": "out1", "addresses": ["198.51.100.1/24"]})
        return made

    def both(self) -> dict:
        made = copy.deepcopy(self.document())
        made["interfaces"][-1]["crypto_map"] = "M4"
        return made


@pytest.fixture(scope="module")
def wans(module_scratch):
    with TwoWans(module_scratch) as made:
        made.left.start()
        yield made


def warnings(done) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("%Warning") and "leaves by" in line]


def test_a_route_past_the_map_is_warned_of(wans):
    """IF-02: when the document is applied or compared, and in the log when the route changes under it; silent while the map is on the way."""
    wans.way("out0")
    document = wans.document()
    assert not warnings(wans.left.apply(document))
    wans.way("out1")
    said = warnings(wans.left.apply(document))
    assert len(said) == 2, said
    assert said[0].startswith(f"%Warning: /crypto_maps/0/entries/0/peer: the route to {PEER} leaves by out1, where crypto map M4 is not applied"), said
    assert said[1].startswith("%Warning: /acls/0/rules/0/destination: the route to 10.2.0.0/16 leaves by out1"), said
    assert not warnings(wans.left.apply(wans.both())), "the map is on both"
    wans.way("out0")
    wans.left.apply(document)

    def logged() -> int:
        return wans.left.process.log().count(f"the route to {PEER} leaves by out1")

    before = logged()
    wans.way("out1")
    wait_until(lambda: logged() == before + 1, 5, "the change of the route is in the log")
    wans.way("out0")


def blocks(wans) -> dict[str, dict]:
    """Of `show crypto ipsec sa`: interfaces whose flow has SAs."""
    return {one["name"]: one for one in wans.left.show("crypto", "ipsec", "sa")["interfaces"] if one["map"] == "M4" and one["flows"][0]["sas"]}


def test_a_map_on_two_interfaces_makes_sas_for_each(wans):
    """IF-04: without a local address of its own each interface has its SAs, from its own address; what is up on the other one stays."""
    wans.way("out0")
    wans.left.apply(wans.both())
    traffic.ping_until(wans.hA, lab.host(2, "map4"), 20)
    first = blocks(wans)
    assert set(first) == {"out0"} and first["out0"]["local"] == "192.0.2.1"
    wans.way("out1")
    traffic.ping_until(wans.hA, lab.host(2, "map4"), 20)
    now = blocks(wans)
    assert {name: one["local"] for name, one in now.items()} == {"out0": "192.0.2.1", "out1": "198.51.100.1"}
    spis = {name: {sa["spi"] for sa in one["flows"][0]["sas"]} for name, one in now.items()}
    assert len(spis["out0"]) == len(spis["out1"]) == 2 and not spis["out0"] & spis["out1"]
    assert spis["out0"] == {sa["spi"] for sa in first["out0"]["flows"][0]["sas"]}
    assert {sa["remote-host"] for sa in wans.peer.established()} == {"192.0.2.1", "198.51.100.1"} and len(ike_sas(wans.left)) == 2
    text = wans.left.postern("show", "crypto", "map", "tag", "M4").stdout
    assert "  out0\n" in text and "  out1\n" in text
