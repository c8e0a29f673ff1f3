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


def enabled(root: pathlib.Path, *units: str) -> set[str]:
    """The links that `systemctl enable` makes where the units are installed, relative to /etc/systemd/system."""
    where = root / "usr/lib/systemd/system"
    where.mkdir(parents=True)
    for unit in UNITS:
        shutil.copy(TOP / "systemd" / unit, where)
    subprocess.run(["systemctl", "--root", root, "enable", *units], check=True, capture_output=True, timeout=60)
    made = root / "etc/systemd/system"
    return {str(path.relative_to(made)) for path in made.rglob("*") if path.is_symlink()}


needs_systemctl = pytest.mark.skipif(shutil.which("systemctl") is None, reason="systemctl is not installed")
NODE_LINK, GUARD_LINK = "multi-user.target.wants/posternd@N1.service", "sysinit.target.wants/postern-guard@N1.service"


@needs_systemctl
def test_a_node_is_enabled_with_its_boot_guard(tmp_path):
    assert enabled(tmp_path, "posternd@N1") >= {NODE_LINK, GUARD_LINK}


@needs_systemctl
def test_the_guard_alone_brings_no_node(tmp_path):
    made = enabled(tmp_path, "postern-guard@N1")
    assert GUARD_LINK in made and NODE_LINK not in made


@needs_systemctl
def test_a_node_is_disabled_with_its_boot_guard(tmp_path):
    enabled(tmp_path, "posternd@N1")
    subprocess.run(["systemctl", "--root", tmp_path, "disable", "posternd@N1"], check=True, capture_output=True, timeout=60)
    assert not [path for path in (tmp_path / "etc/systemd/system").rglob("*") if path.is_symlink()]
