"""The two example documents, and what posternd does for postern-ike: its policy, its ports, its channel, over restarts."""
import json
import os
import pathlib
import signal

import pytest

import lab
import traffic
from netns import wait_until
from node import child_pids

EXAMPLES = pathlib.Path(__file__).resolve().parents[3] / "docs/examples"


def example(side: int) -> dict:
    return json.loads((EXAMPLES / f"lab-n{side}-ikev2.json").read_text())


def ports(gateway) -> set[int]:
    """UDP ports of 500 and 4500 that somebody listens on."""
    rows = gateway.namespace.run("ss", "-lunH").stdout.splitlines()
    return {int(row.split()[3].rsplit(":", 1)[1]) for row in rows} & {500, 4500}


def ike_pid(gateway) -> int:
    pids = [pid for pid in child_pids(gateway.name) if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "postern-ike"]
    assert len(pids) == 1
    return pids[0]


def exchange(made, flow: str) -> None:
    near, far = lab.host(1, flow), lab.host(2, flow)
    traffic.ping_until(made.hA, far, source=near)
    assert traffic.ping(made.hA, far, count=10, source=near) == 10


@pytest.mark.unbalanced("what the worker had read and not sent dies with it")
def test_the_examples_negotiate(scratch):
    with lab.Gateways(scratch) as made:
        left, right = made.node(1, example(1)), made.node(2, example(2))
        left.start()
        right.start()
        assert ports(left) == {500, 4500}
        exchange(made, "map4")
        exchange(made, "tunnel4")

        # A new postern-ike gets its policy, its sockets and its channel again; a new worker's channel likewise.
        before = ike_pid(left)
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: left.process.log().count("postern-ike has policy") == 2, 15, "the new postern-ike has its policy")
        assert ike_pid(left) != before
        assert ports(left) == {500, 4500}
        exchange(made, "map4")
        worker = left.kill_worker()
        wait_until(lambda: left.worker_pid() not in (0, worker), 15, "a new worker")
        exchange(made, "map4")
        exchange(made, "tunnel4")


def test_without_ikev2_its_ports_stay_closed_and_nothing_leaks(scratch):
    off = example(1)
    off["ikev2"]["enabled"] = False
    with lab.Gateways(scratch) as made:
        left, right = made.node(1, off), made.node(2, example(2))
        left.start()
        right.start()
        assert ports(left) == set()
        assert ports(right) == {500, 4500}
        assert "M1 10 out0 is inert" in left.dataplane()["state"]
        assert traffic.ping(made.hA, lab.host(2, "map4"), count=2, source=lab.host(1, "map4")) == 0
