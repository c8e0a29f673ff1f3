"""What hides or stretches traffic on negotiated SAs: extended numbers that the peer cannot have, TFC padding, dummies."""
import time

import pytest

import documents
import lab
import traffic
from balance import assert_balanced
from ike_documents import children, gateway_document
from ike_pairs import PosternPair, SwanLab
from netns import wait_until

BOTH = pytest.mark.parametrize("by", ["postern", "strongswan"])


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch, flows=("map4",)) as made:
        yield made


def flow_of(node) -> dict:
    return next(flow for block in node.show("crypto", "ipsec", "sa")["interfaces"] for flow in block["flows"])


def counted(node, name: str) -> int:
    return flow_of(node)["counters"][name]


@BOTH
def test_extended_numbers_are_negotiated_away(world, by):
    """strongSwan's kernel-libipsec has none: both forms are offered, and the other one is chosen."""
    world.configure(esp="aes128gcm16", association={"extended_sequence_numbers": True})
    world.up(by)
    world.ping_both()
    assert children(world.left)[0]["esn"] is False
    assert {sa["extended_sequence"] for sa in flow_of(world.left)["sas"]} == {False}
    world.down()


@BOTH
def test_tfc_padding_makes_all_packets_alike(world, by):
    """RFC 4303 2.7: kernel-libipsec takes it, and cuts it off. A peer that refuses it: tests/ike/test_sa_installer.cpp."""
    world.configure(esp="aes128gcm16", association={"tfc_padding": "mtu"})
    with world.capture() as capture:
        world.up(by)
        world.ping_both()
        sent = [frame for frame in capture.frames() if frame.haslayer("UDP") and frame["IP"].src == lab.OUT4[1] and frame["UDP"].sport == 4500]
    sizes = [len(frame) for frame in sent if bytes(frame["UDP"].payload)[:4] != bytes(4)]
    assert len(sizes) >= 4 and min(sizes) > 1450 and len(set(sizes)) == 1, sizes
    world.down()


@BOTH
def test_dummies_do_not_trouble_the_peer(world, by):
    """R43-11, R43-12: at their rate within 5 %, beside the user's packets, in no counter of theirs."""
    world.configure(esp="aes128gcm16", association={"dummy": {"pps": 50}})
    world.up(by)
    wait_until(lambda: flow_of(world.left)["dummy_state"] == "Active", 5, "the first dummy packet")
    begun, first, user = time.monotonic(), counted(world.left, "dummy_sent"), counted(world.left, "encaps")
    world.ping_both()
    wait_until(lambda: time.monotonic() - begun >= 4, 6, "four seconds of them")
    last, ended = counted(world.left, "dummy_sent"), time.monotonic()
    assert (last - first) / (ended - begun) == pytest.approx(50, rel=0.05)
    assert counted(world.left, "encaps") - user == 4
    assert "Dummy packet: Active" in world.left.postern("show", "crypto", "ipsec", "sa").stdout
    assert world.left.postern("show", "crypto", "map", "ipsec", "sa").stdout.count("#send dummy packets") == 1
    world.ping_both()
    assert_balanced(world.left)
    world.down()
    wait_until(lambda: flow_of(world.left)["dummy_state"] is None, 5, "no SA, no dummy packets")


def test_none_without_being_asked_for(world):
    world.configure(esp="aes128gcm16")
    world.up("postern")
    world.ping_both()
    assert flow_of(world.left)["dummy_state"] is None and counted(world.left, "dummy_sent") == 0
    assert "ummy" not in world.left.postern("show", "crypto", "ipsec", "sa").stdout
    world.down()


def test_initializing_before_the_first(world):
    """R43-12: the state word right after the SA is up."""
    world.configure(esp="aes128gcm16", association={"dummy": {"seconds": 3600}})
    world.up("postern")
    assert flow_of(world.left)["dummy_state"] == "Initializing"
    assert "     Dummy packet: Initializing\n" in world.left.postern("show", "crypto", "ipsec", "sa").stdout
    world.down()


def test_between_two_nodes(module_scratch):
    """Extended numbers, TFC padding and dummies of both ends at once; each receiver counts and drops the other's dummies."""
    association = {"extended_sequence_numbers": True, "tfc_padding": "mtu", "dummy": {"pps": 100}}
    with PosternPair(module_scratch, esp="aes256gcm16", association=association) as pair:
        pair.ping_both()
        for node in (pair.left, pair.right):
            assert {sa["extended_sequence"] for sa in flow_of(node)["sas"]} == {True}
            wait_until(lambda: counted(node, "dummy_recv") >= 20 and counted(node, "dummy_sent") >= 20, 10, "dummies both ways")
            assert counted(node, "recv_errors") == 0
        pair.ping_both()
        assert_balanced(pair.left, pair.right)


@pytest.mark.slow
def test_one_setting_for_all(module_scratch):
    """R43-13, R43-19: the global setting is for the SAs of every map and profile, of both families; idle ones have sent two after 30 s."""
    flows = ("map4", "map6", "tunnel4", "tunnel6")
    with PosternPair(module_scratch, flows=flows, start=False) as pair:
        for node, side in ((pair.right, 2), (pair.left, 1)):
            document = gateway_document(side, flows=flows)
            document["ipsec"]["security_association"] = {"dummy": {"seconds": 15}}
            documents.write(document, node.config)  # before the start: an SA that is up already keeps what it was made with
            node.start()
        begun = time.monotonic()
        for flow in flows:
            traffic.ping_until(pair.hA, lab.host(2, flow), source=lab.host(1, flow))

        def sent() -> list[int]:
            return [flow["counters"]["dummy_sent"] for block in pair.left.show("crypto", "ipsec", "sa")["interfaces"] for flow in block["flows"]]

        assert len(sent()) == len(flows) and max(sent()) <= 1
        wait_until(lambda: min(sent()) >= 2, 45, "two dummies of each")
        assert time.monotonic() - begun >= 28 and max(sent()) <= 3
        assert_balanced(pair.left, pair.right)
