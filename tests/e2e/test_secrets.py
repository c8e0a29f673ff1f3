"""Known key bytes are looked for wherever they must not be: cores, BPF maps, logs, JSON, files under /run."""
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess

import pytest

import lab
import traffic
from netns import run, wait_until
from node import PINS, RUN, child_pids, gone

pytestmark = pytest.mark.safety

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


def map_bytes(pin: pathlib.Path) -> bytes | None:
    """Every key and value of a pinned map; None: it is no map, or one that cannot be dumped. For maps with BTF the text form of bpftool prints the bytes of an
    array as decimals, each on its own, where no search finds them; the JSON form has them as they are as well, under "key" and "value"."""
    done = run(["bpftool", "-j", "map", "dump", "pinned", pin], check=False, timeout=60)
    if done.returncode:
        return None
    out = bytearray()

    def collect(place) -> None:
        if isinstance(place, dict):
            for name, inside in place.items():
                if name != "formatted":
                    collect(inside)
        elif isinstance(place, list) and place and all(isinstance(one, str) for one in place):
            out.extend(int(one, 16) for one in place)
        elif isinstance(place, list):
            for inside in place:
                collect(inside)

    collect(json.loads(done.stdout))
    return bytes(out)


KEYRING = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct ring { __u32 spi; __u8 cipher[16]; __u8 authenticator[32]; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct ring); } keyring SEC(".maps");
SEC("socket") int look(struct __sk_buff* skb) { __u32 zero = 0; return bpf_map_lookup_elem(&keyring, &zero) ? 1 : 0; }
char _license[] SEC("license") = "Dual BSD/GPL";
"""


@pytest.fixture
def keyring(scratch):
    """A map with BTF as the node's are, of a program that keeps keys where it must not."""
    (scratch / "keyring.c").write_text(KEYRING)
    program = scratch / "keyring.o"
    run([shutil.which("clang-19") or "clang", "--target=bpf", "-O2", "-g", "-I/usr/include/x86_64-linux-gnu", "-c", scratch / "keyring.c", "-o", program])
    pins = PINS.parent / f"postern-secrets-{os.getpid()}"
    try:
        pins.mkdir()
        run(["bpftool", "prog", "load", program, pins / "look", "pinmaps", pins])
        yield pins / "keyring"
    finally:
        shutil.rmtree(pins, ignore_errors=True)


def test_the_search_finds_a_key_in_a_map(pair, keyring):
    sa = pair.flows.map4.to_left
    assert not leaks(pair.flows, map_bytes(keyring))
    value = sa.spi.to_bytes(4, "little") + sa.cipher_key + sa.auth_key
    run(["bpftool", "map", "update", "pinned", keyring, "key", 0, 0, 0, 0, "value", *value])
    assert "cipher" in run(["bpftool", "map", "dump", "pinned", keyring]).stdout, "it has BTF, as the node's maps have"
    assert {f"cipher of {sa.spi:#x} raw", f"authenticator of {sa.spi:#x} raw"} <= set(leaks(pair.flows, map_bytes(keyring)))


def test_maps_hold_no_key(pair):
    pins = [path for path in (PINS / pair.left.name).rglob("*") if path.is_file()]
    dumps = {pin: data for pin in pins if (data := map_bytes(pin)) is not None}
    assert len(dumps) >= 8 and sum(map(len, dumps.values())) > 10_000, f"dumped {len(dumps)} of {len(pins)} pins"
    for pin, data in dumps.items():
        assert not leaks(pair.flows, data), pin


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


DAEMONS = ["posternd", "postern-worker", "postern-ike"]


def pid_of(node, who: str) -> int:
    if who == "posternd":
        return node.process.pid
    found = [pid for pid in child_pids(node.name) if pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].endswith(who.encode())]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("who", DAEMONS)
def test_no_process_may_write_a_core(pair, who):
    """The node was started by somebody who allows cores of any size (see `pair`); each process forbade it to itself, for good."""
    limits = pathlib.Path(f"/proc/{pid_of(pair.left, who)}/limits").read_text()
    assert re.search(r"^Max core file size +0 +0 ", limits, re.M), limits


def core_left_by_another(here: pathlib.Path) -> bool:
    process = subprocess.Popen(["sleep", "60"], cwd=here)
    os.kill(process.pid, signal.SIGABRT)
    process.wait(10)
    cores = core_files([here])
    for core in cores:
        core.unlink()
    return bool(cores)


@pytest.mark.unbalanced("one of the node's processes dies")
@pytest.mark.parametrize("who", DAEMONS)
def test_abort_leaves_no_core(who, scratch, monkeypatch):
    """A crash where whoever started the node allows cores and the kernel has a directory to write them to."""
    monkeypatch.chdir(scratch)
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    places = [scratch, pathlib.Path("/"), pathlib.Path("/var/lib/systemd/coredump")]
    try:
        if pathlib.Path("/proc/sys/kernel/core_pattern").read_text().strip() == "core":  # else somebody else keeps them, wherever that is
            assert core_left_by_another(scratch), "who does not forbid it leaves one here"
        with lab.Pairing(scratch / "lab") as made:
            traffic.ping_until(made.hA, lab.host(2, "map4"))
            before, pid = core_files(places), pid_of(made.left, who)
            os.kill(pid, signal.SIGABRT)
            wait_until(lambda: gone(pid) or made.left.process.popen.poll() is not None, 20, f"{who} aborts")
            assert core_files(places) == before
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
