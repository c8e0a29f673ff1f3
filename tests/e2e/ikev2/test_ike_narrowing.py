"""RFC 7296 2.9: peers that take pairs of hosts alone (SINGLE_PAIR_REQUIRED), or parts in SAs of their own (ADDITIONAL_TS_POSSIBLE). What
strongSwan never says is said by a peer made of the RFC (ike_script.py); what the node says is said to strongSwan."""
from collections import Counter

import pytest
from scapy.layers.inet import IP

import ike_script
import lab
import traffic
from ike_documents import children, diagnosis, gateway_document, ike_sas, wait_up
from ike_lab import PSK, IkeLab
from ike_pairs import SwanLab
from ike_script import ADDITIONAL_TS_POSSIBLE, SINGLE_PAIR_REQUIRED, TSI, TSR, ScriptedResponder, notify, ranges_of, selectors
from lab import OUT4
from netns import wait_until

SUITE = {"ike": "aes128-sha256-x25519", "esp": "aes128gcm16"}
NEAR, FAR = ("10.1.0.0", "10.1.255.255"), ("10.2.0.0", "10.2.255.255")


@pytest.fixture
def scripted(tmp_path):
    with IkeLab(tmp_path) as made:
        made.left = made.node(1, gateway_document(1, flows=("map4",), **SUITE))
        made.left.start()
        yield made


def idents(node) -> set[tuple[str, str]]:
    return {(child["local_ts"][0]["text"], child["remote_ts"][0]["text"]) for child in children(node)}


def sent(capture) -> Counter:
    """Packets of each ESP SA by its SPI; nothing else may have left for the other side."""
    packets = [frame[IP] for frame in capture.frames() if IP in frame]
    assert {end for packet in packets for end in (packet.src, packet.dst)} <= {OUT4[1], OUT4[2]}, "nothing in clear"
    return Counter(int.from_bytes(bytes(packet.payload)[:4], "big") for packet in packets if packet.proto == 50)


def asked(said) -> tuple[list, list]:
    return ranges_of(ike_script.body(said, TSI)), ranges_of(ike_script.body(said, TSR))


def test_a_peer_of_single_pairs_is_asked_for_the_packets_own(scripted):
    with ScriptedResponder(scripted.n2, OUT4[2], PSK) as peer, scripted.capture() as capture:
        scripted.ping("map4", 1, wait=0.2)
        peer.answer_init()
        assert asked(peer.answer_auth([notify(SINGLE_PAIR_REQUIRED)], child=False)) == ([NEAR], [FAR])
        near, far = asked(peer.answer_child())
        assert [first for first, last in near + far if first == last] == [lab.host(1, "map4"), lab.host(2, "map4")]
        wait_until(lambda: len(children(scripted.left)) == 1, 3, "the pair's SA")
        assert idents(scripted.left) == {(f"{near[0][0]}/32", f"{far[0][0]}/32")}
        assert [one["failure"] for one in diagnosis(scripted.left)] == ["pairs_required"]
        scripted.ping("map4", 2, wait=0.2)  # it has no data plane, but packets leave
        traffic.ping(scripted.hA, "10.2.0.77", 1, wait=0.2)  # another pair
        near, far = asked(peer.answer_child())
        assert far == [("10.2.0.77", "10.2.0.77")]
        wait_until(lambda: len(children(scripted.left)) == 2, 3, "the second pair's SA")
        assert len(ike_sas(scripted.left)) == 1
        out = {child["remote_ts"][0]["text"]: int(child["esp_spi_out"], 16) for child in children(scripted.left)}
    assert sent(capture)[out[f"{lab.host(2, 'map4')}/32"]] >= 2


def test_what_is_left_is_asked_for(scripted):
    """The peer takes its lower half; the upper one is asked for, and packets of each half go into its own SA."""
    half = selectors(("10.2.0.0", "10.2.127.255"))
    with ScriptedResponder(scripted.n2, OUT4[2], PSK) as peer:
        scripted.ping("map4", 1, wait=0.2)
        peer.answer_init()
        peer.answer_auth([notify(ADDITIONAL_TS_POSSIBLE)], tsr=half)
        assert asked(peer.answer_child()) == ([NEAR], [("10.2.128.0", "10.2.255.255")])
        wait_until(lambda: len(children(scripted.left)) == 2, 3, "both halves")
        out = {child["remote_ts"][0]["text"]: int(child["esp_spi_out"], 16) for child in children(scripted.left)}
        assert set(out) == {"10.2.0.0/17", "10.2.128.0/17"}
        with scripted.capture("esp") as capture:
            traffic.ping(scripted.hA, "10.2.200.1", 3, wait=0.2)
            scripted.ping("map4", 2, wait=0.2)
        assert sent(capture) == {out["10.2.128.0/17"]: 3, out["10.2.0.0/17"]: 2}
        assert peer.silent(1), "and nothing more is asked for"


def test_without_the_notify_nothing_more_is_asked_for(scripted):
    half = selectors(("10.2.0.0", "10.2.127.255"))
    with ScriptedResponder(scripted.n2, OUT4[2], PSK) as peer:
        scripted.ping("map4", 1, wait=0.2)
        peer.answer_init()
        peer.answer_auth(tsr=half)
        wait_up(scripted.left)
        assert peer.silent(2)
        assert len(children(scripted.left)) == 1


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch, flows=("map4",)) as made:
        yield made


def per_host(world, only: bool) -> None:
    made = world.document(**SUITE)
    made["crypto_maps"][0]["entries"][0] |= {"per_host_limit": 8, **({"per_host_only": True} if only else {})}
    world.left.apply(made)


@pytest.mark.parametrize("only", (True, False))
def test_an_entry_of_pairs_alone_says_so_to_strongswan(world, only):
    world.configure(**SUITE)
    per_host(world, only)
    mark = world.peer.mark()
    assert world.peer.initiate("net", check=False) is not only
    if only:
        world.peer.said("SINGLE_PAIR_REQUIRED|SINGLE_PAIR|N\\(SINGLE_PAIR\\)", mark)
        assert not children(world.left)
        (why,) = [one for one in diagnosis(world.left) if one["failure"] == "selectors"]
        assert "more than one pair" in why["summary"]
    else:
        assert len(children(world.left)) == 1
    world.down()
