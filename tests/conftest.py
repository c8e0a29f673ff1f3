"""Fixtures of the end-to-end tests. Run as root with Debian's own Python: /usr/bin/python3 -m pytest tests/e2e."""
import os
import pathlib
import signal
import sys
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
