#!/usr/bin/env python3
"""Removes the lab of scripts/up, however far it came and whatever died meanwhile."""
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests/lib"))

from netns import run, wait_until
from node import PINS, PROGRAMS, RUN, child_pids, gone

HOME = pathlib.Path("/run/postern-lab")
PREFIX = "pst-"
NAMESPACES = [f"{PREFIX}{label}" for label in ("hA", "N1", "W", "N2", "hB")]
NODES = ("N1", "N2")


def end_daemon(name: str) -> None:
    """The posternd that up.py started: its pid is on file; the name of the process is compared, for pids are used again."""
    try:
        pid = int((HOME / f"{name}.pid").read_text())
        if b"posternd" not in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
            return
        os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: gone(pid), 10, f"{name} stops")
        if not gone(pid):
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: gone(pid), 5, f"{name} is killed")
    except (OSError, ValueError):
        return


def remove_node(name: str) -> None:
    end_daemon(name)
    program = PROGRAMS / "posternd"
    if program.exists() and ((RUN / name).exists() or (PINS / name).exists()):
        subprocess.run([program, "--name", name, "--netns", f"{PREFIX}{name}", "--teardown"], timeout=60, check=False)
    for pid in child_pids(name):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def remove() -> bool:
    """Whether there was anything."""
    existing = [name for name in NAMESPACES if pathlib.Path(f"/run/netns/{name}").exists()]
    if not existing and not HOME.exists():
        return False
    for name in NODES:
        remove_node(name)
    for name in existing:
        for pid in run(["ip", "netns", "pids", name], check=False).stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        run(["ip", "netns", "del", name], check=False)
    for name in NODES:
        for left in (PINS / name, RUN / name):
            shutil.rmtree(left, ignore_errors=True)
    shutil.rmtree(HOME, ignore_errors=True)
    return True


if __name__ == "__main__":
    print("down: the lab is removed" if remove() else "down: there is no lab")
