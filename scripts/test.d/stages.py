#!/usr/bin/env python3
"""The stages of scripts/test: a progress line for each, its output in build/test-logs, and one closing line of counts."""
import argparse
import concurrent.futures
import contextlib
import dataclasses
import math
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/lib"))
import caller  # noqa: E402
import leftovers  # noqa: E402

LOGS = TOP / "build/test-logs"
PYTEST = ["/usr/bin/python3", "-m", "pytest", "-c", "tests/pytest.ini", "--rootdir", "."]


@dataclasses.dataclass
class Counts:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def from_junit(report: pathlib.Path, status: int) -> Counts:
    """pytest and ctest both write it. A run that ended without a report, or failed without a failed test, is a failure."""
    if not report.exists():
        return Counts(failed=1)
    counts = Counts()
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        children = {child.tag for child in case}
        if children & {"failure", "error"} or case.get("status") == "fail":
            counts.failed += 1
        elif "skipped" in children or case.get("status") in ("notrun", "disabled"):
            counts.skipped += 1
        else:
            counts.passed += 1
    if status not in (0, 5) and not counts.failed:
        counts.failed = 1
    return counts


def failed_in(report: pathlib.Path) -> dict[str, bool]:
    """The failed tests of a report, as pytest or ctest takes them, and whether each has a second try: not what is marked `safety`
    (tests/conftest.py tells the report)."""
    if not report.exists():
        return {}
    found: dict[str, bool] = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        if not ({child.tag for child in case} & {"failure", "error"} or case.get("status") == "fail"):
            continue
        name = case.get("name")
        if case.get("classname") and case.get("classname") != name:  # ctest repeats the name
            name = f"{case.get('classname').replace('.', '/')}.py::{name}"
        again = not any(one.get("name") == "safety" for one in case.iter("property"))
        found[name] = found.get(name, True) and again
    return found


class Ahead:
    """Stages of later, run one after another in the time that the tests leave: class SCHED_IDLE, so that no test waits for a compiler or a
    fuzzer. (Sanitized units that have deadlines of their own are not among them.) Once the tests are through, what is left goes on as everything else does."""

    def __init__(self, runner: "Runner", stages: list[str]):
        self._runner, self._idle = runner, True
        self._leaders: list[subprocess.Popen] = []
        self._guard = threading.Lock()
        self._pool = concurrent.futures.ThreadPoolExecutor(1)
        self._results: dict[str, concurrent.futures.Future] = {}
        runner.started = self._started
        for stage in stages:
            self._results[stage] = self._pool.submit(self._run, stage)

    def _run(self, stage: str) -> Counts:
        """What is needed stands before it in the same pool: its result is there."""
        needed = self._results.get(NEEDS.get(stage))
        return Counts(failed=1) if needed and needed.result().failed else self._runner.stage(stage)

    def _started(self, process: subprocess.Popen) -> None:
        with self._guard:
            self._leaders = [*self._running(), process]
            if self._idle:
                self._schedule({process.pid}, os.SCHED_IDLE, "19")

    def _running(self) -> list[subprocess.Popen]:
        return [leader for leader in self._leaders if leader.returncode is None]

    @staticmethod
    def _schedule(leaders: set[int], policy: int, autogroup: str) -> None:
        """Of commands that run now and of all they started; what they start inherits it."""
        for _ in range(2):  # what was forked meanwhile
            for pid in (int(entry.name) for entry in pathlib.Path("/proc").iterdir() if entry.name.isdigit()):
                with contextlib.suppress(OSError):
                    if os.getsid(pid) in leaders:
                        os.sched_setscheduler(pid, policy, os.sched_param(0))
        # Where the scheduler groups by session (sched(7), autogroups), the class alone would leave the session its whole share.
        for leader in leaders:
            with contextlib.suppress(OSError):
                pathlib.Path(f"/proc/{leader}/autogroup").write_text(autogroup)

    def hurry(self) -> None:
        with self._guard:
            if self._idle:
                self._idle = False
                self._schedule({leader.pid for leader in self._running()}, os.SCHED_OTHER, "0")

    def result(self, stage: str) -> Counts | None:
        """None: it is not one of these."""
        return self._results[stage].result() if stage in self._results else None

    def close(self) -> None:
        """When the run is cut short."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for leader in self._running():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(leader.pid, signal.SIGTERM)


class Runner:
    """Runs commands of a stage into its log file."""

    def __init__(self, full: bool, select: str | None):
        self.full, self.select = full, select
        self.failed_logs: dict[str, list[str]] = {}  # of a stage that writes several
        self.unsteady: list[str] = []  # tests that passed at the second try
        self.started = None  # told of each process of the stages that run ahead
        LOGS.mkdir(parents=True, exist_ok=True)
        caller.give_back(LOGS.parent)  # whoever builds there next may be no root

    def stage(self, name: str) -> Counts:
        (LOGS / f"{name}.log").unlink(missing_ok=True)
        return STAGES[name](self, name)

    def command(self, stage: str, words: list, **options) -> int:
        return self.timed(stage, words, **options)[0]

    def timed(self, stage: str, words: list, environment: dict | None = None, limit: float = 3600, log_name: str | None = None,
              compiles: bool = False, enough: float | None = None) -> tuple[int, float]:
        """Exit status, and the seconds of CPU that it had; after `enough` of those it is told so by SIGUSR1. What `compiles` does so as whoever called
        sudo."""
        who = {"env": dict(os.environ), **(caller.as_caller() if compiles else {})}
        who["env"].update(environment or {})
        with (LOGS / f"{log_name or stage}.log").open("ab") as log:
            log.write(f"$ {' '.join(map(str, words))}\n".encode())
            log.flush()
            process = subprocess.Popen([str(word) for word in words], cwd=TOP, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       start_new_session=stage in AHEAD, **who)
            if stage in AHEAD and self.started:
                self.started(process)
            spent = ended(process, limit, enough)
            if spent is not None:
                return process.returncode, spent
            process.terminate()  # pytest cleans its labs up
            if ended(process, 150) is None:  # longer than tests/conftest.py's PATIENCE
                process.kill()
                process.wait()
            log.write(f"took longer than {limit} s\n".encode())
            return 124, 0

    def check(self, stage: str, words: list, **options) -> Counts:
        return Counts(passed=1) if self.command(stage, words, **options) == 0 else Counts(failed=1)

    def pytest(self, stage: str, where: str, limit: float, but: str | None = None, processes: int = 1) -> Counts:
        """With several processes whole files go to each, so that a file's lab stays one, and what is marked `alone` comes after them. Those run
        without -v, which has the starter ask each process something first, and then its tests may not run in its main thread (execnet)."""
        words = [*PYTEST, where, *([f"--ignore={but}"] if but else []), *(["-k", self.select] if self.select else [])]
        chosen = [] if self.full else ["not slow"]
        if processes == 1:
            return self.pytest_run(stage, stage, [*words, "-v"], chosen, limit)
        beside = ["-n", processes, "--dist", "loadfile"]
        return (self.pytest_run(stage, stage, [*words, *beside], [*chosen, "not alone"], limit)
                + self.pytest_run(stage, f"{stage}-alone", [*words, "-v"], [*chosen, "alone"], limit))

    def pytest_run(self, stage: str, report_name: str, words: list, chosen: list[str], limit: float) -> Counts:
        report = LOGS / f"{report_name}.xml"
        report.unlink(missing_ok=True)
        words = [*words, f"--junitxml={report}", *(["-m", " and ".join(chosen)] if chosen else [])]
        counts = from_junit(report, self.command(stage, words, limit=limit))

        def try_again(names: list[str], second: pathlib.Path) -> int:
            return self.command(stage, [*PYTEST, *names, "-v", f"--junitxml={second}"], limit=limit)

        return self.once_more(counts, failed_in(report), LOGS / f"{report_name}-again.xml", try_again) if counts.failed else counts

    def once_more(self, counts: Counts, failed: dict[str, bool], report: pathlib.Path, try_again) -> Counts:
        """On a busy machine a few tests may fail that are right: each has one more try, by itself, by `try_again(names, report)`. Who passes then is told
        of at the end. A test of safety fails for good: a number used twice once in ten runs is used twice."""
        again = [name for name, allowed in failed.items() if allowed]
        if not again or len(failed) > MOST_UNSTEADY:
            return counts
        report.unlink(missing_ok=True)
        second = from_junit(report, try_again(again, report))
        still = [name for name in failed_in(report) if name in again]
        if second.failed > len(still):
            return counts
        self.unsteady += [name for name in again if name not in still]
        return Counts(counts.passed + len(again) - len(still), len(failed) - len(again) + len(still), counts.skipped)

    def ctest(self, stage: str, preset: str, only: list[str] = (), limit: int = 300) -> Counts:
        def run(names: list[str], report: pathlib.Path, *more) -> int:
            words = ["ctest", "--test-dir", f"build/{preset}", "--output-on-failure", "--timeout", limit, "--output-junit", report, *more]
            words += ["-R", f"^({'|'.join(map(re.escape, names))})$"] if names else []
            words += ["-R", self.select] if self.select and report == first else []
            return self.command(stage, words, environment=SANITIZERS)

        first = LOGS / f"{stage}.xml"
        first.unlink(missing_ok=True)
        counts = from_junit(first, run(list(only), first, "-j", os.cpu_count(), "--no-tests=error" if not self.select else "--no-tests=ignore"))
        return self.once_more(counts, failed_in(first), LOGS / f"{stage}-again.xml", run) if counts.failed else counts

    def build(self, stage: str, preset: str, targets: list[str] = ()) -> Counts:
        return self.check(stage, ["scripts/build", preset, *targets], compiles=True)

    def throughput(self, stage: str) -> Counts:
        """The crypto map and the tunnel against what is asked of them (tests/bench/path.py). Figures vary with the machine: one of two runs is enough."""
        for run in ("", "-again"):
            log = f"{stage}{run}"
            (LOGS / f"{log}.log").unlink(missing_ok=True)
            status = self.command(stage, ["scripts/bench.d/path", "--tcp"], limit=300, log_name=log)
            print("\n".join(f"    {line}" for line in (LOGS / f"{log}.log").read_text().splitlines() if line.startswith("path asked")), flush=True)
            if status == 0:
                self.unsteady += [stage] if run else []
                return Counts(passed=1)
        self.failed_logs[stage] = [stage, log]
        return Counts(failed=1)

    def fuzz(self, stage: str) -> Counts:
        """Each fuzzer for its time, as many at once as there are cores. A new input that grows coverage stays out of the tree."""
        targets = [TOP / "build/fuzz/bin" / name for name in FUZZERS]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            return sum(pool.map(lambda target: self.fuzz_one(stage, target), targets), Counts())

    def fuzz_one(self, stage: str, target: pathlib.Path) -> Counts:
        """For so many seconds of CPU of its own: in the class that only has what others leave, the clock's are not those. (Rounds by libFuzzer's clock
        would spend most of them on starting.)"""
        seconds, began = FUZZERS[target.name][self.full], time.monotonic()
        corpus = LOGS / f"corpus-{target.name}"
        corpus.mkdir(exist_ok=True)
        seeds = TOP / "tests/fuzz/corpus" / target.name.removeprefix("fuzz_")
        words = [target, f"-max_total_time={math.ceil(seconds + FUZZ_PATIENCE)}", "-timeout=60", "-rss_limit_mb=4096", "-print_final_stats=1",
                 f"-artifact_prefix={LOGS}/{target.name}-", corpus, *([seeds] if seeds.is_dir() else [])]
        log = f"{stage}-{target.name}"
        (LOGS / f"{log}.log").unlink(missing_ok=True)
        status, had = self.timed(stage, words, limit=seconds + FUZZ_PATIENCE + 120, log_name=log, enough=seconds)
        with (LOGS / f"{log}.log").open("a") as file:
            file.write(f"{target.name}: {had:.1f} s of CPU in {time.monotonic() - began:.0f} s; {seconds} were wanted\n")
        if status == 0 and had >= seconds:
            return Counts(passed=1)
        self.failed_logs.setdefault(stage, []).append(log)
        return Counts(failed=1)


def cpu_of(pid: int) -> float:
    """Seconds that a child, which nobody has waited for yet, had so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ended(process: subprocess.Popen, limit: float, enough: float | None = None) -> float | None:
    """Waits for its end, and says how many seconds of CPU it and its children had; None: it goes on after `limit`. After `enough` seconds of CPU it gets
    SIGUSR1, at which libFuzzer ends well."""
    pidfd, deadline = os.pidfd_open(process.pid), time.monotonic() + limit
    try:
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            # One thread cannot have more of them than the clock.
            missing = None if enough is None else enough - cpu_of(process.pid)
            if missing is not None and missing <= 0:
                process.send_signal(signal.SIGUSR1)
                enough = missing = None
            if select.select([pidfd], [], [], left if missing is None else min(left, max(missing, 0.1)))[0]:
                break
    finally:
        os.close(pidfd)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


# The rooms that read bytes of peers and operators, and that share memory between threads. The other units run in release alone.
# By GCC: under clang's sanitizer mlock() does nothing, which the tests of locked memory see.
# Those of COMPUTING know no clock but their own.
COMPUTING = ["test_config", "test_crypto", "test_eap_tls", "test_ike_eap", "test_ike_policy", "test_ike_session", "test_ike_wire", "test_ios"]
SANITIZED = ["test_base", "test_bpf", "test_ike", "test_maps", "test_pki", "test_resolver", "test_worker"]
SANITIZERS = {"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
MOST_UNSTEADY = 5  # more than that in one run is no accident
FUZZ_PATIENCE = 2400  # of the clock, beside its own time: the tests that a fuzzer gives way to take less
# Seconds of CPU of each fuzzer in the normal run, and with --full: the longest for what anybody on the path, or at the keyboard, can send.
FUZZERS = {"fuzz_esp": (60, 600), "fuzz_config": (60, 600), "fuzz_ike": (20, 600), "fuzz_eap": (20, 600), "fuzz_certificates": (20, 600),
           "fuzz_configuration": (20, 600),
           "fuzz_ah": (20, 120), "fuzz_fragments": (20, 120), "fuzz_icmp": (20, 120), "fuzz_ipcomp": (20, 120), "fuzz_names": (20, 120),
           "fuzz_ios": (20, 120)}

# Order: what fails fastest first, builds before what needs them, the long fuzzing last. What a machine has to compute for while the tests of QUIET wait
# runs ahead (AHEAD, in its order: what is needed first).
STAGES = {
    "build-release": lambda r, s: r.build(s, "release"),
    "format": lambda r, s: r.check(s, ["scripts/format", "--check"], compiles=True),
    "docs": lambda r, s: r.pytest(s, "tests/docs", 300),
    "units": lambda r, s: r.ctest(s, "release"),
    "throughput": lambda r, s: r.throughput(s),  # before anything runs ahead: it measures
    "scapy": lambda r, s: r.pytest(s, "tests/worker", 600, processes=2),
    "worker-io": lambda r, s: r.pytest(s, "tests/worker_io", 300),
    "e2e": lambda r, s: r.pytest(s, "tests/e2e", 3000 if r.full else 1500, but="tests/e2e/ikev2", processes=5),
    "ikev2": lambda r, s: r.pytest(s, "tests/e2e/ikev2", 3000 if r.full else 1200, processes=5),
    "vm": lambda r, s: r.pytest(s, "tests/vm", 2400 if r.full else 1200, processes=3),
    "headers": lambda r, s: r.check(s, ["scripts/check_headers"], compiles=True),
    "build-asan": lambda r, s: r.build(s, *BUILDS[s]),
    "units-asan": lambda r, s: r.ctest(s, "asan", SANITIZED),
    "units-asan-computing": lambda r, s: r.ctest(s, "asan", COMPUTING, 2400),
    "build-fuzz": lambda r, s: r.build(s, *BUILDS[s]),
    "fuzz": lambda r, s: r.fuzz(s),
    "build-debug": lambda r, s: r.build(s, *BUILDS[s]),
}
ONLY_FULL = ("build-debug", "throughput")  # or by name
NEEDS = {**dict.fromkeys(("units", "scapy", "worker-io", "e2e", "ikev2", "vm", "headers", "docs", "throughput"), "build-release"),
         "units-asan": "build-asan", "units-asan-computing": "build-asan", "fuzz": "build-fuzz"}
QUIET = ("scapy", "worker-io", "e2e", "ikev2", "vm")  # they wait more than they compute
AHEAD = ("build-asan", "units-asan-computing", "build-fuzz", "fuzz", "headers")
BUILDS = {"build-asan": ("asan", [*COMPUTING, *SANITIZED]), "build-fuzz": ("fuzz", list(FUZZERS)), "build-debug": ("debug", ["test_base"])}
TESTS = ("docs", "units", "scapy", "worker-io", "e2e", "ikev2", "vm")  # where a pattern that names no stage is looked for


def chosen(pattern: str | None, full: bool = False) -> tuple[list[str], str | None]:
    """The stages to run, and what to select inside them."""
    if pattern is None:
        return [stage for stage in STAGES if full or stage not in ONLY_FULL], None
    named = [stage for stage in STAGES if pattern in stage]
    wanted, select = (named, None) if named else (list(TESTS), pattern)
    wanted += [NEEDS[stage] for stage in wanted if stage in NEEDS]
    return [stage for stage in STAGES if stage in wanted], select


def tail(logs: list[str], lines: int = 60) -> str:
    text = "".join(path.read_text(errors="replace") for path in (LOGS / f"{log}.log" for log in logs) if path.exists())
    return "\n".join("    " + line for line in text.splitlines()[-lines:])


def run(runner: Runner, stages: list[str], at_end: contextlib.ExitStack) -> tuple[Counts, set[str]]:
    """The sum of all, and the stages that failed."""
    total, failed, began = Counts(), set(), time.monotonic()
    ahead: Ahead | None = None
    for number, stage in enumerate(stages, 1):
        print(f"==> [{number}/{len(stages)}] {stage} ...", flush=True)
        start = time.monotonic()
        later = [name for name in AHEAD if name in stages[number:]]
        if stage in QUIET and later and not ahead and "build-release" not in failed:
            ahead = Ahead(runner, later)
            at_end.callback(ahead.close)
        elif stage not in QUIET and ahead:
            ahead.hurry()
        if NEEDS.get(stage) in failed:
            counts = Counts(failed=1)
            print(f"    not run: {NEEDS[stage]} failed")
        else:
            counts = ahead.result(stage) if ahead else None
            counts = counts or runner.stage(stage)
        print(f"    {counts} in {time.monotonic() - start:.0f} s (at {time.monotonic() - began:.0f} s)", flush=True)
        if counts.failed:
            failed.add(stage)
            print(tail(runner.failed_logs.get(stage, [stage])), flush=True)
        total += counts
    return total, failed


def remove_leftovers(told: str) -> list[str]:
    """What tests left behind that are gone, and its removal; `told` says whose it is."""
    left = leftovers.found()
    if left:
        print(f"{told}: {', '.join(left)}", flush=True)
        leftovers.remove()
    return left


def main_mutate(pattern: str | None) -> int:
    import mutate

    built = Runner(False, None).stage("build-release")
    noticed, missed = mutate.run(pattern, LOGS) if not built.failed else (0, 1)
    print(Counts(noticed, missed))
    return 1 if missed or not noticed else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/test")
    parser.add_argument("pattern", nargs="?")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--mutate", action="store_true")
    options = parser.parse_args()
    if options.mutate:
        return main_mutate(options.pattern)
    if options.list:
        print("\n".join(STAGES))
        return 0
    stages, select = chosen(options.pattern, options.full)
    runner = Runner(options.full, select)
    remove_leftovers("removed, of an earlier run that was killed")
    with contextlib.ExitStack() as at_end:
        total, failed_stages = run(runner, stages, at_end)
    left = remove_leftovers("LEFT BEHIND by these tests, and removed now")
    if left:
        total.failed += 1
    if select and not (total.passed - 1 or total.failed):
        print(f"nothing is called '{select}'")
        return 2
    if runner.unsteady:
        print("unsteady, passed at the second try: " + ", ".join(runner.unsteady))
    if left:
        print(f"failed: the tests left {len(left)} things behind, the first: {left[0]}")
    if failed_stages:
        print(f"failed: {', '.join(sorted(failed_stages))}; logs in {LOGS.relative_to(TOP)}")
    print(total)
    return 1 if total.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        caller.give_back(LOGS.parent)
