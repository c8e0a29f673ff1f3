"""Each process gave up what it does not need, as the kernel tells it of every thread. (postern-pki and postern-resolver: ikev2/.)"""
import os

import pytest

import cage
import lab
import traffic

pytestmark = pytest.mark.safety


@pytest.fixture(scope="module")
def pair(module_scratch):
    with lab.Pairing(module_scratch) as made:
        traffic.ping_until(made.hA, lab.host(2, "map4"))
        yield made


def test_every_process_is_caged(pair):
    cage.assert_caged(pair.left, "postern-worker", "postern-ike")


def test_a_process_that_gave_up_nothing_is_seen(pair):
    """This one: root, with every capability, without a filter."""
    told = " ".join(cage.faults(cage.threads(os.getpid()), 0))
    for what in ("CapEff", "CapBnd", "Seccomp 0", "NoNewPrivs 0", "uid"):
        assert what in told, told
    of_posternd = cage.faults(cage.threads(cage.pids(pair.left)["posternd"]), 0)
    assert any("CapEff" in one for one in of_posternd), "what posternd keeps would not do for a child"


def test_a_child_that_was_started_again_is_caged_as_well(pair):
    killed = cage.pids(pair.left)["postern-ike"]
    os.kill(killed, 9)
    cage.wait_until(lambda: cage.pids(pair.left).get("postern-ike", killed) != killed, 10, "postern-ike is started again")
    cage.wait_until(lambda: not cage.faults(cage.threads(cage.pids(pair.left)["postern-ike"]), 0), 5, "and caged")
