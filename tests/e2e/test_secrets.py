"""Known key bytes are looked for wherever they must not be: cores, BPF maps, logs, JSON, files under /run."""
import os
import pathlib
import resource
import signal

import pytest

import lab
import traffic
from netns import run, wait_until
from node import PINS, RUN, child_pids, gone

SHOWS = [("crypto", "map"), ("crypto", "ipsec", "sa"), ("crypto", "session"), ("dataplane",), ("interface", "tunnel", "0")]


def needles(flows: lab.Flows) -> dict[str, bytes]:
    """Each key as bytes and as text. Short of a whole key: half of one is a leak as well."""
    found = {}
    for sa in flows.all():
        for what, key in (("cipher", sa.cipher_key), ("authenticator", sa.auth_key)):
            for part in (key[:16], key[-16:]):
                found[f"{what} of {sa.spi:#x} raw"] = part
                found[f"{what} of {sa.spi:#x} hex"] = part.hex().encode()
                found[f"{what} of {sa.spi:#x} HEX"] = part.hex().upper().encode()
                found[f"{what} of {sa.spi:#x} bpftool"] = b" ".join(b"%02x" % byte for byte in part)
    return found


def leaks(flows: lab.Flows, data: bytes) -> list[str]:
    return [name for name, needle in needles(flows).items() if needle in data]


@pytest.fixture(scope="module")
def pair(module_scratch):
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY if hard == resource.RLIM_INFINITY else hard, hard))
    try:
        with lab.Pairing(module_scratch) as made:
            for flow in ("map4", "tunnel4"):
                traffic.ping_until(made.hA, lab.host(2, flow), source=lab.host(1, flow))
                assert traffic.ping(made.hA, lab.host(2, flow), count=50, interval=0.01, source=lab.host(1, flow)) == 50
            yield made
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def test_the_search_finds_what_is_there(pair):
    """The configuration file holds the keys of one node: the same search must say so."""
    assert len(leaks(pair.flows, pair.left.config.read_bytes())) >= 16
    raw = pair.flows.map4.to_left.cipher_key
    assert leaks(pair.flows, b"before" + raw + b"after")
    assert not leaks(pair.flows, os.urandom(1 << 16))


@pytest.mark.parametrize("who", ["posternd", "postern-worker", "postern-ike"])
def test_core_of_a_running_process(pair, who, scratch):
    """gcore writes what a core dump would hold: memory that is excluded from dumps is excluded here too."""
    pids = [pair.left.process.pid] if who == "posternd" else [pid for pid in child_pids(pair.left.name)
                                                             if who.encode() in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(pids) == 1
    run(["gcore", "-o", scratch / "core", pids[0]], timeout=120, check=False)
    cores = list(scratch.glob("core.*"))
    for core in cores:
        data = core.read_bytes()
        assert len(data) > 100_000, "a core that holds nothing proves nothing"
        assert not leaks(pair.flows, data)
        core.unlink()
    if not cores:  # the kernel let nobody look: as good
        assert "ptrace" in run(["gcore", "-o", scratch / "again", pids[0]], timeout=120, check=False).stderr
    assert traffic.ping(pair.hA, lab.host(2, "map4")) == 3


def test_maps_hold_no_key(pair):
    pins = [path for path in (PINS / pair.left.name).rglob("*") if path.is_file()]
    dumped = 0
    for pin in pins:
        done = run(["bpftool", "map", "dump", "pinned", pin], check=False, timeout=60)
        dumped += done.returncode == 0
        assert not leaks(pair.flows, (done.stdout + done.stderr).encode()), pin
    assert dumped >= 8, f"dumped {dumped} of {len(pins)} pins"


def test_outputs_hold_no_key(pair):
    for words in SHOWS:
        for json_output in (False, True):
            done = pair.left.postern("show", *words, json_output=json_output)
            assert done.stdout and not leaks(pair.flows, done.stdout.encode()), words
    for json_output in (False, True):
        done = pair.left.postern("config", "show", json_output=json_output)
        assert "session_key" in done.stdout and not leaks(pair.flows, done.stdout.encode())


def test_files_logs_and_command_lines_hold_no_key(pair):
    assert not leaks(pair.flows, pair.left.process.log().encode())
    for path in (RUN / pair.left.name).rglob("*"):
        if path.is_file():
            assert not leaks(pair.flows, path.read_bytes()), path
    for pid in [pair.left.process.pid, *child_pids(pair.left.name)]:
        for name in ("cmdline", "environ"):
            assert not leaks(pair.flows, pathlib.Path(f"/proc/{pid}/{name}").read_bytes())


def test_error_messages_hold_no_key(pair, scratch):
    document = lab.documents.variant(pair.left.document)
    document["crypto_maps"][0]["entries"][0]["session_key"]["inbound"]["esp"]["cipher"] += "00"
    done = pair.left.apply(document, check=False)
    assert done.returncode == 1 and not leaks(pair.flows, (done.stdout + done.stderr).encode())
    assert not leaks(pair.flows, pair.left.process.log().encode())


def core_files(where: list[pathlib.Path]) -> set[pathlib.Path]:
    return {path for directory in where for path in directory.glob("*core*") if path.is_file()}


@pytest.mark.parametrize("who", ["postern-worker", "posternd"])
def test_abort_leaves_no_key(who, scratch):
    """A crash with core files allowed: whatever the kernel writes holds no key."""
    places = [scratch, pathlib.Path("/"), pathlib.Path("/var/lib/systemd/coredump"), pathlib.Path.cwd()]
    with lab.Pairing(scratch / "lab") as made:
        traffic.ping_until(made.hA, lab.host(2, "map4"))
        before = core_files(places)
        pid = made.left.worker_pid() if who == "postern-worker" else made.left.process.pid
        os.kill(pid, signal.SIGABRT)
        wait_until(lambda: gone(pid) or made.left.process.popen.poll() is not None, 20, f"{who} aborts")
        for core in core_files(places) - before:
            data = core.read_bytes()
            core.unlink()
            assert not leaks(made.flows, data)
