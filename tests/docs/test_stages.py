"""What scripts/test says about its run is so: a second try is named, and what may never happen has none."""
import pathlib
import subprocess
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "scripts/test.d"))

import stages  # noqa: E402

SAFETY = '<properties><property name="safety" value="no second try"/></properties>'


def case(name: str, failed: bool = False, inside: str = "") -> str:
    return f'<testcase classname="tests.e2e.test_x" name="{name}">{inside}{"<failure/>" if failed else ""}</testcase>'


def unit(name: str, failed: bool = False) -> str:
    return f'<testcase name="{name}" classname="{name}" status="{"fail" if failed else "run"}"/>'


@pytest.fixture
def runner(tmp_path, monkeypatch):
    """One whose commands write the reports that the test wants, one after the other, and are remembered."""
    monkeypatch.setattr(stages, "LOGS", tmp_path)
    made = stages.Runner(False, None)
    made.reports, made.commands = [], []

    def command(stage: str, words: list, *_, **__) -> int:
        made.commands.append([str(word) for word in words])
        body = "".join(made.reports.pop(0))
        words = made.commands[-1]
        path = next((word.split("=", 1)[1] for word in words if word.startswith("--junitxml=")), None) or words[words.index("--output-junit") + 1]
        pathlib.Path(path).write_text(f"<testsuite>{body}</testsuite>")
        return 1 if "<failure" in body or 'status="fail"' in body else 0

    monkeypatch.setattr(made, "command", command)
    return made


def test_a_test_that_passes_at_the_second_try_is_named(runner):
    runner.reports = [[case("test_a", True), case("test_b")], [case("test_a")]]
    assert str(runner.pytest("e2e", "tests/e2e", 10)) == "2 passed, 0 failed, 0 skipped"
    assert runner.unsteady == ["tests/e2e/test_x.py::test_a"] and "tests/e2e/test_x.py::test_a" in runner.commands[1]


def test_a_unit_that_passes_at_the_second_try_is_named(runner):
    runner.reports = [[unit("test_ike", True), unit("test_maps")], [unit("test_ike")]]
    assert str(runner.ctest("units", "release")) == "2 passed, 0 failed, 0 skipped"
    assert runner.unsteady == ["test_ike"] and "^(test_ike)$" in runner.commands[1]
    assert "--repeat" not in runner.commands[0]


def test_what_fails_twice_has_failed(runner):
    runner.reports = [[unit("test_ike", True), unit("test_maps")], [unit("test_ike", True)]]
    assert str(runner.ctest("units", "release")) == "1 passed, 1 failed, 0 skipped"
    assert not runner.unsteady


def test_safety_has_no_second_try(runner):
    runner.reports = [[case("test_a", True, SAFETY), case("test_b", True), case("test_c")], [case("test_b")]]
    assert str(runner.pytest("e2e", "tests/e2e", 10)) == "2 passed, 1 failed, 0 skipped"
    assert runner.unsteady == ["tests/e2e/test_x.py::test_b"]
    assert not [word for word in runner.commands[1] if "test_a" in word]


def test_the_report_tells_what_is_safety(tmp_path):
    """By the marker, or by what the test met, through tests/conftest.py and pytest's own report."""
    (tmp_path / "conftest.py").write_text(f"import sys; sys.path.insert(0, {str(TOP)!r}); from tests.conftest import *")
    (tmp_path / "test_x.py").write_text("import pytest, safety\n@pytest.mark.safety\ndef test_a(): assert 0\ndef test_b(): assert 0\n"
                                       "def test_c(): safety.never([7], 'clear packets')\ndef test_d(): safety.never([], 'clear packets')\n")
    report = tmp_path / "report.xml"
    subprocess.run(["/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, f"--junitxml={report}", tmp_path / "test_x.py"],
                   cwd=tmp_path, capture_output=True, timeout=60)
    assert {name.rsplit(":", 1)[1]: again for name, again in stages.failed_in(report).items()} == {"test_a": False, "test_b": True, "test_c": False}


def test_leftovers_fail_the_run_and_are_named(monkeypatch, capsys):
    left = ["namespace pst1x1-N1", "/run/postern/T1a1"]
    monkeypatch.setattr(stages.leftovers, "found", lambda: list(left))
    monkeypatch.setattr(stages.leftovers, "remove", left.clear)
    told = stages.remove_leftovers("LEFT BEHIND")
    assert told and "LEFT BEHIND: namespace pst1x1-N1, /run/postern/T1a1" in capsys.readouterr().out
    assert not stages.remove_leftovers("LEFT BEHIND")
