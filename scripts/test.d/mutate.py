"""`scripts/test --mutate [PATTERN]`: whether the tests notice when a node does not do what its document says. Each mutation of tests/lib/mutation.py is
one run of the test that guards it, which must fail: by an assertion about packets, SAs or output, not because a document was refused or a lab broke."""
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/lib"))
from mutation import MUTATIONS  # noqa: E402

PROCESSES = 2
LIMIT = 300


def verdict(report: pathlib.Path) -> str:
    """"noticed", or why not."""
    cases = [case for case in ElementTree.parse(report).getroot().iter("testcase")] if report.exists() else []
    if not cases:
        return "the test did not run"
    for case in cases:
        if case.find("error") is not None:
            return f"{case.get('name')} broke before it could judge: {case.find('error').get('message', '')[:200]}"
    failures = [case.find("failure").get("message", "") for case in cases if case.find("failure") is not None]
    if not failures:
        return "passes all the same"
    broken = [message for message in failures if not message.startswith(("AssertionError", "assert ", "netns.CommandFailed"))]
    if broken:
        return f"the test broke: {broken[0][:200]}"
    refused = [message for message in failures if "CommandFailed" in message and "config apply" in message]
    return f"the document was refused: {refused[0][:200]}" if refused else "noticed"


def run_one(name: str, logs: pathlib.Path) -> str:
    mutation, label = MUTATIONS[name], name.replace(" ", "-")
    report = logs / f"mutate-{label}.xml"
    report.unlink(missing_ok=True)
    words = ["/usr/bin/python3", "-m", "pytest", "-c", "tests/pytest.ini", "--rootdir", ".", mutation.test, f"--junitxml={report}", "-v"]
    with (logs / f"mutate-{label}.log").open("wb") as log:
        process = subprocess.Popen(words, cwd=TOP, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "POSTERN_MUTATE": name})
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.terminate()  # pytest cleans its labs up
            process.wait(60)
            return f"took longer than {LIMIT} s"
    return verdict(report)


def run(pattern: str | None, logs: pathlib.Path) -> tuple[int, int]:
    """How many mutations were noticed, and how many were not."""
    chosen = [name for name in MUTATIONS if pattern is None or pattern in name]
    logs.mkdir(parents=True, exist_ok=True)
    said: list[str] = []
    with concurrent.futures.ThreadPoolExecutor(PROCESSES) as pool:
        for name, result in zip(chosen, pool.map(lambda name: run_one(name, logs), chosen)):
            said.append(result)
            print(f"==> {name}: {MUTATIONS[name].what}\n    {result} by {MUTATIONS[name].test}" if result == "noticed" else
                  f"==> {name}: {MUTATIONS[name].what}\n    NOT NOTICED by {MUTATIONS[name].test}: {result}", flush=True)
    return said.count("noticed"), len(said) - said.count("noticed")
