"""What scripts/test says about its run is so: a second try is named, and what may never happen has none."""
import os
import pathlib
import re
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

    def command(stage: str, words: list, **__) -> int:
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
import os, signal, sys, time
pace, seconds, status = os.environ["BEHAVES"].split()
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0))
open(os.environ["STARTS"], "a").write(" ".join(sys.argv[1:]) + "\\n")
until, began = time.monotonic() + float(seconds), time.process_time()
while time.monotonic() < until:
    if pace == "busy":
        continue
    time.sleep(0.01)  # as in the class that has what others leave
    while pace == "starved" and time.process_time() - began < 0.003:
        pass
    began = time.process_time()
sys.exit(int(status))
"""


@pytest.fixture
def fuzzer(tmp_path, monkeypatch):
    """Called with how one behaves (busy, starved or asleep; for how long; its exit status then), and how many seconds are wanted: what the stage counts, and
    how it was started."""
    monkeypatch.setattr(stages, "LOGS", tmp_path)
    program, starts = tmp_path / "fuzz_x", tmp_path / "starts"
    program.write_text(FUZZER)
    program.chmod(0o755)

    def run(behaves: str, seconds: float) -> tuple[str, list[str]]:
        monkeypatch.setenv("BEHAVES", behaves)
        monkeypatch.setenv("STARTS", str(starts))
        monkeypatch.setitem(stages.FUZZERS, "fuzz_x", (seconds, seconds))
        return str(stages.Runner(False, None).fuzz_one("fuzz", program)), starts.read_text().splitlines()

    return run


@pytest.mark.parametrize("pace", ("busy", "starved"))
def test_a_fuzzer_ends_well_after_its_seconds_of_cpu(fuzzer, tmp_path, pace):
    counts, starts = fuzzer(f"{pace} 600 3", 0.5)
    assert counts == "1 passed, 0 failed, 0 skipped" and len(starts) == 1
    said = (tmp_path / "fuzz-fuzz_x.log").read_text()
    assert "0.5 were wanted" in said and float(re.search(r"fuzz_x: ([0-9.]+) s of CPU", said)[1]) >= 0.5


def test_a_fuzzer_that_found_something_fails_at_once(fuzzer):
    assert fuzzer("busy 0.1 77", 5)[0] == "0 passed, 1 failed, 0 skipped"


def test_a_fuzzer_that_got_no_cpu_has_failed_however_well_it_ended(fuzzer, tmp_path):
    assert fuzzer("asleep 0.5 0", 5)[0] == "0 passed, 1 failed, 0 skipped"
    assert "5 were wanted" in (tmp_path / "fuzz-fuzz_x.log").read_text()


def test_a_fuzzer_has_its_limit(fuzzer, monkeypatch):
    """libFuzzer is told, so that it ends by itself."""
    monkeypatch.setattr(stages, "FUZZ_PATIENCE", 7)
    assert "-max_total_time=12 " in fuzzer("asleep 0.1 0", 5)[1][0]


def test_a_command_that_goes_on_after_its_limit_is_ended(monkeypatch, tmp_path):
    monkeypatch.setattr(stages, "LOGS", tmp_path)
    assert stages.Runner(False, None).command("x", ["sleep", "600"], limit=0.2) == 124
    assert "took longer than 0.2 s" in (tmp_path / "x.log").read_text()


def test_sixty_seconds_of_what_anybody_can_send():
    assert stages.FUZZERS["fuzz_esp"][0] >= 60 and stages.FUZZERS["fuzz_config"][0] >= 60
    assert all(normal >= 20 and full >= 120 for normal, full in stages.FUZZERS.values())


def test_only_what_is_needed_is_built():
    assert stages.chosen("docs")[0] == ["build-release", "docs"]
    assert stages.chosen("test_cli") == (["build-release", *stages.TESTS], "test_cli")
    assert "build-debug" not in stages.chosen(None)[0] and "build-debug" in stages.chosen(None, full=True)[0]
    assert stages.BUILDS["build-asan"] == ("asan", [*stages.COMPUTING, *stages.SANITIZED])


def test_sanitized_units_run_once_each_and_what_has_deadlines_not_in_what_others_leave():
    assert not set(stages.COMPUTING) & set(stages.SANITIZED)
    assert "units-asan-computing" in stages.AHEAD and "units-asan" not in stages.AHEAD
    assert {"test_worker", "test_ike", "test_resolver"} <= set(stages.SANITIZED)  # threads and sockets


def test_throughput_is_measured_alone_and_in_the_full_run():
    """What runs ahead begins at the first of QUIET."""
    assert "throughput" not in stages.chosen(None)[0]
    every = stages.chosen(None, full=True)[0]
    assert every.index("throughput") < min(every.index(stage) for stage in (*stages.QUIET, *stages.AHEAD))


@pytest.mark.parametrize("statuses, counts, unsteady", [([0], "1 passed, 0 failed, 0 skipped", []), ([1, 0], "1 passed, 0 failed, 0 skipped", ["throughput"]),
                                                        ([1, 1], "0 passed, 1 failed, 0 skipped", [])])
def test_throughput_has_two_runs_and_tells_its_ratios(monkeypatch, tmp_path, capsys, statuses, counts, unsteady):
    monkeypatch.setattr(stages, "LOGS", tmp_path)
    runner, left = stages.Runner(True, None), list(statuses)

    def command(stage: str, words: list, limit: float, log_name: str) -> int:
        (tmp_path / f"{log_name}.log").write_text(f"[...]\npath asked tunnel: 0.3{len(left)} of it\n")
        return left.pop(0)

    monkeypatch.setattr(runner, "command", command)
    assert str(runner.throughput("throughput")) == counts and runner.unsteady == unsteady and not left
    assert capsys.readouterr().out.count("path asked tunnel: 0.3") == len(statuses)


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
