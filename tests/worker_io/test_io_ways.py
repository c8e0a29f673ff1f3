"""Other ways in and out: AF_XDP on the plain side, the steer TAP, several threads."""
import signal
import socket
import struct
import time

import pytest

from scapy.layers.inet import ICMP, IP, UDP
from scapy.packet import Raw

from documents import fresh_sa
from netns import wait_until
from oracle import association, esp_bytes
from wire import Wire
from worker_bench import FLOW, GENERATION_INBOUND, NODE, PEER, Bench


def test_inside_af_xdp_both_ways(tmp_path):
    with Bench(tmp_path, inside=True) as bench:
        host_mac, node_mac = bench.host.mac("h0"), bench.node.mac("in0")
        row = f"1:{bench.node.ifindex('in0')}"
        with Wire(bench.host, "h0", host_mac, node_mac) as wire:
            wire.send(bench.ping(source="10.1.0.2", destination="10.4.0.9", ttl=33))
            inner = bench.esp_from_node(lambda one: one.dst == "10.4.0.9")
            assert inner is not None, bench.drops()
            assert inner.ttl == 32  # the node is the hop that the kernel would have been
            assert bench.counters()["devices"][row]["rx"] == 1
            # No forward adjacency yet: the kernel delivers, and posternd is asked.
            reply = IP(src="10.4.0.9", dst="10.1.0.2", ttl=40) / UDP(sport=1, dport=9) / Raw(b"first")
            bench.wire.send(bench.sealer.encrypt(reply))
            assert wire.first(lambda one: one.haslayer(Raw) and bytes(one[UDP].payload) == b"first") is not None
            wait_until(lambda: {"address": "10.1.0.2", "forward": 1} in bench.harness.ask("events")["resolve"], 3, "posternd is asked")
            bench.harness.ask("adjacency", address="10.1.0.2", name="in0", to=host_mac, forward=True, **{"from": node_mac})
            reply = IP(src="10.4.0.9", dst="10.1.0.2", ttl=40) / UDP(sport=1, dport=9) / Raw(b"second")
            bench.wire.send(bench.sealer.encrypt(reply))
            direct = wire.first(lambda one: one.haslayer(Raw) and bytes(one[UDP].payload) == b"second")
            assert direct is not None and direct.ttl == 39
            assert bench.counters()["devices"][row]["tx"] == 1
            # A hop limit that ends here is the kernel's business.
            reply[IP].ttl = 1
            bench.wire.send(bench.sealer.encrypt(reply))
            assert bench.esp_from_node(lambda one: one.haslayer(ICMP) and one[ICMP].type == 11) is not None
            assert bench.counters()["devices"][row]["tx"] == 1
        bench.assert_balanced()


def test_a_jumbo_is_dropped_and_counted(tmp_path):
    """More than a frame holds: the socket has no scatter-gather here, so the kernel drops it and says so."""
    with Bench(tmp_path) as bench:
        for namespace, device in ((bench.node, "out0"), (bench.peer, "p0")):
            namespace.ip("link", "set", device, "mtu", "9000")
        bench.wire.send(bench.sealer.encrypt(bench.ping(payload=b"j" * 6000)))
        wait_until(lambda: bench.drops().get("rx_overrun") == 1, 3, "the kernel's loss in our counters")
        bench.assert_ping_works()
        bench.assert_balanced()


@pytest.mark.parametrize("forbid_io_uring", [False, True])
def test_two_threads_share_the_sas(tmp_path, forbid_io_uring):
    """Each owns a queue of the outside interface and one of the tunnel; the SA pair is the same for both."""
    with Bench(tmp_path, threads=2, forbid_io_uring=forbid_io_uring) as bench:
        count = 64
        for sequence in range(count):
            sealed = bench.sealer.encrypt(bench.ping(sequence, source=f"10.4.0.{sequence + 1}"))
            sealed.src = f"192.0.2.{100 + sequence % 16}"  # another outer source is another hash, so another queue
            del sealed.chksum
            bench.wire.send(sealed)
        numbers, seen = [], set()
        deadline = time.monotonic() + 10
        while len(seen) < count and time.monotonic() < deadline:
            packet = bench.wire.first(lambda one: esp_bytes(one) is not None, 1)
            if packet is None:
                continue
            numbers.append(int.from_bytes(esp_bytes(packet)[4:8], "big"))
            inner = bench.open(packet)
            if inner.haslayer(ICMP):
                seen.add(inner[ICMP].seq)
        assert seen == set(range(count)), bench.counters()
        assert len(numbers) == len(set(numbers))
        assert all(received > 5 for received in bench.counters()["thread_rx"])
        bench.assert_balanced()
        # Removal waits for both threads, also for one that sleeps.
        bench.harness.ask("remove_sa", slot=bench.slots[0])
        bench.wire.send(bench.sealer.encrypt(bench.ping(99)))
        wait_until(lambda: bench.drops() == {"no_sa": 1}, 3, "no SA, no packet")


def test_one_fat_sa_gets_a_second_thread(tmp_path):
    """One thread receives everything of one SA; the other one has no packet of its own, and does cipher work."""
    with Bench(tmp_path, threads=2, inside=True) as bench:
        count, numbers = 300, []
        with Wire(bench.host, "h0", bench.host.mac("h0"), bench.node.mac("in0")) as wire:
            for burst in range(40):
                bench.harness.ask("signal", number=signal.SIGSTOP)  # so that the whole burst waits in one receive ring
                for sequence in range(count):
                    wire.send(IP(src="10.1.0.2", dst="10.4.0.9", id=sequence) / UDP(sport=1, dport=sequence + 1) / Raw(bytes(900)))
                bench.harness.ask("signal", number=signal.SIGCONT)
                ports = []
                while len(ports) < count:
                    packet = bench.wire.first(lambda one: esp_bytes(one) is not None, 5)
                    assert packet is not None, bench.counters()
                    numbers.append(int.from_bytes(esp_bytes(packet)[4:8], "big"))
                    inner = bench.open(packet)
                    if inner.haslayer(UDP):
                        ports.append(inner[UDP].dport)
                assert ports == list(range(1, count + 1)), f"burst {burst}: out of order"
                now = bench.counters()
                if now["handed"] > 0:
                    break
        assert now["handed"] == now["helped"] > 0, now
        assert now["thread_helped"][0] == 0 and now["thread_helped"][1] > 0
        assert now["thread_rx"][0] > count - 1
        assert numbers == sorted(numbers) and len(set(numbers)) == len(numbers)
        bench.assert_balanced()
        bench.harness.ask("remove_sa", slot=bench.slots[1])  # nothing of it is away any more


def test_one_thread_hands_nothing_over(tmp_path):
    with Bench(tmp_path, inside=True) as bench:
        with Wire(bench.host, "h0", bench.host.mac("h0"), bench.node.mac("in0")) as wire:
            bench.harness.ask("signal", number=signal.SIGSTOP)
            for sequence in range(200):
                wire.send(IP(src="10.1.0.2", dst="10.4.0.9") / UDP(sport=1, dport=sequence + 1) / Raw(bytes(100)))
            bench.harness.ask("signal", number=signal.SIGCONT)
            assert bench.esp_from_node(lambda one: one.haslayer(UDP) and one[UDP].dport == 200) is not None
        assert bench.counters()["handed"] == bench.counters()["helped"] == 0


def stamp(generation: int, flow: int, ifindex: int) -> bytes:
    return struct.pack("=III", generation, flow, ifindex)


def test_steer_tap_both_ways(tmp_path):
    with Bench(tmp_path, steer=True) as bench:
        steer = bench.node.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        steer.bind(("steer0", 3))
        steer.settimeout(5)
        with steer:
            plain = bytes(bench.ping(source="10.1.0.2", destination="10.2.0.2"))
            steer.send(stamp(3, FLOW, 1) + struct.pack("!H", 0x0800) + plain)
            inner = bench.esp_from_node(lambda one: one.dst == "10.2.0.2")
            assert inner is not None and bytes(inner) == plain
            # A verdict of a policy that is gone, and a flow that nobody knows.
            bench.harness.ask("generation", oldest=4)
            steer.send(stamp(3, FLOW, 1) + struct.pack("!H", 0x0800) + plain)
            wait_until(lambda: bench.drops().get("stale_policy") == 1, 3, "a stale verdict is dropped")
            steer.send(stamp(4, FLOW, 1) + struct.pack("!H", 0x0806) + plain)
            wait_until(lambda: bench.drops().get("unparseable") == 1, 3, "no IP, no service")
            to_node, to_peer = fresh_sa(8001), fresh_sa(8002)
            bench.install(NODE, PEER, to_node, to_peer, map=True, name="out0")
            inbound = bench.ping(source="10.2.0.2", destination="10.1.0.2")
            bench.wire.send(association(to_node, PEER, NODE).encrypt(inbound))
            while True:
                frame, address = steer.recvfrom(65535)
                if address[2] != socket.PACKET_OUTGOING:
                    break
            assert frame[:12] == stamp(GENERATION_INBOUND, 0, bench.node.ifindex("out0"))
            assert frame[12:14] == b"\x08\x00"
            assert frame[14:] == bytes(inbound)
        bench.assert_balanced()
