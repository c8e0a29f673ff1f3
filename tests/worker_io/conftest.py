"""Fixtures of the tests here; all of them need root and the programs of the build tree."""
import os

import pytest

from worker_bench import BUILD, Bench


def pytest_collection_modifyitems(items):
    here = [item for item in items if item.path.parent.name == "worker_io"]
    for item in here:
        item.add_marker(pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: needs root"))
        item.add_marker(pytest.mark.skipif(not (BUILD / "bin" / "xsk_harness").exists(), reason=f"no xsk_harness in {BUILD}"))


@pytest.fixture(params=["io_uring", "poll"])
def either(request, tmp_path):
    with Bench(tmp_path, forbid_io_uring=request.param == "poll") as bench:
        expected = 0 if request.param == "poll" else 1
        assert bench.greeting["value"] & 1 == expected
        assert bench.greeting["text"]
        yield bench
