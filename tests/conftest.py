"""Fixtures of the end-to-end tests. Run as root with Debian's own Python: /usr/bin/python3 -m pytest tests/e2e."""
import os
import pathlib
import signal
import sys
import threading
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent / "lib"))
import safety  # noqa: E402

interrupted = threading.Event()
PATIENCE = 120  # seconds in which an interrupted process removes its labs


def pytest_configure(config):
    # SIGTERM ends a run as Ctrl-C does: through every context manager, so that nothing is left behind. A process of pytest-xdist may run its
    # tests beside its main thread, where no handler can be set: it is told by the process that started it.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_keyboard_interrupt(excinfo):
    """The processes of pytest-xdist would be killed ten seconds from now, with their labs standing: each is told first, and has the time that it takes."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        interrupted.set()
    workers = [int(pid) for task in pathlib.Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    workers = [pid for pid in workers if b"exec(eval(sys.stdin.readline()))" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    while workers and time.monotonic() < deadline:
        workers = [pid for pid in workers if pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"]
        time.sleep(0.05)


def pytest_unconfigure():
    if interrupted.is_set():
        os._exit(2)  # every fixture is torn down; the thread that waits for the starter's next order would keep the process


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0 and any({"e2e", "vm"} & set(item.path.parts) for item in items):
        raise pytest.UsageError("the end-to-end tests make network namespaces: run them as root")
    for item in items:
        if marker := item.get_closest_marker("safety"):
            item.user_properties.append(("safety", marker.args[0] if marker.args else "no second try"))
    items.sort(key=lambda item: item.get_closest_marker("long") is None)  # the sort is stable


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """The report says of a test that met what may never happen (tests/lib/safety.py) the same as of one that is marked."""
    if call.excinfo is not None and isinstance(call.excinfo.value, safety.Unsafe):
        item.user_properties.append(("safety", call.excinfo.exconly()))
    yield


@pytest.fixture
def scratch(tmp_path):
    """A directory for logs, captures and configurations of one test."""
    return tmp_path


@pytest.fixture(scope="module")
def module_scratch(tmp_path_factory, request):
    return tmp_path_factory.mktemp(request.module.__name__)
