"""One node against a scapy peer, towards the plain side: every good case beside the bad ones that resemble it."""
import random

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, PadN, fragment6
from scapy.layers.inet6 import IPv6ExtHdrFragment
from scapy.packet import Raw

import lab
from balance import DropWatch
from oracle import seal_bytes
from peer import QUIET, ScapyLab

FLOWS = ("map4", "map6", "tunnel4", "tunnel6")
SETS = [("esp-aes", "esp-sha256-hmac"), ("esp-aes 256", "esp-sha-hmac")]


@pytest.fixture(scope="module", params=SETS, ids=lambda s: " ".join(s))
def world(request, module_scratch):
    with ScapyLab(module_scratch / request.param[1], transforms=request.param) as made:
        yield made


@pytest.fixture(autouse=True)
def balanced(world):
    with world.balancing():
        yield


def carrier(world, flow: str, esp: bytes, **header):
    """`esp` in an outer header of the flow, from the peer to the node."""
    source, destination = world.outer_addresses(flow)
    if flow.endswith("4"):
        return IP(src=source, dst=destination, proto=50, **header) / Raw(esp)
    return IPv6(src=source, dst=destination, nh=50, **header) / Raw(esp)


def version_number(flow: str) -> int:
    return 4 if flow.endswith("4") else 41


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("size", [0, 1, 13, 14, 15, 16, 500, 1300])
def test_delivers(world, flow, size):
    payload = world.mark() + b"x" * size
    got = world.delivered(world.seal(flow, world.inner(flow, True, payload)), payload)
    assert got is not None
    assert bytes(got[UDP].payload) == payload
    assert (got.src, got.dst) == (lab.host(2, flow), lab.host(1, flow))


@pytest.mark.parametrize("flow", FLOWS)
def test_forwarding_takes_one_hop(world, flow):
    field = "ttl" if flow.endswith("4") else "hlim"
    payload = world.mark()
    got = world.delivered(world.seal(flow, world.inner(flow, True, payload, **{field: 33}), **{field: 7}), payload)
    assert got is not None and getattr(got, field) == 32, "RFC 4301 5.1.2.1: the inner TTL steps down once, by forwarding"


@pytest.mark.parametrize("flow", FLOWS)
def test_a_priority_tag_in_front_is_the_kernels_to_take_off(world, flow):
    """802.1Q, VLAN 0: the packet is of the device itself. That of a VLAN which nobody has here is nobody's."""
    kind = bytes.fromhex("0800" if flow.endswith("4") else "86dd")
    for tag, taken in ((0xa000, True), (0x0005, False)):
        payload = world.mark()
        world.host.drain()
        world.peer.send_bytes(tag.to_bytes(2, "big") + kind + bytes(world.seal(flow, world.inner(flow, True, payload))), 0x8100)
        assert (world.host.first(lambda one: payload in bytes(one), 5 if taken else QUIET) is not None) == taken


@pytest.mark.parametrize("flow", FLOWS)
def test_manual_sa_has_no_replay_window(world, flow):
    """MAN-10, TS-55: three copies of one packet are three packets; old numbers are welcome."""
    payload = world.mark()
    sealed = world.seal(flow, world.inner(flow, True, payload), sequence=700000)
    world.host.drain()
    for _ in range(3):
        world.peer.send(sealed)
    assert len(world.host.collect(lambda one: payload in bytes(one), 5, 3)) == 3
    late = world.mark()
    assert world.delivered(world.seal(flow, world.inner(flow, True, late), sequence=2), late) is not None


@pytest.mark.parametrize("flow", ("map4", "tunnel6"))
@pytest.mark.parametrize("part", ["sequence", "iv", "ciphertext", "icv first", "icv last"])
def test_refuses_damage(world, flow, part):
    """TS-56: whatever bit is flipped, nothing is delivered."""
    payload = world.mark()
    sealed = world.seal(flow, world.inner(flow, True, payload))
    esp = bytearray(world.sealed_bytes(flow, sealed))
    icv = {"esp-sha256-hmac": 16, "esp-sha-hmac": 12}[world.pair(flow).to_left.transforms[1]]
    esp[{"sequence": 5, "iv": 8, "ciphertext": 30, "icv first": len(esp) - icv, "icv last": len(esp) - 1}[part]] ^= 0x40
    world.refused(carrier(world, flow, bytes(esp)), "bad_icv", payload)
    again = world.mark()
    assert world.delivered(world.seal(flow, world.inner(flow, True, again)), again) is not None, "and the SA lives on"


@pytest.mark.parametrize("flow", ("map4", "tunnel6"))
def test_refuses_a_shortened_packet(world, flow):
    payload = world.mark()
    esp = world.sealed_bytes(flow, world.seal(flow, world.inner(flow, True, payload)))
    world.refused(carrier(world, flow, esp[:-16]), "bad_icv", payload)       # one block less: still well-formed
    world.refused(carrier(world, flow, esp[:-5]), "esp_unaligned", payload)  # not whole blocks
    world.refused(carrier(world, flow, esp[:20]), "esp_runt", payload)       # not even an IV and an ICV


def test_refuses_an_ip_length_beyond_the_frame(world):
    payload = world.mark()
    broken = bytearray(bytes(world.seal("map4", world.inner("map4", True, payload))))
    broken[2:4] = (len(broken) + 64).to_bytes(2, "big")
    packet = IP(bytes(broken))
    del packet.chksum
    whole = bytearray(bytes(packet))
    whole[2:4] = broken[2:4]
    world.host.drain()
    world.peer.send_bytes(bytes(whole[:10]) + checksum(bytes(whole[:20])) + bytes(whole[12:]))
    assert world.host.first(lambda one: payload in bytes(one), QUIET) is None


def checksum(header: bytes) -> bytes:
    """Of an IPv4 header whose checksum field counts as zero."""
    words = [int.from_bytes(header[i:i + 2], "big") for i in range(0, 20, 2) if i != 10]
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return (total ^ 0xFFFF).to_bytes(2, "big")


def test_accepts_long_padding_and_traffic_flow_padding(world):
    """RFC 4303 2.4: up to 255 bytes of padding, 1, 2, 3, ...; 2.7: bytes behind the inner packet are TFC padding."""
    for flow in FLOWS:
        payload = world.mark()
        clear = bytes(world.inner(flow, True, payload))
        pad = -(len(clear) + 2) % 16 + 16 * 12
        esp = seal_bytes(world.pair(flow).to_left, 9, clear, version_number(flow), bytes(range(1, pad + 1)))
        assert world.delivered(carrier(world, flow, esp), payload) is not None, f"{flow}: {pad} bytes of padding"
        esp = seal_bytes(world.pair(flow).to_left, 9, clear + bytes(75), version_number(flow))
        got = world.delivered(carrier(world, flow, esp), payload)
        assert got is not None and bytes(got[UDP].payload).rstrip(b"\0") == payload, f"{flow}: TFC padding"


@pytest.mark.parametrize("flow", ("map4", "tunnel6"))
def test_refuses_wrong_padding(world, flow):
    payload = world.mark()
    clear = bytes(world.inner(flow, True, payload))
    right = bytes(range(1, 1 + -(len(clear) + 2) % 16))
    right = right or bytes(range(1, 17))
    wrong = right[:-1] + bytes([right[-1] ^ 0xFF])
    sa = world.pair(flow).to_left
    world.refused(carrier(world, flow, seal_bytes(sa, 10, clear, version_number(flow), wrong)), "bad_padding", payload)
    world.refused(carrier(world, flow, seal_bytes(sa, 11, clear, version_number(flow), right, pad_length=255)), "bad_padding", payload)


def test_dummy_packets_end_silently(world):
    """RFC 4303 2.6: next header 59 is dropped and is no error."""
    payload = world.mark()
    world.refused(carrier(world, "map4", seal_bytes(world.pair("map4").to_left, 12, payload.ljust(30), 59)), "dummy", payload)


def test_refuses_other_next_headers(world):
    payload = world.mark()
    clear = bytes(world.inner("map4", True, payload))
    world.refused(carrier(world, "map4", seal_bytes(world.pair("map4").to_left, 13, clear[20:], 17)), "bad_next_header", payload)
    # The version inside must be what the next header says.
    world.refused(carrier(world, "map4", seal_bytes(world.pair("map4").to_left, 14, clear, 41)), "bad_inner", payload)


def test_refuses_a_broken_inner_packet(world):
    payload = world.mark()
    sa = world.pair("map4").to_left
    clear = bytes(world.inner("map4", True, payload))
    world.refused(carrier(world, "map4", seal_bytes(sa, 15, clear[:-4], 4)), "bad_inner", payload)  # its length says more
    world.refused(carrier(world, "map4", seal_bytes(sa, 16, clear[:12], 4)), "bad_inner", payload)
    world.refused(carrier(world, "map4", seal_bytes(sa, 17, b"\x41" + clear[1:], 4)), "bad_inner", payload)  # header of 4 bytes


@pytest.mark.parametrize("source,destination", [("10.9.9.9", "10.1.0.2"), ("10.2.0.2", "10.3.0.2"), ("192.0.2.2", "10.1.0.2")])
def test_refuses_what_the_selectors_exclude(world, source, destination):
    """RFC 4301 5.2 step 4: after decryption the packet must match the SA it came by."""
    payload = world.mark()
    inner = IP(src=source, dst=destination) / UDP(sport=1, dport=2) / Raw(payload)
    world.refused(world.seal("map4", inner), "selector", payload)


def test_sa_is_found_by_spi_and_destination(world):
    """TS-57. The keys of one SA do not open another; an SPI is nothing without its address."""
    payload = world.mark()
    esp = bytearray(world.sealed_bytes("map4", world.seal("map4", world.inner("map4", True, payload))))
    world.refused(carrier(world, "map4", (0xABCDEF01).to_bytes(4, "big") + bytes(esp[4:])), "no_sa", payload)
    world.refused(carrier(world, "map4", world.pair("tunnel4").to_left.spi.to_bytes(4, "big") + bytes(esp[4:])), "bad_icv", payload)
    world.refused(carrier(world, "map6", bytes(esp)), "no_sa", payload)


def test_transit_esp_is_none_of_ours(world):
    """Design 4.7: ESP to someone else is forwarded; it is protected or dropped only by policy."""
    payload = world.mark()
    foreign = IP(src="198.51.100.7", dst="10.1.0.2", proto=50) / Raw(bytes.fromhex("0000100100000001") + payload)
    assert world.delivered(foreign, payload) is not None
    payload = world.mark()
    ours = IP(src="10.2.0.2", dst="10.1.0.2", proto=50) / Raw(bytes.fromhex("0000100100000001") + payload)
    world.refused(ours, "clear_text", payload)  # ESP inside the protected flow is clear text like anything else


@pytest.mark.parametrize("flow", ("map4", "tunnel4", "map6", "tunnel6"))
def test_fragmented_esp_is_reassembled(world, flow):
    """RFC 4303 3.4.1: reassembly comes before ESP."""
    payload = world.mark() + bytes(range(256)) * 5
    sealed = world.seal(flow, world.inner(flow, True, payload))
    identity = random.getrandbits(16)  # of its own: fragments that stay behind below must not meet the next test's
    if flow.endswith("4"):
        whole = IP(bytes(sealed))
        whole.id = identity
        pieces = fragment(whole, fragsize=600)
    else:
        esp = world.sealed_bytes(flow, sealed)
        source, destination = world.outer_addresses(flow)
        pieces = fragment6(IPv6(src=source, dst=destination, nh=44) / IPv6ExtHdrFragment(id=identity, nh=50) / Raw(esp), 700)
    assert len(pieces) > 1
    world.host.drain()
    for piece in pieces:
        world.peer.send(piece)
    assert world.host.first(lambda one: payload in bytes(one), 5) is not None
    for piece in pieces[1:]:  # without its first fragment nothing comes, and nothing breaks
        world.peer.send(piece)
    assert world.host.first(lambda one: payload in bytes(one), QUIET) is None


def test_outer_options_and_extension_headers(world):
    payload = world.mark()
    esp = world.sealed_bytes("map4", world.seal("map4", world.inner("map4", True, payload)))
    assert world.delivered(carrier(world, "map4", esp, options=[IPOption_NOP()] * 4), payload) is not None
    source, destination = world.outer_addresses("map6")
    for extension in (IPv6ExtHdrHopByHop, IPv6ExtHdrDestOpt):
        payload = world.mark()
        esp = world.sealed_bytes("map6", world.seal("map6", world.inner("map6", True, payload)))
        packet = IPv6(src=source, dst=destination) / extension(nh=50, options=[PadN(optdata=bytes(4))]) / Raw(esp)
        assert world.delivered(packet, payload) is not None, extension.__name__


def test_inner_extension_headers_fragments_and_other_protocols(world):
    """Network layer policy covers every protocol, and fragments without ports."""
    payload = world.mark()
    whole = IP(src=lab.host(2, "map4"), dst=lab.host(1, "map4"), id=99) / UDP(sport=5, dport=6) / Raw(payload * 30)
    for piece in fragment(whole, fragsize=304):
        wanted = bytes(piece.payload)
        assert world.delivered(world.seal("map4", piece), wanted) is not None
    six = IPv6(src=lab.host(2, "map6"), dst=lab.host(1, "map6")) / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(4))]) / UDP() / Raw(payload)
    assert world.delivered(world.seal("map6", six), payload) is not None
    for layer in (ICMP(), TCP(sport=1, dport=2, flags="S")):
        payload = world.mark()
        assert world.delivered(world.seal("map4", IP(src=lab.host(2, "map4"), dst=lab.host(1, "map4")) / layer / Raw(payload)), payload)


# RFC 6040 4.2: rows inner, columns outer; 0 not-ECT, 1 ECT(1), 2 ECT(0), 3 CE; None is a drop.
@pytest.mark.parametrize("inner,outer,expected", [
    (0, 0, 0), (0, 2, 0), (0, 1, 0), (0, 3, None),
    (2, 0, 2), (2, 2, 2), (2, 1, 1), (2, 3, 3),
    (1, 0, 1), (1, 2, 1), (1, 1, 1), (1, 3, 3),
    (3, 0, 3), (3, 2, 3), (3, 1, 3), (3, 3, 3)])
@pytest.mark.parametrize("flow", ("map4", "tunnel6"))
def test_ecn_of_the_outer_header(world, flow, inner, outer, expected):
    field = "tos" if flow.endswith("4") else "tc"
    payload = world.mark()
    packet = world.seal(flow, world.inner(flow, True, payload, **{field: 0x28 << 2 | inner}), **{field: 0x08 << 2 | outer})
    if expected is None:
        world.refused(packet, "ecn_invalid", payload)
        return
    got = world.delivered(packet, payload)
    assert got is not None
    assert getattr(got, field) == 0x28 << 2 | expected, "ECN as in the table, the inner DSCP untouched"


def test_garbage_changes_nothing(world):
    """Bytes nobody would send; then the flow still works."""
    with DropWatch(world.node, "no_sa", 3):
        for esp in (b"\xff" * 80, bytes.fromhex("00000000") + bytes(76), bytes.fromhex("000000ff") + bytes(76)):
            world.peer.send(carrier(world, "map4", esp))
    for data in (b"", b"\x45", b"\x4f" + bytes(19), b"\x60" + bytes(39), bytes(60)):
        world.peer.send_bytes(data)
    payload = world.mark()
    assert world.delivered(world.seal("map4", world.inner("map4", True, payload)), payload) is not None
