"""ESP in UDP (RFC 3948) with a scapy peer, and the cases where one side has it and the other has not."""
import random

import pytest
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.packet import Raw

import lab
from oracle import association, esp_bytes
from peer import QUIET, ScapyLab


@pytest.fixture(scope="module")
def world(module_scratch):
    """map4 and map6 are UDP-encapsulated, tunnel4 is not."""
    flows = lab.fresh_flows()
    document = lab.gateway_document(1, flows)
    for one in document["crypto_maps"]:
        one["entries"][0]["udp_encapsulation"] = {"local_port": 4500, "remote_port": 40123}
    with ScapyLab(module_scratch, document, flows) as made:
        yield made


@pytest.fixture(autouse=True)
def balanced(world):
    with world.balancing():
        yield


def encapsulated(world, flow: str, inner, sequence: int = 1, ports: tuple[int, int] = (40123, 4500)):
    # scapy's own encapsulation leaves a UDP length of 8 behind, so its ESP is wrapped here.
    esp = esp_bytes(association(world.pair(flow).to_left, lab.OUT4[2], lab.OUT4[1]).encrypt(inner, seq_num=sequence))
    whole = IP(src=lab.OUT4[2], dst=lab.OUT4[1], id=random.getrandbits(16)) / UDP(sport=ports[0], dport=ports[1], chksum=0) / Raw(esp)
    return IP(bytes(whole))


def test_both_ways(world):
    payload = world.mark()
    assert world.delivered(encapsulated(world, "map4", world.inner("map4", True, payload)), payload) is not None
    one = world.protected(world.inner("map4", False), "map4")[0]
    assert one.outer.proto == 17
    assert (one.outer[UDP].sport, one.outer[UDP].dport) == (4500, 40123)
    assert one.outer[UDP].chksum == 0, "RFC 3948 2.1: the checksum SHOULD be zero"
    assert one.outer[UDP].len == len(bytes(one.outer[UDP]))


def test_fragments_of_encapsulated_esp(world):
    payload = world.mark() + bytes(1300)
    pieces = fragment(IP(bytes(encapsulated(world, "map4", world.inner("map4", True, payload)))), fragsize=600)
    world.host.drain()
    for piece in pieces:
        world.peer.send(piece)
    assert len(pieces) > 1 and world.host.first(lambda one: payload in bytes(one)) is not None


def test_fragments_of_encapsulated_esp_over_ipv6(world):
    """RFC 8200 4.5: whole datagrams with a checksum, cut by the peer; and one whose pieces are not all there."""
    payload = world.mark() + bytes(1300)
    esp = esp_bytes(association(world.pair("map6").to_left, lab.OUT6[2], lab.OUT6[1]).encrypt(world.inner("map6", True, payload), seq_num=1))
    udp = bytes(IPv6(src=lab.OUT6[2], dst=lab.OUT6[1]) / UDP(sport=40123, dport=4500) / Raw(esp))[40:]
    cut = fragment6(IPv6(src=lab.OUT6[2], dst=lab.OUT6[1]) / IPv6ExtHdrFragment(id=random.getrandbits(32), nh=17) / Raw(udp), 700)
    world.host.drain()
    for piece in cut[1:]:
        world.peer.send(piece)
    assert world.host.first(lambda one: payload in bytes(one), QUIET) is None
    world.peer.send(cut[0])
    assert len(cut) > 1 and world.host.first(lambda one: payload in bytes(one)) is not None


def recv_errors(world) -> list[int]:
    return [flow["counters"]["recv_errors"] for one in world.node.show("crypto", "ipsec", "sa")["interfaces"] for flow in one["flows"]]


def test_the_other_form_is_refused(world):
    payload = world.mark()
    world.refused(world.seal("map4", world.inner("map4", True, payload)), "wrong_encapsulation", payload)
    world.refused(encapsulated(world, "tunnel4", world.inner("tunnel4", True, payload)), "wrong_encapsulation", payload)


def test_damage_inside_udp(world):
    payload = world.mark()
    broken = bytearray(bytes(encapsulated(world, "map4", world.inner("map4", True, payload))))
    broken[-1] ^= 1
    world.refused(IP(bytes(broken)), "bad_icv", payload)


def test_keepalive_and_ike_are_not_esp(world):
    """RFC 3948 2.2 and 2.3: one byte 0xFF, and the non-ESP marker of four zero bytes."""
    before = recv_errors(world)
    for data in (b"\xff", bytes(4) + b"an IKE message follows the marker"):
        world.peer.send(IP(src=lab.OUT4[2], dst=lab.OUT4[1]) / UDP(sport=40123, dport=4500) / Raw(data))
    assert world.host.first(lambda one: True, QUIET) is None
    payload = world.mark()
    assert world.delivered(encapsulated(world, "map4", world.inner("map4", True, payload), 5), payload) is not None
    assert recv_errors(world) == before, "no SA is blamed"


def test_runt_inside_udp(world):
    payload = world.mark()
    runt = IP(src=lab.OUT4[2], dst=lab.OUT4[1]) / UDP(sport=40123, dport=4500) / Raw(world.pair("map4").to_left.spi.to_bytes(4, "big") + bytes(8))
    world.refused(runt, "esp_runt", payload)
    assert esp_bytes(runt) is not None, "what was sent does claim to be ESP"
