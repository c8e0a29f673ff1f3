"""The worker with real AF_XDP, TUN and TAP devices and scapy as its peer; xsk_harness stands in for posternd.

    host --in0--> node: XDP, worker, Tunnel0 (TUN), steer TAP --out0--> peer (scapy)

Run as root: /usr/bin/python3 -m pytest tests/worker_io. $POSTERN_BUILD is the build tree (default: build/release).
"""
import contextlib
import json
import os
import pathlib
import select
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "lib"))

from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment  # noqa: E402
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6, fragment6, IPv6ExtHdrFragment  # noqa: E402
from scapy.layers.l2 import Ether  # noqa: E402
from scapy.packet import Raw  # noqa: E402

from documents import fresh_sa  # noqa: E402
from netns import Lab, run, wait_until  # noqa: E402
from oracle import association, esp_bytes, open_esp  # noqa: E402
from wire import Wire  # noqa: E402

ROOT = pathlib.Path(__file__).parents[2]
BUILD = pathlib.Path(os.environ.get("POSTERN_BUILD", ROOT / "build" / "release"))
OUTSIDE, INSIDE, TUNNEL = 1, 2, 4  # enum postern_interface_flags
FLOW = 7
GENERATION_INBOUND = 0xffffffff
PEER, NODE, PEER6, NODE6 = "192.0.2.2", "192.0.2.1", "2001:db8:ff::2", "2001:db8:ff::1"

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: needs root"),
    pytest.mark.skipif(not (BUILD / "bin" / "xsk_harness").exists(), reason=f"no xsk_harness in {BUILD}"),
]


class Harness:
    """xsk_harness in one namespace, and the worker below it."""

    def __init__(self, lab: Lab, node, scratch: pathlib.Path):
        self.log_path = scratch / "worker.log"
        self._log = self.log_path.open("wb")
        self.pins = f"/sys/fs/bpf/postern-io-{os.getpid()}-{lab.number}"
        self.socket = str(scratch / "worker.sock")
        self.popen = subprocess.Popen(node.enter(BUILD / "bin" / "xsk_harness", self.pins), stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=self._log, text=True)
        lab.callback(self.end)
        self.worker_pid = None

    def ask(self, do: str, check: bool = True, **arguments) -> dict:
        self.popen.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.popen.stdin.flush()
        line = self.popen.stdout.readline()
        assert line, f"xsk_harness ended:\n{self.log()}"
        answer = json.loads(line)
        assert answer["ok"] or not check, f"{do} {arguments}: {answer}\n{self.log()}"
        return answer

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def end(self) -> None:
        self.popen.stdin.close()
        try:
            self.popen.wait(10)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        self._log.close()


class Bench:
    """Node, peer and host, with one flow between the peer's 10.4/16 and the node's side."""

    def __init__(self, scratch: pathlib.Path, *, forbid_io_uring: bool = False, inside: bool = False, steer: bool = False,
                 threads: int = 1):
        self.stack = contextlib.ExitStack()
        try:
            self._build(scratch, forbid_io_uring, inside, steer, threads)
        except BaseException:
            self.stack.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def _build(self, scratch, forbid_io_uring, inside, steer, threads):
        lab = self.lab = self.stack.enter_context(Lab(scratch))
        self.node, self.peer, self.host = (lab.namespace(label) for label in ("n", "p", "h"))
        lab.veth(self.node, "out0", self.peer, "p0", queues=threads)
        lab.veth(self.node, "in0", self.host, "h0")
        self.node.router()
        for address in (f"{NODE}/24", f"{NODE6}/64"):
            self.node.ip("addr", "add", address, "dev", "out0")
        self.node.ip("addr", "add", "10.1.0.1/16", "dev", "in0")
        self.host.ip("addr", "add", "10.1.0.2/16", "dev", "h0")
        self.host.ip("route", "add", "default", "via", "10.1.0.1")
        self.node.ip("neigh", "add", PEER, "lladdr", self.peer.mac("p0"), "dev", "out0")
        self.node.ip("neigh", "add", PEER6, "lladdr", self.peer.mac("p0"), "dev", "out0")
        self._make_tun("Tunnel0", "tun", multi_queue=threads > 1)
        self.node.ip("addr", "add", "172.16.0.1/30", "dev", "Tunnel0")
        self.node.ip("addr", "add", "2001:db8:16::1/64", "dev", "Tunnel0", "nodad")
        self.node.ip("route", "add", "10.4.0.0/16", "dev", "Tunnel0")
        self.node.ip("link", "set", "Tunnel0", "mtu", "1400")
        if steer:
            self._make_tun("steer0", "tap")
        self.wire = self.stack.enter_context(
            Wire(self.peer, "p0", self.peer.mac("p0"), self.node.mac("out0"), answer_for=(PEER, PEER6)))
        self.harness = Harness(lab, self.node, scratch)
        ask = self.harness.ask
        self.worker_pid = ask("start", worker=str(BUILD / "bin" / "postern-worker"), socket=self.harness.socket,
                              forbid_io_uring=forbid_io_uring)["pid"]
        self.greeting = ask("hello", threads=threads)
        # A tunnel before the first XSK: it has to wait for frames and then work.
        for thread in range(threads):
            ask("device", kind="tunnel", name="Tunnel0", thread=thread, multi_queue=threads > 1)
        if steer:
            ask("device", kind="steer", name="steer0")
        ask("interface", name="out0", flags=OUTSIDE, slot=0, queues=threads, local=[NODE, NODE6, "10.1.0.1", "172.16.0.1"])
        for thread in range(threads):
            ask("xsk", name="out0", slot=0, queue=thread, thread=thread, group=1 + thread)
        ask("interface", name="Tunnel0", flags=TUNNEL, flow=FLOW)
        if inside:
            ask("interface", name="in0", flags=INSIDE, slot=8)
            ask("xsk", name="in0", slot=8, inside=True)
        self.adjacent(PEER)
        self.to_node, self.to_peer = fresh_sa(4097), fresh_sa(4098)
        self.sealer = association(self.to_node, PEER, NODE)
        self.slots = self.install(NODE, PEER, self.to_node, self.to_peer)
        self.before = self.counters()

    def _make_tun(self, name: str, mode: str, multi_queue: bool = False) -> None:
        self.node.ip("tuntap", "add", name, "mode", mode, "vnet_hdr", *(["multi_queue"] if multi_queue else []))
        self.node.run("sysctl", "-qw", f"net.ipv6.conf.{name}.router_solicitations=0")
        if mode == "tap":
            self.node.run("sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1")
            self.node.ip("link", "set", name, "arp", "off")
        self.node.ip("link", "set", name, "up")

    def adjacent(self, address: str) -> None:
        self.harness.ask("adjacency", address=address, name="out0", to=self.peer.mac("p0"), **{"from": self.node.mac("out0")})

    def install(self, local: str, remote: str, to_node, to_peer, **more) -> tuple[int, int]:
        """One pair of SAs; outbound traffic goes into it."""
        slots = []
        for direction, sa in (("in", to_node), ("out", to_peer)):
            slots.append(self.harness.ask("sa", direction=direction, spi=sa.spi, local=local, remote=remote,
                                          cipher=sa.cipher_key.hex(), auth=sa.auth_key.hex(), **{"name": "Tunnel0", **more})["value"])
        self.harness.ask("bind", slot=slots[1])
        return slots[0], slots[1]

    def counters(self) -> dict:
        return self.harness.ask("counters")

    def drops(self) -> dict:
        """Since the bench was built."""
        now = self.counters()["drops"]
        before = self.before["drops"]
        return {reason: count - before.get(reason, 0) for reason, count in now.items() if count != before.get(reason, 0)}

    def assert_balanced(self) -> None:
        def missing():
            now = self.counters()
            return (now["rx"] + now["split"] + now["made"] - now["tx"] - now["merged"] - now["held"] - sum(now["drops"].values()))
        wait_until(lambda: missing() == 0, 3, "packets balance")

    def ping(self, sequence: int = 1, source: str = "10.4.0.9", destination: str = "172.16.0.1", payload: bytes = b"x" * 100, **ip):
        return IP(src=source, dst=destination, **ip) / ICMP(type=8, id=77, seq=sequence) / Raw(payload)

    def open(self, packet):
        """The inner packet of one that left the node."""
        return open_esp(self.to_peer, esp_bytes(packet))

    def esp_from_node(self, wanted, seconds: float = 5):
        """The first inner packet for which `wanted` holds."""
        for packet in self._sealed(seconds):
            if int.from_bytes(esp_bytes(packet)[:4], "big") != self.to_peer.spi:
                continue  # what the kernel had to say (MLD) before this SA
            inner = self.open(packet)
            if wanted(inner):
                return inner
        return None

    def _sealed(self, seconds: float):
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            packet = self.wire.first(lambda one: esp_bytes(one) is not None, left)
            if packet is None:
                return
            yield packet

    def assert_ping_works(self, sequence: int = 1) -> None:
        self.wire.send(self.sealer.encrypt(self.ping(sequence)))
        reply = self.esp_from_node(lambda inner: inner.haslayer(ICMP) and inner[ICMP].type == 0 and inner[ICMP].seq == sequence)
        assert reply is not None, self.harness.log()
        assert (reply.src, reply.dst) == ("172.16.0.1", "10.4.0.9")


@pytest.fixture(params=["io_uring", "poll"])
def either(request, tmp_path):
    with Bench(tmp_path, forbid_io_uring=request.param == "poll") as bench:
        expected = 0 if request.param == "poll" else 1
        assert bench.greeting["value"] & 1 == expected
        assert bench.greeting["text"]
        yield bench


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


def test_segments_that_arrive_together_are_merged(either):
    segments = [IP(src="10.4.0.9", dst="172.16.0.1", id=100 + i) /
                TCP(sport=4000, dport=5000, flags="A", seq=1000 + 1000 * i, ack=1, window=500) / Raw(bytes([i]) * 1000)
                for i in range(8)]
    with Wire(either.node, "Tunnel0", "00:00:00:00:00:00", "00:00:00:00:00:00") as tap:
        either.harness.ask("signal", number=signal.SIGSTOP)  # so that one batch takes them all
        for segment in segments:
            either.wire.send(either.sealer.encrypt(IP(bytes(segment))))
        tap.drain()
        either.harness.ask("signal", number=signal.SIGCONT)
        merged = first_bytes(tap, 8040)
    assert merged is not None, either.counters()
    assert merged[40:] == b"".join(bytes([i]) * 1000 for i in range(8))
    assert either.counters()["merged"] - either.before["merged"] == 7
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
    assert either.esp_from_node(lambda inner: inner.proto == 1) is not None, either.drops()


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
    assert either.esp_from_node(lambda inner: inner.proto == 1) is not None, either.drops()


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


def test_capture_copies_what_passes(either):
    either.harness.ask("capture", side="both")
    either.assert_ping_works()
    records = []
    wait_until(lambda: records.extend(either.harness.ask("captured")["records"]) or len(records) >= 4, 3, "four records")
    kinds = {(record["side"], record["outbound"], record["linktype"]) for record in records}
    assert kinds == {(2, 0, 1), (1, 0, 101), (1, 1, 101), (2, 1, 1)}
    assert all(record["whole"] for record in records)
    either.harness.ask("capture", side="plain")
    either.assert_ping_works(2)
    sides = {record["side"] for record in either.harness.ask("captured")["records"]}
    assert sides == {1}


def test_an_af_packet_socket_goes_before_af_xdp(either):
    either.harness.ask("device", kind="packet_out", name="out0")
    xsk = f"0:{either.node.ifindex('out0')}"
    before = either.counters()["devices"][xsk]["tx"]  # the kernel had something to say (MLD)
    either.assert_ping_works()
    devices = either.counters()["devices"]
    assert devices[f"7:{either.node.ifindex('out0')}"]["tx"] >= 1
    assert devices[xsk]["tx"] == before
    either.harness.ask("remove", name="out0", kind="packet_out")
    either.assert_ping_works(2)
    assert either.counters()["devices"][xsk]["tx"] > before
    either.assert_balanced()


def test_devices_are_made_again(either):
    """As config apply does it: every socket new, with a new UMEM. More often than frames would last if they leaked."""
    for round_number in range(1, 5):
        either.harness.ask("remove", name="out0", kind="xsk_outside", group=round_number)
        assert not either.harness.ask("remove", check=False, name="out0", kind="xsk_outside")["ok"]
        either.harness.ask("xsk", name="out0", slot=0, group=round_number + 1)
        either.assert_ping_works(round_number)
    either.assert_balanced()


def test_the_data_plane_outlives_its_manager(either):
    either.harness.ask("disconnect")
    either.assert_ping_works(1)
    again = either.harness.ask("reconnect")
    assert again["text"] == either.greeting["text"]
    refused = either.harness.ask("hello", check=False)
    assert not refused["ok"] and "memory already" in refused["error"]
    either.assert_ping_works(2)
    assert either.counters()["starts"] == 1


def test_a_crash_costs_no_sa_and_repeats_no_number(either):
    numbers = []

    def ping(sequence):
        either.wire.send(either.sealer.encrypt(either.ping(sequence)))
        for packet in either._sealed(5):
            numbers.append(int.from_bytes(esp_bytes(packet)[4:8], "big"))
            inner = either.open(packet)
            if inner.haslayer(ICMP) and inner[ICMP].seq == sequence:
                return
        raise AssertionError(either.harness.log())

    for sequence in range(1, 4):
        ping(sequence)
    ask = either.harness.ask
    rows = set(either.counters()["devices"])
    ask("signal", number=signal.SIGKILL)
    assert ask("wait")["exit"] == -signal.SIGKILL
    ask("restart", worker=str(BUILD / "bin" / "postern-worker"), socket=either.harness.socket,
        forbid_io_uring=either.greeting["value"] & 1 == 0)
    ask("hello")
    ask("device", kind="tunnel", name="Tunnel0")
    ask("xsk", name="out0", slot=0, group=2)
    for sequence in range(4, 7):
        ping(sequence)
    assert len(numbers) == len(set(numbers)) and numbers == sorted(numbers)
    assert either.counters()["starts"] == 2
    assert set(either.counters()["devices"]) == rows  # the same rows go on


def test_what_the_channel_refuses(either):
    ask = either.harness.ask
    assert not ask("device", check=False, kind="tunnel", name="out0")["ok"]  # not a TUN: the harness cannot even open it
    refused = ask("xsk", check=False, name="out0", slot=0, group=9)
    assert not refused["ok"] and "here already" in refused["error"]
    refused = ask("sa", check=False, direction="in", spi=either.to_node.spi, local=NODE, remote=PEER, name="Tunnel0", cipher="00" * 16,
                  auth="00" * 32)
    assert not refused["ok"]
    assert not ask("remove_sa", check=False, slot=60)["ok"]
    either.assert_ping_works()


def first_bytes(wire: Wire, size: int) -> bytes | None:
    """The first packet of `size` bytes on a device without Ethernet headers."""
    for _ in range(50):
        if not select.select([wire._socket], [], [], 3)[0]:
            return None
        data = wire._socket.recv(65535)
        if len(data) == size:
            return data
    return None


def status_of(pid: int) -> list[dict]:
    """/proc/PID/task/*/status of every thread."""
    out = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        out.append(dict(line.split(":\t", 1) for line in lines if ":\t" in line))
    return out


def test_every_thread_is_in_the_cage(either):
    threads = status_of(either.worker_pid)
    assert len(threads) == 2
    for status in threads:
        assert status["Uid"].split()[0] != "0" and len(set(status["Uid"].split())) == 1
        assert status["Groups"].strip() == ""
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[kind], 16) == 0, kind
    limits = pathlib.Path(f"/proc/{either.worker_pid}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    # Not dumpable: its files in /proc are root's, although it is not.
    assert os.stat(f"/proc/{either.worker_pid}/mem").st_uid == 0


@pytest.mark.parametrize("how", ["request", "SIGTERM"])
def test_it_ends_cleanly(either, how):
    either.assert_ping_works()
    if how == "request":
        either.harness.ask("shutdown")
    else:
        either.harness.ask("signal", number=signal.SIGTERM)
    assert either.harness.ask("wait")["exit"] == 0
    assert "stopped" in either.harness.log()


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
            assert {"address": "10.1.0.2", "forward": 1} in bench.harness.ask("events")["resolve"]
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


def test_another_user_is_refused(tmp_path):
    with Bench(tmp_path) as bench:
        os.chmod(bench.harness.socket, 0o777)
        for parent in pathlib.Path(bench.harness.socket).parents[:4]:
            if parent.is_relative_to("/tmp") and parent != pathlib.Path("/tmp"):
                os.chmod(parent, os.stat(parent).st_mode | 0o011)
        script = ("import socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(sys.argv[1]); "
                  "s.settimeout(3); sys.exit(0 if s.recv(10) == b'' else 1)")
        run(["setpriv", "--reuid", "4242", "--regid", "4242", "--clear-groups", "/usr/bin/python3", "-c", script, bench.harness.socket])
        assert "another user" in bench.harness.log()
        bench.assert_ping_works()
        assert bench.counters()["ok"]  # the first connection stands
