"""What tests left in the system: namespaces, nodes, pins and processes named after a process of tests that is gone.

A lab names its namespaces pst<PID>x<N>-<LABEL> and its nodes T<PID><LETTER><N> (lab.py, peer.py), that of test_up.py pstu<PID>-<LABEL> and u<PID>N<N>; pins
outside a node's own carry the pid as well.
So whoever finds something knows whether its owner may still need it, also where several runs share a machine."""
import contextlib
import os
import pathlib
import re
import shutil
import signal

from netns import run, wait_until
from node import PINS, PROGRAMS, RUN, gone

NAMESPACES = pathlib.Path("/run/netns")
BPF = PINS.parent
LAB = re.compile(r"postern-lab-u(\d+)$")
NAMESPACE, NODE, PIN = re.compile(r"pstu?(\d+)(?:x\d+)?-"), re.compile(r"[Tu](\d+)[abpN]\d*$"), re.compile(r"postern-(?:io|test|secrets)-(\d+)")
PROGRAM = re.compile(r"posternd?(-\w+)?$")


def _entries(where: pathlib.Path) -> list[str]:
    return [path.name for path in where.iterdir()] if where.is_dir() else []


def _processes() -> list[tuple[int, str]]:
    """Pid and node of each of our daemons that names a node."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            words = (entry / "cmdline").read_text(errors="replace").split("\0") if entry.name.isdigit() else [""]
            if PROGRAM.match(pathlib.PurePath(words[0]).name) and not gone(int(entry.name)):
                name = words[words.index("--name" if "--name" in words else "--node") + 1]
                found.append((int(entry.name), name))
    return found


def _living(owner: str) -> bool:
    """Whether a process of tests has this pid: Python's, or a unit test's."""
    try:
        first = pathlib.Path(f"/proc/{owner}/cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return False
    return b"python" in first or b"test_" in first


def _abandoned(pattern: re.Pattern, names: list[str]) -> list[str]:
    return sorted(name for name in set(names) if (match := pattern.match(name)) and not _living(match[1]))


def nodes() -> list[str]:
    return _abandoned(NODE, [*_entries(RUN), *_entries(PINS), *(name for _, name in _processes())])


def _directories() -> list[pathlib.Path]:
    """Beside those of nodes."""
    return [where / name for where, pattern in ((BPF, PIN), (RUN.parent, LAB)) for name in _abandoned(pattern, _entries(where))]


def found() -> list[str]:
    """Everything that no living test answers for, in words."""
    left = [f"process {pid} of node {name}" for pid, name in _processes() if name in nodes()]
    left += [f"namespace {name}" for name in _abandoned(NAMESPACE, _entries(NAMESPACES))]
    left += [str(where / name) for where in (RUN, PINS) for name in _abandoned(NODE, _entries(where))]
    return left + [str(path) for path in _directories()]


def end(pids: list[int], seconds: float = 10) -> None:
    """SIGTERM, and SIGKILL for who does not obey."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: all(gone(pid) for pid in pids), seconds, "they end", patience=1)
            return


def remove_node(name: str, namespace: str | None) -> None:
    """posternd first, for it starts its children again; then all that it made; then the children, which outlive it by design."""
    daemons = [pid for pid, node in _processes() if node == name and b"posternd" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]]
    end(daemons)
    if (PROGRAMS / "posternd").exists() and ((RUN / name).exists() or (PINS / name).exists()):
        run([PROGRAMS / "posternd", "--name", name, *(["--netns", namespace] if namespace else []), "--teardown"], timeout=60, check=False)
    end([pid for pid, node in _processes() if node == name])
    for where in (PINS, RUN):
        shutil.rmtree(where / name, ignore_errors=True)


def remove_namespace(name: str) -> None:
    end([int(pid) for pid in run(["ip", "netns", "pids", name], check=False).stdout.split()])
    run(["ip", "netns", "del", name], check=False)


def remove() -> None:
    """All of found(). What a node made in its namespace goes with it."""
    for name in nodes():
        remove_node(name, None)
    for name in _abandoned(NAMESPACE, _entries(NAMESPACES)):
        remove_namespace(name)
    for path in _directories():
        shutil.rmtree(path, ignore_errors=True)
