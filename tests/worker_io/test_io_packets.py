"""What passes the worker, and what becomes of it on the way."""
import select
import signal
import socket
import struct
import time

from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.packet import Raw

from documents import fresh_sa
from netns import wait_until
from oracle import association, esp_bytes
from wire import Wire
from worker_bench import NODE, NODE6, PEER, PEER6


def test_a_sealed_ping_is_answered_sealed(either):
    for sequence in range(1, 21):
        either.assert_ping_works(sequence)
    either.assert_balanced()
    assert either.drops() == {}


def test_what_is_not_authentic_is_dropped_and_counted(either):
    sealed = bytearray(bytes(either.sealer.encrypt(either.ping())))
    sealed[-1] ^= 1
    either.wire.send(IP(bytes(sealed)))
    wait_until(lambda: either.drops() == {"bad_icv": 1}, 3, "one bad ICV")
    assert either.esp_from_node(lambda inner: inner.haslayer(ICMP), 0.3) is None
    either.assert_ping_works()
    either.assert_balanced()


def test_a_burst_is_answered_whole(either):
    count = 300
    for sequence in range(count):
        either.wire.send(either.sealer.encrypt(either.ping(sequence)))
    seen = set()
    deadline = time.monotonic() + 10
    while len(seen) < count and time.monotonic() < deadline:
        reply = either.esp_from_node(lambda inner: inner.haslayer(ICMP), 1)
        if reply is not None:
            seen.add(reply[ICMP].seq)
    assert seen == set(range(count))
    either.assert_balanced()


def first_bytes(wire: Wire, size: int) -> bytes | None:
    """The first packet of `size` bytes on a device without Ethernet headers."""
    for _ in range(50):
        if not select.select([wire._socket], [], [], 3)[0]:
            return None
        data = wire._socket.recv(65535)
        if len(data) == size:
            return data
    return None


def test_segments_that_arrive_together_are_merged(either):
    segments = [IP(src="10.4.0.9", dst="172.16.0.1", id=100 + i) /
                TCP(sport=4000, dport=5000, flags="A", seq=1000 + 1000 * i, ack=1, window=500) / Raw(bytes([i]) * 1000)
                for i in range(8)]
    with Wire(either.node, "Tunnel0", "00:00:00:00:00:00", "00:00:00:00:00:00") as tap:
        for _ in range(5):  # a busy kernel may still carry the last ones when the worker goes on
            before = either.counters()["merged"]
            either.harness.ask("signal", number=signal.SIGSTOP)  # so that one batch takes them all
            for segment in segments:
                either.wire.send(either.sealer.encrypt(IP(bytes(segment))))
            tap.drain()
            either.harness.ask("signal", number=signal.SIGCONT)
            if (merged := first_bytes(tap, 8040)) is not None:
                break
    assert merged is not None, either.counters()
    assert merged[40:] == b"".join(bytes([i]) * 1000 for i in range(8))
    assert either.counters()["merged"] - before == 7
    either.assert_balanced()
    assert either.drops() == {}


def test_a_super_packet_is_split(either):
    """As the kernel gives a TUN reader: one virtio-net header, four segments' worth of data."""
    data = b"".join(bytes([i]) * 1000 for i in range(4))
    whole = IP(bytes(IP(src="172.16.0.1", dst="10.4.0.9", id=50) / TCP(sport=1, dport=2, flags="PA", seq=9, ack=1) / Raw(data)))
    packet_vnet_hdr = 15
    # flags NEEDS_CSUM, TCPv4, header bytes, segment size, where the checksum begins and lies.
    offload = struct.pack("<BBHHHH", 1, 1, 40, 1000, 20, 16)
    pseudo = sum(struct.unpack("!6H", bytes(whole)[12:20] + struct.pack("!HH", 6, len(whole) - 20)))
    whole[TCP].chksum = (pseudo & 0xffff) + (pseudo >> 16)
    with either.node.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as raw:
        raw.setsockopt(socket.SOL_PACKET if hasattr(socket, "SOL_PACKET") else 263, packet_vnet_hdr, 1)
        raw.bind(("Tunnel0", 0x0800))
        raw.send(offload + bytes(whole))
    inner = []
    for _ in range(4):
        one = either.esp_from_node(lambda packet: packet.haslayer(TCP))
        assert one is not None, either.counters()
        inner.append(one)
    assert b"".join(bytes(one[TCP].payload) for one in inner) == data
    assert [one[TCP].seq for one in inner] == [9, 1009, 2009, 3009]
    for one in inner:
        given = one[TCP].chksum
        del one[TCP].chksum
        assert IP(bytes(one))[TCP].chksum == given
    assert either.counters()["split"] - either.before["split"] == 3
    either.assert_balanced()


def test_too_big_for_the_tunnel_is_answered(either):
    either.harness.ask("device", kind="raw_icmp")
    either.node.ip("link", "set", "Tunnel0", "mtu", "1500")
    big = either.ping(source="10.1.0.2", destination="10.4.0.9", payload=b"y" * 1450, flags="DF")
    with Wire(either.host, "h0", either.host.mac("h0"), either.node.mac("in0")) as wire:
        wire.send(big)
        error = wire.first(lambda one: one.haslayer(ICMP) and one[ICMP].type == 3 and one[ICMP].code == 4)
    assert error is not None, either.drops()
    assert 1300 < error[ICMP].nexthopmtu < 1500
    wait_until(lambda: either.drops() == {"too_big": 1}, 3, "one too big")
    either.assert_balanced()


def test_fragments_of_esp_reach_the_worker_by_a_socket(either):
    either.harness.ask("device", kind="raw_esp")
    large = either.sealer.encrypt(either.ping(payload=b"z" * 2000))
    pieces = fragment(IP(bytes(large)), fragsize=1400)
    assert len(pieces) == 2
    for piece in pieces:
        either.wire.send(piece)
    reply = either.esp_from_node(lambda inner: inner.haslayer(ICMP) or inner.haslayer(Raw), 5)
    assert reply is not None, either.drops()
    assert reply.src == "172.16.0.1"
    either.wire.drain()


def test_fragments_of_udp_encapsulated_esp(either):
    either.harness.ask("device", kind="udp_encap")
    to_node, to_peer = fresh_sa(5001), fresh_sa(5002)
    either.install(NODE, PEER, to_node, to_peer, udp=True)
    sealer = association(to_node, PEER, NODE)

    def seal(clear):
        """RFC 3948 §2.1, with the checksum that it asks for: none."""
        packet = IP(src=PEER, dst=NODE) / UDP(sport=4500, dport=4500, chksum=0) / Raw(esp_bytes(sealer.encrypt(clear)))
        return IP(bytes(packet))

    either.to_peer = to_peer
    either.wire.send(seal(either.ping(1)))
    assert either.esp_from_node(lambda inner: inner.haslayer(ICMP)) is not None, either.counters()  # whole: by AF_XDP
    for piece in fragment(seal(either.ping(2, payload=b"z" * 2000)), fragsize=1400):
        either.wire.send(piece)
    assert either.esp_from_node(lambda inner: inner.haslayer(IP) and inner.proto == 1) is not None, either.drops()


def test_ipv6_fragments_of_esp(either):
    either.harness.ask("device", kind="raw_esp")
    either.adjacent(PEER6)
    to_node, to_peer = fresh_sa(6001), fresh_sa(6002)
    either.install(NODE6, PEER6, to_node, to_peer)
    either.to_peer = to_peer
    sealer = association(to_node, PEER6, NODE6)
    either.wire.send(sealer.encrypt(either.ping(1)))
    assert either.esp_from_node(lambda inner: inner.haslayer(ICMP)) is not None
    large = sealer.encrypt(either.ping(2, payload=b"z" * 2000))
    base = IPv6(src=PEER6, dst=NODE6) / IPv6ExtHdrFragment(id=9) / Raw(bytes(large.payload))
    base[IPv6ExtHdrFragment].nh = 50
    for piece in fragment6(base, 1400):
        either.wire.send(piece)
    assert either.esp_from_node(lambda inner: inner.haslayer(IP) and inner.proto == 1) is not None, either.drops()


def test_an_unknown_next_hop_is_asked_for_and_the_packet_waits(either):
    to_node, to_peer = fresh_sa(7001), fresh_sa(7002)
    other = "192.0.2.77"
    either.install(NODE, other, to_node, to_peer)
    either.to_peer = to_peer
    with Wire(either.host, "h0", either.host.mac("h0"), either.node.mac("in0")) as wire:
        wire.send(either.ping(source="10.1.0.2", destination="10.4.0.9"))
        asked = []
        wait_until(lambda: asked.extend(either.harness.ask("events")["resolve"]) or asked, 3, "a Resolve")
        assert asked[0] == {"address": other, "forward": 0}
        either.adjacent(other)
        assert either.esp_from_node(lambda inner: inner.dst == "10.4.0.9") is not None
        # Nobody answers for the next one: it is dropped in time.
        either.harness.ask("sa", direction="out", spi=7003, local=NODE, remote="192.0.2.78", name="Tunnel0",
                           cipher=to_peer.cipher_key.hex(), auth=to_peer.auth_key.hex())
    either.assert_balanced()
