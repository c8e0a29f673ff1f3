"""Fixtures of the end-to-end tests. Run as root with Debian's own Python: /usr/bin/python3 -m pytest tests/e2e."""
import contextlib
import fcntl
import os
import pathlib
import signal
import sys
import tempfile
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent / "lib"))


def pytest_configure(config):
    # SIGTERM ends a run as Ctrl-C does: through every context manager, so that nothing is left behind. A process of pytest-xdist may run its
    # tests beside its main thread, where no handler can be set: it is told by the process that started it.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0 and any({"e2e", "vm"} & set(item.path.parts) for item in items):
        raise pytest.UsageError("the end-to-end tests make network namespaces: run them as root")
    items.sort(key=lambda item: item.get_closest_marker("long") is None)  # the sort is stable


@pytest.fixture
def scratch(tmp_path):
    """A directory for logs, captures and configurations of one test."""
    return tmp_path


@pytest.fixture(scope="module")
def module_scratch(tmp_path_factory, request):
    return tmp_path_factory.mktemp(request.module.__name__)


@contextlib.contextmanager
def _locked(name: str, how: int):
    with (pathlib.Path(tempfile.gettempdir()) / f"postern-tests-{name}.lock").open("w") as lock:
        fcntl.flock(lock, how)
        yield


@pytest.fixture(autouse=True)
def company(request):
    """A test marked `alone` has the machine to itself, the others share it: between processes, and between runs. Whoever waits to be alone
    stands in the door, so that nobody passes him."""
    with contextlib.ExitStack() as door, contextlib.ExitStack() as inside:
        door.enter_context(_locked("door", fcntl.LOCK_EX))
        inside.enter_context(_locked("machine", fcntl.LOCK_EX if request.node.get_closest_marker("alone") else fcntl.LOCK_SH))
        door.close()
        yield
