"""scripts/up and scripts/down, as a user runs them: the lab stands and carries traffic, and afterwards nothing is left of it."""
import os
import pathlib
import re
import signal
import subprocess

import pytest

from node import PINS, RUN, TOP, child_pids

pytestmark = pytest.mark.alone  # iperf3 takes what there is

NAME = f"u{os.getpid() % 10**7}"  # beside a lab that somebody uses


def script(name: str, *words: str) -> subprocess.CompletedProcess:
    """Without its set-up, which is the build that this test runs on."""
    return subprocess.run([TOP / "scripts" / name, *words], capture_output=True, text=True, timeout=180,
                          env={**os.environ, "POSTERN_SET_UP": "1", "POSTERN_LAB": NAME, "POSTERN_LAB_SECONDS": "1"})


def traces() -> set[str]:
    """Of a lab of this name, and everything in the machine's own namespace that it could have touched."""
    left = {str(path) for where in (pathlib.Path("/run/netns"), RUN, PINS, pathlib.Path("/run")) if where.is_dir()
            for path in where.iterdir() if NAME in path.name}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if NAME in command:
                left.add(f"process {command}")
    links = re.findall(r"^\d+: ([^:@]+)", subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout, re.M)
    return left | {f"link {name}" for name in links if NAME in name or name.startswith("Tunnel")}


@pytest.fixture
def before():
    found = traces()
    try:
        yield found
    finally:
        script("down")


@pytest.mark.parametrize("keys", ("", "--manual"))
def test_up_and_down(keys, before):
    assert not before
    up = script("up", *keys.split())
    assert up.returncode == 0, up.stdout + up.stderr
    assert up.stdout.count("5 of 5 answered") == 4, up.stdout
    assert re.search(r"result: crypto map \d+\.\d\d Gb/s, tunnel \d+\.\d\d Gb/s", up.stdout), up.stdout
    assert up.stdout.count(f"Session status: {'UP-NO-IKE' if keys else 'UP-ACTIVE'}") >= 8, up.stdout
    assert "Try next" in up.stdout
    standing = traces()
    for what in (f"/run/netns/pst{NAME}-N1", str(RUN / f"{NAME}N1"), str(PINS / f"{NAME}N2"), f"/run/postern-lab-{NAME}"):
        assert what in standing, standing
    down = script("down")
    assert down.returncode == 0 and "is removed" in down.stdout, down.stdout + down.stderr
    assert traces() == before
    again = script("down")
    assert again.returncode == 0 and "no lab" in again.stdout


def test_down_takes_what_a_crash_left(before):
    """Everything of the lab was killed: nobody is there to be asked."""
    assert script("up", "--manual").returncode == 0
    nodes = [f"{NAME}N{side}" for side in (1, 2)]
    daemons = [int(pathlib.Path(f"/run/postern-lab-{NAME}/{node}.pid").read_text()) for node in nodes]
    for pid in [*daemons, *(pid for node in nodes for pid in child_pids(node))]:
        os.kill(pid, signal.SIGKILL)
    assert script("down").returncode == 0
    assert traces() == before


def test_up_refuses_words_that_it_does_not_know(before):
    done = script("up", "--manuel")
    assert done.returncode != 0 and "usage" in done.stderr and traces() == before
