"""Every end-to-end test asserts that packets balance: tests/lib/balance_watch.py."""
import pathlib

import balance_watch

HERE = pathlib.Path(__file__).parent


def pytest_collection_modifyitems(items):
    balance_watch.install(item for item in items if HERE in item.path.parents)
