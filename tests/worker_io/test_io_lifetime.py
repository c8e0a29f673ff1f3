"""The worker as a process: its channel, its devices coming and going, its cage, its end."""
import os
import pathlib
import signal
import socket
import sys

import pytest

from scapy.layers.inet import ICMP

from netns import run, wait_until
from oracle import esp_bytes
from worker_bench import BUILD, NODE, PEER, Bench


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
    assert devices[f"8:{either.node.ifindex('out0')}"]["tx"] >= 1
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
