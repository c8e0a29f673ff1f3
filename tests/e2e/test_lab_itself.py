"""The instruments before the measurements: labs clean up, captures are whole, the oracle sees what is planted."""
import os
import pathlib
import signal
import subprocess
import textwrap

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

import documents
import lab
import leftovers
import traffic
from capture import Capture
from netns import Lab, wait_until
from node import TOP
from oracle import Oracle, association, esp_bytes, seal_bytes
from udp_stream import number_of, payload


def namespaces(pid: int | None = None) -> set[str]:
    """Those of one process, this one by default: other tests may run beside."""
    there = pathlib.Path("/run/netns")
    return {path.name for path in there.glob(f"pst{pid or os.getpid()}x*")} if there.is_dir() else set()


def test_a_lab_leaves_nothing(scratch):
    before = namespaces()
    with lab.Gateways(scratch) as made:
        assert len(namespaces() - before) == 5
        process = made.hA.spawn("sleep", "600")
        assert traffic.ping(made.hA, lab.host(2, "map4")) == 3
        assert traffic.ping(made.hA, lab.host(2, "map6")) == 3
    assert namespaces() == before
    assert not process.running()


def test_a_lab_leaves_nothing_when_its_test_fails(scratch):
    before = namespaces()
    with pytest.raises(RuntimeError), Lab(scratch) as made:
        made.namespace("X").spawn("sleep", "600")
        raise RuntimeError("planted")
    assert namespaces() == before


def test_clear_traffic_is_found_in_a_capture(scratch):
    """Without nodes all 500 packets cross W in clear, and the check of the other tests says so."""
    with lab.Gateways(scratch) as made, Capture(made.w, "w1", scratch / "w.pcap") as capture:
        sent, received = traffic.stream(made.hA, made.hB, lab.host(2, "map4"), count=500, rate=1000)
        found = Oracle(lab.fresh_flows().all()).examine(capture.frames())
    assert sent["sent"] == received["distinct"] == 500
    numbers = {number_of(bytes(packet[UDP].payload)) for packet in found.clear if packet.haslayer(UDP)}
    assert numbers == set(range(500))
    with pytest.raises(AssertionError, match="clear packets"):
        found.assert_protected()


def frames(*packets):
    return [Ether(bytes(Ether() / packet)) for packet in packets]


def test_oracle_opens_and_refuses():
    sa, other = documents.fresh_sa(0x1001), documents.fresh_sa(0x1002)
    inner = IP(src="10.1.0.2", dst="10.2.0.2") / UDP(sport=1, dport=2) / Raw(payload(7, 64))
    sealed = association(sa).encrypt(inner, seq_num=1)
    damaged = bytearray(bytes(sealed))
    damaged[-1] ^= 1
    six = association(sa, "2001:db8::1", "2001:db8::2").encrypt(IPv6() / UDP() / Raw(b"six"), seq_num=2)
    good = Oracle([sa, other]).examine(frames(sealed, six))
    good.assert_protected()
    assert [one.sequence for one in good.opened] == [1, 2]
    assert number_of(bytes(good.opened[0].inner[UDP].payload)) == 7
    for packets, complaint in (((sealed, sealed), "used twice"), ((IP(bytes(damaged)),), "did not open"), ((sealed, inner), "clear packets")):
        with pytest.raises(AssertionError, match=complaint):
            Oracle([sa]).examine(frames(*packets)).assert_protected()
    with pytest.raises(AssertionError, match="unknown SPIs"):
        Oracle([other]).examine(frames(sealed)).assert_protected()


def test_hand_sealed_packets_are_esp():
    """What the negative tests build by hand opens when nothing in it is wrong."""
    for transforms in (("esp-aes", "esp-sha256-hmac"), ("esp-aes 256", "esp-sha-hmac")):
        sa = documents.fresh_sa(0x1001, transforms)
        clear = bytes(IP(src="10.2.0.2", dst="10.1.0.2") / UDP() / Raw(b"by hand"))
        packet = IP(src="192.0.2.2", dst="192.0.2.1", proto=50) / Raw(seal_bytes(sa, 5, clear, 4))
        found = Oracle([sa]).examine(frames(packet))
        found.assert_protected()
        assert bytes(found.opened[0].inner) == clear


def test_esp_in_udp_is_recognised():
    sa = documents.fresh_sa(0x1001)
    sealed = association(sa).encrypt(IP() / UDP() / Raw(b"x"), seq_num=1)
    in_udp = IP() / UDP(sport=4500, dport=40000) / Raw(esp_bytes(sealed))
    assert esp_bytes(in_udp) == esp_bytes(sealed) and esp_bytes(sealed)[:4] == bytes.fromhex("00001001")
    keepalive = IP() / UDP(sport=4500, dport=4500) / Raw(b"\xff")
    ike = IP() / UDP(sport=4500, dport=4500) / Raw(bytes(4) + b"marker and then IKE")
    assert esp_bytes(keepalive) is None and esp_bytes(ike) is None


def test_stream_payloads_are_known_byte_by_byte():
    data = payload(300, 200)
    assert number_of(data) == 300
    assert number_of(data[:-1] + bytes([data[-1] ^ 1])) is None
    assert number_of(b"something else" * 10) is None


def test_sigterm_cleans_up(scratch):
    """A run that is told to end leaves nothing either."""
    program = ("import pathlib, signal, sys, time; sys.path.insert(0, sys.argv[1]); import lab\n"
               "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
               "with lab.Gateways(pathlib.Path(sys.argv[2])): print('up', flush=True); time.sleep(60)")
    child = subprocess.Popen(["/usr/bin/python3", "-c", program, pathlib.Path(lab.__file__).parent, scratch],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert child.stdout.readline() == "up\n"
    assert len(namespaces(child.pid)) == 5
    child.terminate()
    child.wait(20)
    assert namespaces(child.pid) == set()


@pytest.mark.slow  # it waits longer than pytest-xdist would
def test_sigterm_cleans_up_beside_others(scratch):
    """So does one of several processes, whose starter is told: pytest-xdist alone would give it seconds, and kill it."""
    (scratch / "test_waits.py").write_text(textwrap.dedent(f"""
        import os, pathlib, sys, threading
        sys.path.insert(0, {str(TOP / "tests/lib")!r})
        import lab, netns

        def test_waits(tmp_path):
            with lab.Gateways(tmp_path) as made:
                made.callback(threading.Event().wait, 12)
                pathlib.Path({str(scratch)!r}, "pid").write_text(str(os.getpid()))
                threading.Event().wait(120)
    """))
    (scratch / "conftest.py").write_text(f"import sys; sys.path.insert(0, {str(TOP)!r}); from tests.conftest import *")
    log = (scratch / "log").open("wb")
    child = subprocess.Popen(["/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "1", "--rootdir", scratch, scratch / "test_waits.py"],
                             stdout=log, stderr=log, cwd=scratch)
    try:
        worker = wait_until(lambda: (scratch / "pid").exists() and (scratch / "pid").read_text(), 20, "the lab stands")
        assert len(namespaces(int(worker))) == 5
    finally:
        child.terminate()
        child.wait(60)
    assert namespaces(int(worker)) == set(), (scratch / "log").read_text()


def test_what_a_killed_run_left_is_found_and_removed(scratch):
    """Nobody can clean up after SIGKILL: the next run does (scripts/test.d/stages.py)."""
    program = ("import pathlib, sys, time; sys.path.insert(0, sys.argv[1]); import lab\n"
               "made = lab.Gateways(pathlib.Path(sys.argv[2])); flows = lab.fresh_flows()\n"
               "node = made.node(1, lab.gateway_document(1, flows)); node.start(); print(node.name, flush=True); time.sleep(600)")
    child = subprocess.Popen(["/usr/bin/python3", "-c", program, pathlib.Path(lab.__file__).parent, scratch], stdout=subprocess.PIPE, text=True)
    try:
        name = child.stdout.readline().strip()
        assert name and not [one for one in leftovers.found() if name in one or f"pst{child.pid}x" in one], "its owner lives"
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(20)
    mine = [one for one in leftovers.found() if name in one or f"pst{child.pid}x" in one]
    assert {one.split()[0] for one in mine} >= {"process", "namespace", f"/run/postern/{name}", f"/sys/fs/bpf/postern/{name}"}, mine
    leftovers.remove()
    assert not [one for one in leftovers.found() if name in one or f"pst{child.pid}x" in one]
