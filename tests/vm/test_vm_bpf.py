"""The BPF programs on Debian's kernel: what its verifier takes, and what they do there (tests/bpf, tests/maps). The build
machine's own kernel may be years newer."""
import pathlib

import pytest

import kernel
from guests import NODE_MODULES, scenario_image
from node import PROGRAMS
from run_vm import Guest

pytestmark = pytest.mark.vm
TESTS = {"test_bpf": 8, "test_maps": 2}  # and how many cases at least


@pytest.fixture(scope="module")
def outcome():
    debian = kernel.obtain()
    with scenario_image(debian, "bpf", NODE_MODULES, {}) as image:
        image.add_program(pathlib.Path("/sbin/tc"), "bin")
        for program in TESTS:
            image.add_program(PROGRAMS / program, "bin", strip=True)
        with Guest(debian, image) as guest:
            assert guest.wait_for("BOOTED", 120).startswith("6.1.")
            return guest.run_to_exit(600)


@pytest.mark.parametrize("program", TESTS)
def test_on_debians_kernel(outcome, program):
    said = outcome.data[program]
    assert said["status"] == 0, "\n".join(outcome.console[-80:])
    assert said["cases"] >= TESTS[program] and said["skipped"] == 0
