"""The systemd units: systemd accepts them, and what they allow is what posternd keeps."""
import pathlib
import re
import shutil
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
UNITS = ["posternd@.service", "postern-guard@.service"]


def rendered(tmp_path: pathlib.Path) -> list[pathlib.Path]:
    """As installed, with a program that exists in place of posternd: verify looks for it."""
    out = []
    for unit in UNITS:
        text = (TOP / "systemd" / unit).read_text()
        path = tmp_path / unit.replace("@", "@n1")
        path.write_text(text.replace("/usr/bin/posternd", shutil.which("true")))
        out.append(path)
    return out


def complaints(path: pathlib.Path) -> str:
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, timeout=60)
    return "\n".join(line for line in done.stderr.splitlines() if path.name in line or str(path) in line)


needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@needs_systemd
def test_systemd_accepts_the_units(tmp_path):
    for path in rendered(tmp_path):
        assert complaints(path) == ""


@needs_systemd
def test_a_misspelt_directive_is_seen(tmp_path):
    path = rendered(tmp_path)[0]
    path.write_text(path.read_text().replace("KillMode=", "KillMood="))
    assert "KillMood" in complaints(path)


def test_the_unit_grants_what_posternd_keeps():
    unit = (TOP / "systemd/posternd@.service").read_text()
    granted = set(re.search(r"^CapabilityBoundingSet=(.*)$", unit, re.M)[1].split())
    kept = set(re.findall(r"\bCAP_[A-Z_]+", re.search(r"kept = \{(.*?)\}", (TOP / "loader/privileges.cpp").read_text(), re.S)[1]))
    assert kept == granted


def test_children_survive_a_crash_of_posternd():
    assert "KillMode=process" in (TOP / "systemd/posternd@.service").read_text()
