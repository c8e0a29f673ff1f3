"""Fragments and policies with ports: which SA takes them, what passes in clear, what could deceive (RFC 4301 §7, RFC 1858)."""
import pytest
from scapy.layers.inet import IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, PadN, fragment6
from scapy.packet import Raw

import documents
import lab
from peer import ScapyLab

PORT = 5000


@pytest.fixture(scope="module")
def world(module_scratch):
    """Port 5000 of the far hosts is protected, by manual keys; everything else between them is not."""
    flows = lab.fresh_flows()
    document = lab.gateway_document(1, flows)
    document["acls"] = [documents.permit("101", "10.1.0.0/16", "10.2.0.0/16", "udp", destination_ports=f"eq {PORT}"),
                        documents.permit("V6", "2001:db8:1::/64", "2001:db8:2::/64", "udp", destination_ports=f"eq {PORT}")]
    with ScapyLab(module_scratch, document, flows) as made:
        yield made


@pytest.fixture(autouse=True)
def balance(world):
    with world.balancing():
        yield


def datagram(world, flow: str, towards_host: bool, payload: bytes, port: int = PORT, **header):
    """To or from the far host's port; `flow` is map4 or map6."""
    near, far = lab.host(1, flow), lab.host(2, flow)
    layer = IP if flow.endswith("4") else IPv6
    ends = dict(src=far, dst=near) if towards_host else dict(src=near, dst=far)
    ports = UDP(sport=port, dport=1024) if towards_host else UDP(sport=1024, dport=port)
    return layer(**ends, **header) / ports / Raw(payload)


def pieces_of(flow: str, whole, identification: int) -> list:
    if flow.endswith("4"):
        whole[IP].id = identification
        return fragment(whole, fragsize=400)
    ip, rest = whole[IPv6], whole[IPv6].payload
    return fragment6(IPv6(src=ip.src, dst=ip.dst) / IPv6ExtHdrFragment(id=identification) / rest, 460)


@pytest.mark.parametrize("flow", ["map4", "map6"])
def test_a_manual_pair_carries_the_fragments_of_its_ports(world, flow):
    """There is no second pair; both ends were given the same keys by hand."""
    payload = world.mark() * 50
    for number, piece in enumerate(pieces_of(flow, datagram(world, flow, False, payload), 11)):
        opened = world.protected(piece, flow)
        assert len(opened) == 1, f"fragment {number} was not protected"
    for piece in pieces_of(flow, datagram(world, flow, True, payload), 12):
        inner = bytes(piece)[-40:]
        assert world.delivered(world.seal(flow, piece), inner) is not None


@pytest.mark.parametrize("flow", ["map4", "map6"])
def test_clear_fragments_follow_a_first_one_that_passed(world, flow):
    """R43-08, both ways in: of a bypassed packet, and of one that nobody has seen the beginning of."""
    payload = world.mark() * 50
    first, *later = pieces_of(flow, datagram(world, flow, True, payload, port=6000), 21)
    tail = bytes(later[0])[-40:]
    world.refused(later[0], "fragment_unknown", tail)
    assert world.delivered(first, bytes(first)[-40:]) is not None
    for piece in later:
        assert world.delivered(piece, bytes(piece)[-40:]) is not None
    # Of a protected packet nothing passes, and the first one opens nothing.
    first, *later = pieces_of(flow, datagram(world, flow, True, payload), 22)
    world.refused(first, "clear_text", bytes(first)[-40:])
    world.refused(later[0], "fragment_unknown", bytes(later[0])[-40:])


@pytest.mark.parametrize("flow", ["map4", "map6"])
def test_overlapping_clear_fragments_are_dropped(world, flow):
    payload = world.mark() * 50
    first, second, *_ = pieces_of(flow, datagram(world, flow, True, payload, port=6000), 31)
    assert world.delivered(first, bytes(first)[-40:]) is not None
    if flow.endswith("4"):
        second[IP].frag -= 1
        del second[IP].chksum
    else:
        second[IPv6ExtHdrFragment].offset -= 1
    world.refused(second, "fragment_overlap", bytes(second)[-40:])


def test_fragments_leave_in_clear_behind_their_first_one_alone(world):
    payload = world.mark() * 50
    first, *later = pieces_of("map4", datagram(world, "map4", False, payload, port=6000), 41)
    assert len(world.protected(later[0], "map4")) == 1, "what cannot be told apart is protected"
    assert world.on_wire(first, lambda one: bytes(first)[-40:] in bytes(one)) is not None
    for piece in later:
        assert world.on_wire(piece, lambda one: bytes(piece)[-40:] in bytes(one)) is not None


CHAIN = [IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)])] + [IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)]) for _ in range(9)]


def chained(world, payload: bytes, count: int):
    packet = IPv6(src=lab.host(2, "map6"), dst=lab.host(1, "map6"))
    for header in CHAIN[:count]:
        packet /= header.copy()
    return packet / UDP(sport=PORT, dport=1024) / Raw(payload)


def test_extension_headers_at_and_over_the_limit(world):
    """Eight are walked, in clear by BPF and inside ESP by the worker; a ninth ends either way in a counted reason."""
    payload = world.mark()
    world.refused(chained(world, payload, 8), "clear_text", payload)
    world.refused(chained(world, payload, 9), "unparseable", payload)
    assert world.delivered(world.seal("map6", chained(world, payload, 8)), payload) is not None
    world.refused(world.seal("map6", chained(world, payload, 9)), "bad_inner", payload)


@pytest.mark.parametrize("sealed", [False, True])
def test_fragments_that_could_deceive(world, sealed):
    """RFC 1858, RFC 3128: inside ESP they end the same way."""
    payload = world.mark()
    ends = dict(src=lab.host(2, "map4"), dst=lab.host(1, "map4"))
    tiny = IP(**ends, id=51, flags="MF", proto=6) / Raw(bytes(TCP(sport=1, dport=2))[:16])
    overlapping = IP(**ends, id=51, frag=1, proto=6) / Raw(payload)
    tiny6 = IPv6(src=lab.host(2, "map6"), dst=lab.host(1, "map6")) / IPv6ExtHdrFragment(id=51, m=1, nh=6) / Raw(b"\0" * 16)
    overlapping6 = IPv6(src=lab.host(2, "map6"), dst=lab.host(1, "map6")) / IPv6ExtHdrFragment(id=51, offset=1, nh=6) / Raw(payload)
    for packet, flow, reason in ((tiny, "map4", "fragment_tiny"), (overlapping, "map4", "fragment_overlap"),
                                 (tiny6, "map6", "fragment_tiny"), (overlapping6, "map6", "fragment_overlap")):
        world.refused(world.seal(flow, packet) if sealed else packet, reason, payload)


def test_a_fragment_of_another_protocol_is_outside_the_selectors(world):
    payload = world.mark() * 3
    ends = dict(src=lab.host(2, "map4"), dst=lab.host(1, "map4"))
    world.refused(world.seal("map4", IP(**ends, id=61, frag=100, proto=6) / Raw(payload)), "fragment_selector", payload)
    world.refused(world.seal("map4", IP(**ends, id=61, flags="MF") / UDP(sport=6000, dport=1024) / Raw(payload)), "selector", payload)
