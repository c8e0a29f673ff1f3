"""Entries of a static crypto map against each other and against strongSwan: order, what is incomplete, the `profile` form, dummies."""
import pytest

import documents
import ike_wire
import lab
from balance import DropWatch
from ike_documents import children, gateway_document
from ike_lab import inside
from ike_pairs import SwanLab
from lab import OUT4
from netns import wait_until
from traffic import ping

NARROW = ("10.1.0.2/32", "10.2.0.1/32")  # N2's own address: strongSwan's userspace IPsec wants one in each selector
WIDE = (inside(1), inside(2))
BESIDE = (inside(1, "tunnel4"), inside(2, "tunnel4"))
ESP = {"T0": "aes128gcm16", "T1": "aes256-sha256"}


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch, flows=("map4",), esp=list(ESP.values())) as made:
        made.n1.ip("route", "replace", "10.4.0.0/16", "via", OUT4[2])
        yield made


def entry(document: dict, sequence: int, flows: list[tuple[str, str]], set_name: str | None = "T0", **more) -> dict:
    """Another entry of M4 to the same peer, whose list permits `flows`."""
    name = f"LIST{sequence}"
    document["acls"].append({"name": name, "rules": [{"action": "permit", "protocol": "ip", "source": near, "destination": far}
                                                    for near, far in flows]})
    made = {"sequence": sequence, "type": "ipsec-isakmp", "match_address": name, "peer": OUT4[2],
            **({"transform_sets": [set_name], "ikev2_profile": "PEER"} if set_name else {}), **more}
    document["crypto_maps"][0]["entries"].append(made)
    return made


def empty_map(**options) -> dict:
    document = gateway_document(1, flows=("map4",), esp=list(ESP.values()), **options)
    document["crypto_maps"][0]["entries"].clear()
    return document


def offer(flow: tuple[str, str], set_name: str = "T0") -> dict:
    """strongSwan's child for a flow of ours."""
    return {"local_ts": [flow[1]], "remote_ts": [flow[0]], "esp_proposals": [ESP[set_name]]}


def put(world, document: dict, offers: dict[str, dict]) -> str:
    """Both sides afresh; what the apply said beside its changes."""
    world.down()
    said = world.left.apply(document)
    world.peer.load(world.connection(2, children=offers))
    return said


def up(world) -> set[str]:
    """Entries with a child SA."""
    return {child["name"].split(" out0")[0] for child in children(world.left)}


@pytest.mark.parametrize("narrow, wide, first, second", [(10, 20, "M4 10", "M4 20"), (20, 10, "M4 10", "M4 10")],
                         ids=["narrow first", "wide first"])
def test_of_overlapping_entries_the_lower_sequence_counts(world, narrow, wide, first, second):
    """CM-01: whatever their order in the document; behind a wide entry the narrow one is never asked."""
    document = empty_map()
    entry(document, wide, [WIDE], "T1")
    entry(document, narrow, [NARROW], "T0")
    put(world, document, {"c": offer(NARROW, "T0"), "d": offer(WIDE, "T1")})
    assert ping(world.hA, "10.2.0.1", 1, source="10.1.0.2", wait=5) == 1
    assert up(world) == {first}
    assert world.ping("map4", 1, wait=5) == 1
    assert up(world) == {first, second}
    assert [one["seq"] for one in world.left.show("crypto", "map", "tag", "M4")["maps"][0]["entries"]] == [10, 20]


def test_a_peer_that_is_not_there_gets_ike_and_nothing_else(world):
    """CM-15: packets are dropped and counted; back again, the peer gets them sealed."""
    document = empty_map()
    entry(document, 10, [WIDE])
    put(world, document, {"c": offer(WIDE)})
    with world.lost(world.n2, "udp dport { 500, 4500 }") as lost, world.capture("src host 192.0.2.1 or net 10.0.0.0/8") as capture:
        with DropWatch(world.left, "no_outbound_sa", 2):
            assert world.ping("map4", 2, wait=2) == 0
        wire = ike_wire.read(capture.frames())
        wire.assert_nothing_clear()
        assert wire.ike and not wire.esp and lost() >= len(wire.ike)
    world.left.postern("clear", "crypto", "session")
    wait_until(lambda: world.ping("map4", 1, wait=1) == 1, 20, "the peer is found")
    assert up(world) == {"M4 10"}


@pytest.mark.parametrize("lacks", ["match_address", "peer", "transform_sets"])
def test_an_incomplete_entry_is_not_used(world, lacks):
    """CM-02: marked in `show`, warned of by the check, no policy; the entry behind it works. Complete, it protects."""
    document = empty_map()
    first = entry(document, 10, [BESIDE])
    entry(document, 20, [WIDE])
    kept = first.pop(lacks)
    path = documents.write(document, world.scratch / f"lacks-{lacks}.json")
    checked = world.left.postern("config", "check", path)
    assert "incomplete" in checked.stdout + checked.stderr and lacks in checked.stdout + checked.stderr
    put(world, document, {"c": offer(WIDE), "d": offer(BESIDE)})
    assert "WARNING: This crypto map is in an incomplete state!" in world.left.postern("show", "crypto", "map").stdout
    world.ping_both("map4")
    with world.capture(f"dst host {lab.host(2, 'tunnel4')}") as capture:
        world.ping("tunnel4", 1, wait=1)
        assert len(capture.frames()) == 1, "no policy: it leaves as any other packet"
    first[lacks] = kept
    put(world, document, {"c": offer(WIDE), "d": offer(BESIDE)})
    assert "incomplete" not in world.left.postern("show", "crypto", "map").stdout
    with world.capture("net 10.0.0.0/8") as capture:
        world.ping_both("tunnel4")
        assert not capture.frames()


def test_the_profile_form(world):
    """CM-25: sets, PFS and lifetimes are those of the IPsec profile; strongSwan, which offers the profile's set alone, agrees."""
    document = empty_map()
    document["ipsec"]["profiles"] = [{"name": "PR", "transform_sets": ["T1"], "ikev2_profile": "PEER",
                                      "security_association": {"lifetime_seconds": 1800}}]
    entry(document, 10, [WIDE], None, profile="PR")
    put(world, document, {"c": offer(WIDE, "T1")})
    assert world.ping("map4", 1, wait=5) == 1
    child = children(world.left)[0]
    assert child["keysize"] == 256 and child["life_s"] == 1800
    text = world.left.postern("show", "crypto", "map").stdout
    assert "Map is a PROFILE INSTANCE." in text and "Profile name: PR" in text, text
    put(world, document, {"c": offer(WIDE, "T0")})
    assert world.ping("map4", 1, wait=2) == 0, "the document's other set is not this entry's"
    document["crypto_maps"][0]["entries"][0]["transform_sets"] = ["T0"]
    refused = world.left.postern("config", "check", documents.write(document, world.scratch / "both.json"), check=False)
    assert refused.returncode != 0 and "/crypto_maps/0/entries/0/transform_sets" in refused.stdout + refused.stderr


def test_clear_of_one_entry_of_the_sad(world):
    """CM-23: named by the inbound SA as `show` prints it, and by the outbound one; its pair goes with it, no other does. What does not
    exist, or has another destination or protocol, is an error and clears nothing."""
    document = empty_map()
    entry(document, 10, [WIDE])
    entry(document, 20, [BESIDE])
    put(world, document, {"c": offer(WIDE), "d": offer(BESIDE)})

    def spis() -> dict[str, tuple[str, str]]:
        return {child["name"].split(" out0")[0]: (child["esp_spi_in"], child["esp_spi_out"]) for child in children(world.left)}

    for direction, destination in ((0, OUT4[1]), (1, OUT4[2])):
        assert world.ping("map4", 1, wait=5) == world.ping("tunnel4", 1, wait=5) == 1
        before = spis()
        spi = before["M4 20"][direction]
        for wrong in ((OUT4[2 - direction], "esp", spi), (destination, "ah", spi), (destination, "esp", "0x1")):
            assert world.left.postern("clear", "crypto", "sa", "entry", *wrong, check=False).returncode != 0
        assert spis() == before
        assert "1 SA pair cleared" in world.left.postern("clear", "crypto", "sa", "entry", destination, "esp", spi).stdout
        wait_until(lambda: set(spis()) == {"M4 10"} and len(world.peer.children()) == 1, 8, "that one is gone at both ends")
        assert spis()["M4 10"] == before["M4 10"]
        world.ping_both("tunnel4")
        assert spis()["M4 20"] != before["M4 20"] and spis()["M4 10"] == before["M4 10"]


def test_dummies_of_an_entry_are_for_all_its_flows(world):
    """CM-27: ESP without a user's packet on the SAs of both rules of the entry, and none on those of the next entry."""
    flows = [NARROW, BESIDE]
    other = ("10.1.0.3/32", "10.2.0.3/32")
    document = empty_map()
    entry(document, 10, flows, security_association={"dummy": {"seconds": 2}})
    entry(document, 20, [other])
    put(world, document, {"c": offer(flows[0]), "d": offer(flows[1]), "e": offer(other)})
    world.hA.ip("address", "replace", "10.1.0.3/16", "dev", "eth0")
    world.n2.ip("address", "replace", "10.2.0.3/32", "dev", "in0")
    assert world.ping("tunnel4", 1, wait=5) == 1
    for near, far in (("10.1.0.2", "10.2.0.1"), ("10.1.0.3", "10.2.0.3")):
        assert ping(world.hA, far, 1, source=near, wait=5) == 1
    spis = {child["esp_spi_out"]: child["name"].split(" out0")[0] for child in children(world.left)}
    assert sorted(spis.values()) == ["M4 10", "M4 10", "M4 20"]
    want = {int(spi, 16) for spi, name in spis.items() if name == "M4 10"}

    def sent(what: str = "dummy_sent") -> list[int]:
        """Dummies, or other packets, of each flow, fewest first."""
        return sorted(flow["counters"][what] for block in world.left.show("crypto", "ipsec", "sa")["interfaces"] for flow in block["flows"])

    before, users = sent(), sent("encaps")
    with world.capture("src host 192.0.2.1") as capture:
        wait_until(lambda: sum(sent()) >= sum(before) + 4 and sent()[1] > before[1], 12, "two turns of both")
        wire = ike_wire.read(capture.frames())
    assert wire.spis() == want and len(wire.esp) >= 4, "ESP of those SAs, and of no other"
    assert sent()[0] == 0
    assert sent("encaps") == users, "they are nobody's packets"
