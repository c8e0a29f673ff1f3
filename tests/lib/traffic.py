"""Offered traffic: pings, numbered UDP streams, iperf3, each between two namespaces of a lab."""
import json
import math
import pathlib
import re
import sys

from netns import CommandFailed, Namespace, Process, wait_until

STREAM = pathlib.Path(__file__).with_name("udp_stream.py")
TRANSFER = pathlib.Path(__file__).with_name("tcp_transfer.py")


def ping(where: Namespace, address: str, count: int = 3, size: int = 56, dont_fragment: bool = False, source: str | None = None,
         interval: float = 0.05, wait: int = 2) -> int:
    """How many of `count` were answered."""
    words = ["ping", "-n", "-c", count, "-i", interval, "-s", size]
    words += ["-M", "do"] if dont_fragment else []
    words += ["-I", source] if source else []

    def answered(*more) -> int:
        done = where.run(*words, *more, address, check=False, timeout=count * (wait + 1) + 20)
        return len({number for one in re.findall(r"icmp_seq=(\d+) ttl", done.stdout) if (number := int(one)) <= count})

    # Once one is answered, ping waits for the others no longer than two round trips, which a busy machine may outlast. With a
    # deadline it waits as long as it is told, but goes on asking meanwhile, so that is only the second question.
    first = answered("-W", wait)
    return first if first in (0, count) else answered("-w", math.ceil(count * interval) + wait + 3)


def ping_until(where: Namespace, address: str, seconds: float = 10, **options) -> None:
    """Waits for the first answer: neighbours resolved, processes up."""
    wait_until(lambda: ping(where, address, count=1, wait=1, **options), seconds, f"{where.label} reaches {address}", 0.05)


class Stream:
    """A numbered stream from one namespace to another; `finish()` waits for both ends."""

    def __init__(self, source: Namespace, destination: Namespace, address: str, *, count: int, rate: float, size: int = 200,
                 port: int = 9000, quiet: float = 1.5):
        self.receiver = destination.spawn(sys.executable, STREAM, "receive", address, port, quiet, name="udp-receive")
        wait_until(lambda: "READY" in self.receiver.log() or not self.receiver.running(), 10, "the receiver listens")
        assert self.receiver.running(), self.receiver.log()
        self.sender = source.spawn(sys.executable, STREAM, "send", address, port, count, rate, size, name="udp-send")
        self._seconds = count / rate

    def finish(self) -> tuple[dict, dict]:
        """What the sender and the receiver say."""
        self.sender.wait(self._seconds * 3 + 20)
        sent = json.loads(self.sender.log().splitlines()[-1])
        try:
            wait_until(lambda: not self.receiver.running(), 5, "the receiver saw the end of the stream", patience=1)
        except AssertionError:
            self.receiver.signal(15)  # nothing at all arrived: it waits for a first packet
            self.receiver.wait(5)
        return sent, json.loads(self.receiver.log().splitlines()[-1])


def stream(source: Namespace, destination: Namespace, address: str, **options) -> tuple[dict, dict]:
    return Stream(source, destination, address, **options).finish()


def transfer(source: Namespace, destination: Namespace, address: str, count: int, near: str | None = None, port: int = 9200) -> dict:
    """One TCP connection with `count` known bytes; what the receiver says. Fails when it takes longer than a minute."""
    receiver = destination.spawn(sys.executable, TRANSFER, "receive", address, port, name="tcp-receive")
    wait_until(lambda: "READY" in receiver.log() or not receiver.running(), 10, "the receiver listens")
    source.run(sys.executable, TRANSFER, "send", address, port, count, *([near] if near else []), timeout=60)
    receiver.wait(10)
    return json.loads(receiver.log().splitlines()[-1])


class Iperf:
    """An iperf3 server in one namespace and runs against it from others."""

    def __init__(self, where: Namespace, address: str, port: int = 5201):
        self.address, self.port = address, port
        self.server: Process = where.spawn("iperf3", "-s", "-B", address, "-p", port, "--forceflush", name="iperf3-server")
        wait_until(lambda: "listening" in self.server.log() or not self.server.running(), 10, "iperf3 listens")
        assert self.server.running(), self.server.log()

    def run(self, source: Namespace, *words, seconds: float | None = 5) -> dict:
        """The `end` of iperf3's report. `seconds` None: `words` say how much (-n BYTES)."""
        length = [] if seconds is None else ["-t", seconds]
        done = source.run("iperf3", "-c", self.address, "-p", self.port, *length, "-J", *words, timeout=(seconds or 60) + 30, check=False)
        try:
            report = json.loads(done.stdout)
        except json.JSONDecodeError:
            raise CommandFailed(f"iperf3 said no JSON: {done.stdout}{done.stderr}") from None
        if "error" in report:
            raise CommandFailed(f"iperf3: {report['error']}")
        return report["end"]

    def tcp_gbps(self, source: Namespace, seconds: float = 5, *words) -> float:
        return self.run(source, *words, seconds=seconds)["sum_received"]["bits_per_second"] / 1e9
