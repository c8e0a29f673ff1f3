"""What scripts/test says about its run is so: a second try is named, and what may never happen has none."""
import os
import pathlib
import subprocess
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "scripts/test.d"))

import caller  # noqa: E402
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


# -- the seconds of a fuzzer are those of its CPU

FUZZER = """#!/usr/bin/python3
import os, sys, time
open(os.environ["ROUNDS"], "a").write(" ".join(sys.argv[1:]) + "\\n")
busy, asleep, status = os.environ["BEHAVES"].split()
time.sleep(float(asleep))
while time.process_time() < float(busy):
    pass
sys.exit(int(status))
"""


@pytest.fixture
def fuzzer(tmp_path, monkeypatch):
    """Called with how one behaves (CPU seconds a round, seconds asleep, exit status), and how many seconds are wanted: what the stage counts, the rounds."""
    monkeypatch.setattr(stages, "LOGS", tmp_path)
    monkeypatch.setattr(stages, "SHORTEST_ROUND", 1)
    program, rounds = tmp_path / "fuzz_x", tmp_path / "rounds"
    program.write_text(FUZZER)
    program.chmod(0o755)

    def run(behaves: str, seconds: float) -> tuple[str, list[str]]:
        monkeypatch.setenv("BEHAVES", behaves)
        monkeypatch.setenv("ROUNDS", str(rounds))
        monkeypatch.setitem(stages.FUZZERS, "fuzz_x", (seconds, seconds))
        rounds.unlink(missing_ok=True)
        return str(stages.Runner(False, None).fuzz_one("fuzz", program)), rounds.read_text().splitlines()

    return run


def test_a_fuzzer_that_only_had_what_others_left_goes_on(fuzzer, tmp_path):
    counts, rounds = fuzzer("0.3 0.2 0", 0.8)
    assert counts == "1 passed, 0 failed, 0 skipped" and len(rounds) == 3
    assert all("-max_total_time=1 " in one for one in rounds)
    assert "0.8 were wanted" in (tmp_path / "fuzz-fuzz_x.log").read_text()


def test_one_that_had_its_seconds_has_one_round(fuzzer):
    counts, rounds = fuzzer("0.3 0 0", 0.2)
    assert counts == "1 passed, 0 failed, 0 skipped" and len(rounds) == 1


def test_a_fuzzer_that_found_something_fails_at_once(fuzzer):
    counts, rounds = fuzzer("0.1 0 77", 0.8)
    assert counts == "0 passed, 1 failed, 0 skipped" and len(rounds) == 1


def test_a_fuzzer_that_gets_no_cpu_fails_in_the_end(fuzzer, monkeypatch, tmp_path):
    monkeypatch.setattr(stages, "FUZZ_PATIENCE", 0)
    counts, _ = fuzzer("0 0.6 0", 1)
    assert counts == "0 passed, 1 failed, 0 skipped" and "1 were wanted" in (tmp_path / "fuzz-fuzz_x.log").read_text()


def test_sixty_seconds_of_what_anybody_can_send():
    assert stages.FUZZERS["fuzz_esp"][0] >= 60 and stages.FUZZERS["fuzz_config"][0] >= 60
    assert all(normal >= 20 and full >= 240 for normal, full in stages.FUZZERS.values())


def test_only_what_is_needed_is_built():
    assert stages.chosen("docs")[0] == ["build-release", "docs"]
    assert stages.chosen("test_cli") == (["build-release", *stages.TESTS], "test_cli")
    assert "build-debug" not in stages.chosen(None)[0] and "build-debug" in stages.chosen(None, full=True)[0]
    assert stages.BUILDS["build-asan"] == ("asan", stages.SANITIZED)


# -- behind sudo

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as somebody else")


@pytest.fixture
def tree_of_somebody(tmp_path, monkeypatch):
    os.chown(tmp_path, 65534, 65534)
    monkeypatch.setenv("SUDO_UID", "65534")
    monkeypatch.setattr(caller, "TOP", tmp_path)
    return tmp_path


@as_root
def test_what_compiles_runs_as_the_caller(tree_of_somebody, monkeypatch):
    logs = tree_of_somebody / "build/logs"
    monkeypatch.setattr(stages, "LOGS", logs)
    runner = stages.Runner(False, None)
    assert logs.stat().st_uid == logs.parent.stat().st_uid == 65534, "before anything is built"
    assert runner.command("x", ["sh", "-c", "id -u; id -G; echo $HOME"], compiles=True) == 0
    assert (logs / "x.log").read_text().splitlines()[1:] == ["65534", "65534", "/nonexistent"]
    runner.command("y", ["id", "-u"])
    assert (logs / "y.log").read_text().splitlines()[1:] == ["0"], "tests need root"


@as_root
def test_what_root_made_is_given_back(tree_of_somebody, monkeypatch, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "root's"
    elsewhere.write_text("")
    build = tree_of_somebody / "build"
    (build / "a").mkdir(parents=True)
    (build / "a/file").write_text("")
    (build / "link").symlink_to(elsewhere)
    caller.give_back(build)
    assert {path.lstat().st_uid for path in (build, *build.rglob("*"))} == {65534}
    assert elsewhere.stat().st_uid == 0, "links are not followed"
    os.chown(tree_of_somebody, 0, 0)
    (build / "file").write_text("")
    caller.give_back(build)
    assert (build / "file").stat().st_uid == 0, "root's own tree is root's"
