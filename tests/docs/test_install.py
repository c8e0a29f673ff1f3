"""`cmake --install build/release`: what is installed is whole, and the units name it."""
import os
import pathlib
import re
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = {"posternd", "postern", "postern-worker", "postern-ike", "postern-pki", "postern-resolver"}
UNITS = ("posternd@.service", "postern-guard@.service")


@pytest.fixture(scope="module", params=(None, "/usr"), ids=("as configured", "--prefix /usr"))
def installed(request, tmp_path_factory):
    """The directory that stands for /, and the prefix below it."""
    root = tmp_path_factory.mktemp("root")
    more = ["--prefix", request.param] if request.param else []
    subprocess.run(["cmake", "--install", TOP / "build/release", *more], env={**os.environ, "DESTDIR": str(root)}, check=True, capture_output=True, timeout=120)
    return root, root / (request.param or "/usr/local").lstrip("/")


def test_programs_and_no_others(installed):
    _, prefix = installed
    assert {path.name for path in (prefix / "bin").iterdir()} == PROGRAMS
    assert all(os.access(path, os.X_OK) for path in (prefix / "bin").iterdir())
    assert subprocess.run([prefix / "bin/postern", "--version"], check=True, capture_output=True, text=True, timeout=30).stdout.strip()


@pytest.mark.parametrize("unit", UNITS)
def test_units_name_what_was_installed(installed, unit):
    root, prefix = installed
    path = prefix / "lib/systemd/system" / unit
    program = re.search(r"^ExecStart=(\S+)", path.read_text(), re.M)[1]
    assert (root / program.lstrip("/")).exists() and root / program.lstrip("/") == prefix / "bin/posternd"
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.read_text().replace(program, "/usr/bin/posternd") == (TOP / "systemd" / unit).read_text(), "nothing else of it changed"


@pytest.mark.parametrize("page", sorted(path.name for path in (TOP / "docs/man").iterdir()))
def test_man_pages_are_where_man_looks(installed, page):
    _, prefix = installed
    assert (prefix / "share/man" / f"man{page.rsplit('.', 1)[1]}" / page).read_text() == (TOP / "docs/man" / page).read_text()


def test_completion_and_schema(installed):
    _, prefix = installed
    completion = prefix / "share/bash-completion/completions/postern"
    subprocess.run(["bash", "-n", completion], check=True, timeout=30)
    assert (prefix / "share/postern/schema.json").read_text() == (TOP / "config/schema.json").read_text()


def test_the_readme_says_how():
    text = (TOP / "README.md").read_text()
    assert "sudo cmake --install build/release" in text and "systemctl enable --now posternd@" in text
