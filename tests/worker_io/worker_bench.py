"""The worker with real AF_XDP, TUN and TAP devices and scapy as its peer; xsk_harness stands in for posternd.

    host --in0--> node: XDP, worker, Tunnel0 (TUN), steer TAP --out0--> peer (scapy)

Run as root: /usr/bin/python3 -m pytest tests/worker_io. $POSTERN_BUILD is the build tree (default: build/release).
"""
import json
import os
import pathlib
import subprocess
import sys
import time
import contextlib

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "lib"))

from scapy.layers.inet import ICMP, IP  # noqa: E402
from scapy.packet import Raw  # noqa: E402

from documents import fresh_sa  # noqa: E402
from netns import Lab, wait_until  # noqa: E402
from oracle import association, esp_bytes, open_esp  # noqa: E402
from wire import Wire  # noqa: E402

ROOT = pathlib.Path(__file__).parents[2]
BUILD = pathlib.Path(os.environ.get("POSTERN_BUILD", ROOT / "build" / "release"))
OUTSIDE, INSIDE, TUNNEL = 1, 2, 4  # enum postern_interface_flags
FLOW = 7
GENERATION_INBOUND = 0xffffffff
PEER, NODE, PEER6, NODE6 = "192.0.2.2", "192.0.2.1", "2001:db8:ff::2", "2001:db8:ff::1"


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
            ask("interface", name="in0", flags=INSIDE, slot=8, mac=self.node.mac("in0"))
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
