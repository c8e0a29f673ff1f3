"""TS-58: several map entries with one peer, each with a transform set of its own, share one IKE SA. strongSwan has one connection with
two children."""
import pytest

import ike_wire
from balance import assert_balanced
from ike_documents import children, ike_sas, wait_down
from ike_lab import inside
from ike_pairs import SwanLab
from ike_wire import AUTH, CREATE_CHILD, SA_INIT
from lab import OUT4
from netns import wait_until

FLOWS = ("map4", "tunnel4")  # addresses alone: both are map entries here
ENTRIES = {"M4 10", "M4 20"}
SWAN = {"c": ("AES_GCM_16", "128", None), "d": ("AES_CBC", "256", "HMAC_SHA2_256_128")}


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch, flows=("map4",), esp="aes128gcm16", beside="aes256-sha256") as made:
        made.n1.ip("route", "replace", "10.4.0.0/16", "via", OUT4[2])
        made.deep_buffers()
        yield made


def configure(world) -> None:
    own = {name: {"local_ts": [inside(2, flow)], "remote_ts": [inside(1, flow)], "esp_proposals": [esp]}
           for name, flow, esp in (("c", "map4", "aes128gcm16"), ("d", "tunnel4", "aes256-sha256"))}
    world.configure(swan={"children": own})


def up(world, by: str) -> None:
    configure(world)
    for name, flow in zip(SWAN, FLOWS):
        if by == "strongswan":
            world.peer.initiate("net", name)
        else:
            assert world.ping(flow, 1, wait=5) == 1
    wait_until(lambda: len(children(world.left)) == 2 == len(world.peer.children()), 8, "two children")


def by_entry(world) -> dict[str, dict]:
    return {child["name"].rsplit(" out0", 1)[0]: child for child in children(world.left)}


@pytest.mark.parametrize("by", ["postern", "strongswan"])
def test_two_entries_are_two_children_of_one_ike_sa(world, by):
    with world.capture() as capture:
        up(world, by)
        for flow in FLOWS:
            world.ping_both(flow)
        wire = ike_wire.read(capture.frames())
    wire.assert_protected(16)
    assert [len(wire.exchanges(kind)) for kind in (SA_INIT, AUTH, CREATE_CHILD)] == [1, 1, 1]
    assert len(ike_sas(world.left)) == 1 == len(world.peer.established())
    ours = by_entry(world)
    assert set(ours) == ENTRIES
    assert len({child["encr"] for child in ours.values()}) == 2, "each by its own transform set"
    assert ours["M4 10"]["esp_hmac"] != ours["M4 20"]["esp_hmac"]
    assert ours["M4 20"]["keysize"] == 256 and ours["M4 10"]["keysize"] == 128
    theirs = {child["name"]: (child["encr-alg"], child["encr-keysize"], child.get("integ-alg")) for child in world.peer.children()}
    assert theirs == SWAN
    assert wire.spis() == {int(child[key], 16) for child in ours.values() for key in ("esp_spi_in", "esp_spi_out")}
    text = world.left.postern("show", "crypto", "session").stdout
    assert text.count("Peer: ") == 1 and text.count("IKEv2 SA: ") == 1 and text.count("IPSEC FLOW: ") == 2, text
    assert text.count("Active SAs: 2") == 2 and "UP-ACTIVE" in text, text
    assert_balanced(world.left)


@pytest.mark.alone
@pytest.mark.parametrize("by", ["postern", "strongswan"])
def test_deletion_of_one_child_leaves_the_other(world, by):
    """A stream in the other one loses nothing; the deleted one comes back with its next packet, in the same IKE SA."""
    up(world, "postern")
    before, sa = by_entry(world), world.peer.established()[0]["uniqueid"]
    stream = world.stream("map4", rate=5000)
    stream.more(1000)
    if by == "strongswan":
        world.peer.terminate(child="d")
    else:
        world.left.postern("clear", "crypto", "sa", "spi", before["M4 20"]["esp_spi_in"])
    wait_until(lambda: set(by_entry(world)) == {"M4 10"} and len(world.peer.children()) == 1, 8, "one child is left")
    stream.more(1000)
    assert by_entry(world)["M4 10"]["esp_spi_in"] == before["M4 10"]["esp_spi_in"]
    world.ping_both("tunnel4")
    got = stream.finish()
    assert got["lost"] == got["wrong"] == got["duplicate"] == 0, f"{got}; counted: {world.losses()}"
    assert by_entry(world)["M4 20"]["esp_spi_in"] != before["M4 20"]["esp_spi_in"]
    assert [one["uniqueid"] for one in world.peer.established()] == [sa]


def test_an_entry_that_leaves_the_document_takes_its_child_alone(world):
    up(world, "strongswan")
    before = by_entry(world)
    world.left.apply(world.document(beside=None))
    wait_until(lambda: set(by_entry(world)) == {"M4 10"} and len(world.peer.children()) == 1, 8, "the entry's child is gone")
    assert by_entry(world)["M4 10"]["esp_spi_in"] == before["M4 10"]["esp_spi_in"]
    world.ping_both("map4")
    world.left.apply(world.document())
    world.ping_both("tunnel4")
    assert len(ike_sas(world.left)) == 1


def test_a_flow_of_no_entry_is_refused_in_an_ike_sa_that_is_up(world):
    """CM-16: any entry of the peer may match, and nothing else; what is up stays up."""
    configure(world)
    wrong = {"c": {"esp_proposals": ["aes128gcm16"]},
             "x": {"local_ts": ["10.9.0.0/16"], "remote_ts": [inside(1, "map4")], "esp_proposals": ["aes128gcm16"]},
             "y": {"local_ts": [inside(2, "tunnel4")], "remote_ts": [inside(1, "tunnel4")], "esp_proposals": ["aes128gcm16"]}}
    world.peer.load(world.connection(2, children=wrong))
    world.peer.initiate("net", "c")
    for name in ("x", "y"):  # no such flow; the flow of the second entry by the transform set of the first
        assert not world.peer.initiate("net", name, check=False)
    assert set(by_entry(world)) == {"M4 10"} and len(ike_sas(world.left)) == 1
    world.ping_both("map4")
    world.down()
    wait_down(world.left)
