"""Crash, stop, start, remove: traffic goes on or is dropped, never leaks, and in the end nothing is left."""
import contextlib
import dataclasses
import os
import signal
import threading

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

import documents
import lab
import safety
import traffic
from balance import assert_balanced
from capture import Capture
from netns import wait_until
from node import PROGRAMS, gone
from oracle import Findings, Oracle, inner_payload
from udp_stream import number_of
from wire import Wire

pytestmark = pytest.mark.long
FLOWS = ("map4", "map6", "tunnel4", "tunnel6")


@pytest.fixture
def pair(scratch):
    with lab.Pairing(scratch) as made:
        for flow in ("map4", "tunnel4"):
            traffic.ping_until(made.hA, lab.host(2, flow), source=lab.host(1, flow))
        yield made


def spis(node) -> set[str]:
    return {sa["spi"] for interface in node.show("crypto", "ipsec", "sa")["interfaces"] for flow in interface["flows"] for sa in flow["sas"]}


@dataclasses.dataclass
class Killing:
    """What a worker's death under load looked like from outside."""
    flow: str
    found: Findings
    number: documents.Sa
    sent: dict
    received: dict
    spis: tuple[set[str], set[str]]
    workers: tuple[int, int]


@pytest.fixture(scope="module", params=("map4", "tunnel4"))
def killing(request, module_scratch):
    with lab.Pairing(module_scratch / request.param) as pair:
        traffic.ping_until(pair.hA, lab.host(2, request.param), source=lab.host(1, request.param))
        before = spis(pair.left)
        with Capture(pair.w, "w1", module_scratch / "w.pcap") as capture:
            stream = traffic.Stream(pair.hA, pair.hB, lab.host(2, request.param), count=12000, rate=3000, quiet=4)
            wait_until(lambda: capture.bytes_captured() > 300_000, 10, "the stream is on the wire")
            killed = pair.left.kill_worker()
            sent, received = stream.finish()
            found = Oracle(pair.flows.all()).examine(capture.frames())
        yield Killing(request.param, found, getattr(pair.flows, request.param).to_right, sent, received, (before, spis(pair.left)),
                      (killed, pair.left.worker_pid()))


@pytest.mark.safety
@pytest.mark.unbalanced("what the worker had read and not sent dies with it")
def test_worker_killed_under_load_repeats_no_number(killing):
    """No sequence number is used twice (RFC 4303 3.3.3), and nothing leaves in clear."""
    killing.found.assert_protected()
    numbers = [one.sequence for one in killing.found.opened if one.spi == killing.number.spi]
    assert len(numbers) > 1000 and len(set(numbers)) == len(numbers)
    assert killing.spis[0] == killing.spis[1]


@pytest.mark.unbalanced("what the worker had read and not sent dies with it")
def test_worker_killed_under_load_is_back_within_two_seconds(killing):
    times = [one.time for one in killing.found.opened if number_of(inner_payload(one.inner)) is not None]
    gap = max(later - earlier for earlier, later in zip(times, times[1:]))
    assert gap < 2.0, f"{gap:.2f} s without ESP"
    last = number_of(inner_payload([one for one in killing.found.opened if one.inner.haslayer(UDP)][-1].inner))
    assert last == killing.sent["sent"] - 1, "the stream's last packet was sealed: it is back for good"
    assert killing.received["distinct"] > 0.4 * killing.sent["sent"]
    assert killing.workers[0] != killing.workers[1]


def test_daemon_killed_and_adopted(pair, scratch):
    """Not one packet is lost; a restarted posternd finds its living worker, its SAs and its devices."""
    worker, before = pair.left.worker_pid(), spis(pair.left)
    stream = traffic.Stream(pair.hA, pair.hB, lab.host(2, "map4"), count=8000, rate=2000, quiet=3)
    with Capture(pair.w, "w1", scratch / "w.pcap") as capture:
        wait_until(lambda: capture.bytes_captured() > 200_000, 10, "the stream is on the wire")
        pair.left.kill_daemon()
        assert not gone(worker)
        pair.left.start()
        sent, received = stream.finish()
        Oracle(pair.flows.all()).examine(capture.frames()).assert_protected()
    assert sent["sent"] == 8000
    safety.never(range(received["distinct"], sent["sent"]), "packets lost")
    assert pair.left.worker_pid() == worker
    assert spis(pair.left) == before
    assert pair.left.dataplane()["worker"]["starts"] == 1
    assert_balanced(pair.left, pair.right)


@pytest.mark.unbalanced("what the worker had read and not sent dies with it")
def test_adopted_worker_is_watched(pair):
    """The new posternd is a full one: it notices when the worker it adopted dies."""
    worker = pair.left.worker_pid()
    pair.left.kill_daemon()
    pair.left.start()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: traffic.ping(pair.hA, lab.host(2, "map4"), count=1, wait=1), 5, "traffic is back")
    assert pair.left.worker_pid() != worker


def nothing_clear(pair, scratch) -> None:
    """Offers packets of every protected flow; none may be on W in clear."""
    with Capture(pair.w, "w1", scratch / "closed.pcap") as capture:
        for flow in FLOWS:
            assert traffic.ping(pair.hA, lab.host(2, flow), count=5, wait=1, source=lab.host(1, flow)) == 0
        found = Oracle(pair.flows.all()).examine(capture.frames())
    found.assert_nothing_clear()


@pytest.mark.safety
def test_stop_fails_closed_and_starts_again(pair, scratch):
    assert pair.left.stop() == 0
    nothing_clear(pair, scratch)
    pair.left.start()
    for flow in FLOWS:
        traffic.ping_until(pair.hA, lab.host(2, flow), source=lab.host(1, flow))
    assert_balanced(pair.left)


@pytest.mark.safety
@pytest.mark.unbalanced("what the worker had read and not sent dies with it, and its sockets with what the kernel queued there")
def test_crash_of_everything_fails_closed_and_starts_again(pair, scratch):
    worker = pair.left.worker_pid()
    pair.left.kill_daemon()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: gone(worker), 5, "the worker is gone")
    nothing_clear(pair, scratch)
    pair.left.start()
    for flow in FLOWS:
        traffic.ping_until(pair.hA, lab.host(2, flow), source=lab.host(1, flow))


@pytest.mark.safety
@pytest.mark.unbalanced("what the worker had read and not sent dies with it")
def test_numbers_go_on_with_the_next_worker(pair, scratch):
    """Manual keys outlive a worker, so numbers must go on above the last, or the peer and the cipher see them again. (Where both processes end, and no
    service manager keeps their memory, they begin anew: manual keys come without anti-replay, MAN-10.)"""
    with Capture(pair.w, "w1", scratch / "w.pcap") as capture:
        assert traffic.ping(pair.hA, lab.host(2, "map4"), count=20) == 20
        pair.left.kill_worker()
        wait_until(lambda: traffic.ping(pair.hA, lab.host(2, "map4"), count=1, wait=1), 5, "traffic is back")
        found = Oracle(pair.flows.all()).examine(capture.frames())
    found.assert_protected()


class Offered(contextlib.ExitStack):
    """Packets of protected flows, both ways, without a pause: of all of them from hA, and of those of the crypto maps from W, in clear, from hosts that
    nobody else speaks for. None may be on W's cable to N2 in clear, and none of W's may come to hA. (A tunnel's policy is its interface and the routes
    into it: what comes in clear by another interface for the networks behind N1 is routed, as with any other interface.)"""
    PAUSE = 0.002
    INWARD = ("map4", "map6")

    def __init__(self, pair, scratch):
        super().__init__()
        self.pair, self.injected, self._over = pair, 0, threading.Event()
        # What W sends to N1 is not on the cable to N2. The captures first: a packet that comes before tcpdump has set its filter is counted and not kept.
        self.far = self.enter_context(Capture(pair.w, "w2", scratch / "far.pcap"))
        self.near = self.enter_context(Capture(pair.hA, "eth0", scratch / "near.pcap", " or ".join(f"src host {intruder(flow)}" for flow in self.INWARD)))
        self._wire = self.enter_context(Wire(pair.w, "w1", pair.n2.mac("out0"), pair.n1.mac("out0")))
        for flow in FLOWS:
            source = lab.host(1, flow)
            self.callback(pair.hA.spawn("ping", "-n", "-i", "0.01", "-W", "1", "-I", source, lab.host(2, flow), name=f"ping-{flow}").end)
        self._thread = threading.Thread(target=self._inject)
        self._thread.start()
        self.callback(self.stop)

    def _inject(self) -> None:
        packets = [Ether(src=self._wire.mac, dst=self._wire.peer_mac) / (IP if flow.endswith("4") else IPv6)(src=intruder(flow), dst=lab.host(1, flow))
                   / UDP(sport=7, dport=7) / b"in clear" for flow in self.INWARD]
        frames = [Ether(bytes(packet)) for packet in packets]
        while not self._over.wait(self.PAUSE):
            for frame in frames:
                with contextlib.suppress(OSError):  # the device's queue is full
                    self._wire.send(frame)
                    self.injected += 1

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def offered(self, count: int = 400) -> None:
        """Waits until as many more were sent from W."""
        goal = self.injected + count
        wait_until(lambda: self.injected >= goal, 10, "packets are offered")

    def judge(self) -> None:
        self.stop()
        found = Oracle(self.pair.flows.all()).examine(self.far.frames())
        found.assert_nothing_clear()
        safety.never(self.near.frames(), "packets that came to hA in clear through N1")
        assert found.opened, "there was traffic"


def intruder(flow: str) -> str:
    return lab.host(2, flow).removesuffix("2") + "77"


@pytest.mark.safety
@pytest.mark.unbalanced("what the worker had read and not sent dies with it")
@pytest.mark.parametrize("change", ("stop and start", "crash and start", "config apply"))
def test_nothing_passes_in_clear_while_a_node_changes_hands(pair, change, scratch):
    """Not only while it is down: from the last packet of the old life to the first of the new one, in both directions."""
    with Offered(pair, scratch) as offered:
        offered.offered()
        if change == "config apply":
            wider = documents.variant(pair.left.document)
            wider["acls"][0]["rules"][0].update(source="10.1.0.0/17", destination="10.2.0.0/17")
            wider["dataplane"]["plain_side"] = "af_xdp"
            for document in (wider, pair.left.document):
                pair.left.apply(document)
                offered.offered()
        elif change == "stop and start":
            assert pair.left.stop() == 0
            offered.offered()
            pair.left.start()
        else:
            kill(pair, "posternd", "worker")
            offered.offered()
            pair.left.start()
        offered.offered()
        for flow in FLOWS:
            traffic.ping_until(pair.hA, lab.host(2, flow), source=lab.host(1, flow))
        offered.judge()


@pytest.mark.safety
def test_nothing_passes_in_clear_while_a_node_takes_over_from_the_boot_guard(scratch):
    with lab.Pairing(scratch, start=False) as made:
        made.right.start()
        guard = made.spawn([PROGRAMS / "posternd", "--name", made.left.name, "--config", made.left.config, "--netns", made.n1.name, "--guard"], "guard")
        assert guard.wait(60) == 0, guard.log()
        with Offered(made, scratch) as offered:
            offered.offered()
            made.left.start()
            offered.offered()
            for flow in FLOWS:
                traffic.ping_until(made.hA, lab.host(2, flow), source=lab.host(1, flow))
            offered.judge()


@pytest.mark.unbalanced("a node that is gone counts nothing")
def test_clear_packets_through_a_node_that_is_gone_are_seen(pair, scratch):
    """The same offer, and nobody who stops it: the check above can fail."""
    with Offered(pair, scratch) as offered:
        pair.left.teardown_running()
        offered.offered()
        with pytest.raises(safety.Unsafe, match="clear packets"):
            offered.judge()
        came = {packet.payload.src for packet in offered.near.frames()}
        assert came == {intruder(flow) for flow in Offered.INWARD}


def kill(pair, *who: str) -> None:
    worker = pair.left.worker_pid()
    if "posternd" in who:
        pair.left.kill_daemon()
    if "worker" in who:
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: gone(worker), 5, "the worker is gone")


@pytest.mark.safety
@pytest.mark.unbalanced("what the worker had read and not sent dies with it")
@pytest.mark.parametrize("end", ("stop", "posternd", "worker", "posternd worker"))
def test_incoming_clear_packets_meet_a_node_that_ended(pair, end, scratch):
    """Fail closed in both directions: the peer's kernel forwards the flow in clear, and hA must not get it, whoever of the node still lives."""
    pair.right.teardown_running()
    if end == "stop":
        pair.left.stop()
    else:
        kill(pair, *end.split())
    with Capture(pair.hA, "eth0", scratch / "hA.pcap", "icmp") as capture, Capture(pair.w, "w1", scratch / "w.pcap", "icmp") as offered:
        traffic.ping(pair.hB, lab.host(1, "map4"), count=5, wait=1)
        assert len(offered.frames()) >= 5, "the peer sent them in clear"
        assert not capture.frames()


def snapshot(made: lab.Pairing, node) -> dict:
    """What the kernel of the node's namespace holds beside the lab's own."""
    where = node.namespace
    return {
        "devices": sorted(where.devices()),
        "routes": sorted(where.ip("route", "show", "table", "all").splitlines() + where.ip6("route", "show", "table", "all").splitlines()),
        "rules": where.ip("rule").splitlines() + where.ip6("rule").splitlines(),
        "qdiscs": sorted(where.run("tc", "qdisc", "show").stdout.split("\n")),
        "xdp": [line for line in where.ip("-d", "link").splitlines() if "xdp" in line],
        "neighbours": sorted(line for line in where.ip("neigh").splitlines() if "PERMANENT" in line or "extern" in line),
    }


@pytest.mark.parametrize("state", ["running", "stopped", "crashed"])
def test_teardown_leaves_nothing(state, scratch):
    with lab.Pairing(scratch, start=False) as made:
        before = snapshot(made, made.left)
        made.left.start()
        made.right.start()
        traffic.ping_until(made.hA, lab.host(2, "map4"))
        assert snapshot(made, made.left) != before, "a running node is visible"
        if state == "running":
            made.left.teardown_running()
        elif state == "stopped":
            made.left.stop()
            made.left.teardown()
        else:
            worker = made.left.worker_pid()
            made.left.kill_daemon()
            os.kill(worker, signal.SIGKILL)
            made.left.teardown()
        wait_until(lambda: not made.left.traces(), 5, f"no trace of {made.left.name}: {made.left.traces()}")
        after = snapshot(made, made.left)
        for what in before:
            assert after[what] == before[what], what
        made.left.start()
        traffic.ping_until(made.hA, lab.host(2, "map4"))


def test_on_stop_release_leaves_nothing(scratch):
    with lab.Pairing(scratch, on_stop="release") as made:
        traffic.ping_until(made.hA, lab.host(2, "map4"))
        assert made.left.stop() == 0
        wait_until(lambda: not made.left.traces(), 5, "released")
        assert "Tunnel0" not in made.n1.devices()


def test_second_daemon_of_a_name_is_refused(pair):
    """Two posternd of one name would fight; the second says so and ends, and the first goes on."""
    first = pair.left.process
    second = pair.left.launch()
    assert second.wait(15) != 0
    assert pair.left.name in second.log()
    pair.left.process = first
    assert first.running() and traffic.ping(pair.hA, lab.host(2, "map4")) == 3


def test_sighup_reads_the_configuration_again(pair):
    document = pair.left.document
    document["acls"][0]["rules"][0]["destination"] = "10.2.0.0/24"
    lab.documents.write(document, pair.left.config)
    pair.left.process.signal(signal.SIGHUP)
    wait_until(lambda: "10.2.0.0/24" in pair.left.postern("config", "show").stdout, 5, "the new rule is in force")
    assert traffic.ping(pair.hA, lab.host(2, "map4")) == 3


def test_the_watchdog_is_fed_by_a_posternd_that_turns(scratch, monkeypatch):
    """sd_watchdog_enabled(3): twice an interval, by the loop that does the work; one that hangs is silent, and systemd starts another."""
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    with lab.Pairing(scratch, start=False) as made:
        made.left.launch()
        notify = made.left._notify
        try:
            notify.wait_ready(made.left.process, 20)
            for _ in range(4):
                assert notify.hears("WATCHDOG=1", 5)
            made.left.process.signal(signal.SIGSTOP)
            while notify.hears("WATCHDOG=1", 0.2):  # what it said before it stopped
                continue
            assert not notify.hears("WATCHDOG=1", 1)
            made.left.process.signal(signal.SIGCONT)
            assert notify.hears("WATCHDOG=1", 5)
        finally:
            made.left.process.signal(signal.SIGCONT)
            notify.close()


def test_without_a_watchdog_nothing_is_said(scratch, monkeypatch):
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    with lab.Pairing(scratch, start=False) as made:
        made.left.launch()
        notify = made.left._notify
        try:
            notify.wait_ready(made.left.process, 20)
            assert not notify.hears("WATCHDOG=1", 1)
        finally:
            notify.close()
