"""The balance that stands under every other test can fail; and packets that the kernel drops before the worker sees them are counted, each once."""
import contextlib
import copy
import os
import pathlib
import re
import signal

import pytest

import balance
import balance_watch
import lab
import safety
import traffic
from balance import assert_balanced, equations, tunnel_fate
from netns import Lab, wait_until
from node import Node


def device(role: str, received: int, sent: int, **counts) -> dict:
    hooks = {"xdp_ingress": {"to_worker": counts.get("to_worker", 0)}, "tc_egress": {"to_steer": counts.get("to_steer", 0)},
             "tc_ingress": {"delivered": counts.get("delivered", 0), "drop": counts.get("refused", 0)}}
    return {"name": role, "role": role, "queues": [{"rx_packets": received, "tx_packets": sent}], "verdicts": hooks,
            "kernel": {"tx_dropped": counts.get("dropped", 0), "tx_packets": received, "rx_packets": sent, "qdisc_drops": 0}}


PAGE = {"balance": {"split": 0, "made": 1, "merged": 0, "held": 0}, "drops": [{"reason": "bad_icv", "kernel": 0, "worker": 2}],
        "devices": [device("outside", 10, 7, to_worker=10, to_steer=5, delivered=7), device("steer", 4, 8, dropped=1, refused=1), device("tunnel", 3, 1)]}
PERTURBED = {"worker": ("balance", "made"), "XDP": ("devices", 0, "verdicts", "xdp_ingress", "to_worker"),
             "TC": ("devices", 1, "kernel", "tx_dropped"), "TUN": ("devices", 2, "kernel", "tx_packets"),
             "steer": ("devices", 0, "verdicts", "tc_ingress", "delivered"), "tunnel": ("devices", 2, "kernel", "rx_packets")}


class PageNode:
    """What the watch wants to know of a node, with a page that the test writes."""
    name = "page"
    counted_before: dict = {}

    def __init__(self):
        self.process, self.view = self, copy.deepcopy(PAGE)

    def running(self) -> bool:
        return True

    def dataplane(self) -> dict:
        return self.view

    def lose(self, equation: str = "worker", count: int = 1) -> None:
        *way, last = PERTURBED[equation]
        place = self.view
        for step in way:
            place = place[step]
        place[last] += count


@pytest.fixture
def page(monkeypatch):
    def once(true_when, *_, **__):
        assert true_when()

    monkeypatch.setattr(balance, "wait_until", once)  # what is wrong in a page stays so
    monkeypatch.setattr(balance, "STAYS", 0)
    node, outer = PageNode(), list(Node.LIVING)

    def as_test(function, excuse: str | None = None) -> None:
        """Runs `function` as conftest.py has every test run, as if this node were the only one."""
        Node.LIVING[:] = [node]
        try:
            balance_watch.judged(function, excuse)()
        finally:
            Node.LIVING[:] = outer
            balance_watch._excused.clear()  # the test that this one is, is judged as well

    node.as_test = as_test
    return node


@pytest.mark.parametrize("equation", PERTURBED)
def test_a_test_fails_whose_packets_do_not_balance(page, equation):
    assert set(equations(PAGE)) == set(PERTURBED)
    page.as_test(lambda: None)
    with pytest.raises(safety.Unsafe, match=f"do not balance.*{equation}"):
        page.as_test(lambda: page.lose(equation))


def test_a_balance_that_still_moves_is_no_fault_of_safety(page, monkeypatch):
    """Traffic goes on: the test has a second try, an imbalance that stays has none."""
    monkeypatch.setattr(balance, "STAYS", 60)
    with pytest.raises(AssertionError, match="do not balance") as failed:
        page.as_test(page.lose)
    assert not isinstance(failed.value, safety.Unsafe)


def test_the_next_test_is_judged_for_itself(page):
    with pytest.raises(AssertionError, match="do not balance"):
        page.as_test(page.lose)
    page.as_test(lambda: None)
    with pytest.raises(AssertionError, match="do not balance"):
        page.as_test(page.lose)


def test_an_excuse_is_for_one_test(page):
    page.as_test(page.lose, "its worker dies")
    page.as_test(lambda: None)
    with pytest.raises(AssertionError, match="do not balance"):
        page.as_test(lambda: page.lose("XDP"))


def planted(removed: list) -> None:
    assert removed, "planted"


def test_a_lab_is_judged_at_its_end_and_removed_all_the_same(scratch):
    removed = []
    with pytest.raises(AssertionError, match="planted"), Lab(scratch) as made:
        made.callback(removed.append, "everything")
        made.judges.append(lambda: planted(removed))
    assert removed == ["everything"]


def test_every_end_to_end_test_is_judged(request):
    here = pathlib.Path(__file__).parent
    tests = [item for item in request.session.items if here in item.path.parents]
    assert tests and all(item.obj.__wrapped__ for item in tests)


# -- the kernel's own drops

SENT = 3000


@contextlib.contextmanager
def asleep(pid: int):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def watch_offers(made: lab.Gateways):
    """Counts what N1 routes into Tunnel0, by a program that is not ours and stands before every queue."""
    made.n1.run("nft", "-f", "-", input="table inet offers { chain out { type filter hook postrouting priority 300; oifname Tunnel0 counter; }; }")
    return lambda: int(re.search(r"packets (\d+)", made.n1.run("nft", "list", "table", "inet", "offers").stdout)[1])


@pytest.fixture(scope="module")
def pair(module_scratch):
    with lab.Pairing(module_scratch) as made:
        traffic.ping_until(made.hA, lab.host(2, "tunnel4"), source=lab.host(1, "tunnel4"))
        made.n1.ip("link", "set", "Tunnel0", "txqueuelen", "500")
        made.offered = watch_offers(made)
        yield made


@pytest.mark.parametrize("where", ("ring", "qdisc"))
def test_what_the_kernel_drops_before_a_tunnel_is_counted(pair, where):
    """A worker that sleeps reads nothing: the interface's ring overflows, or the qdisc that an operator put before it."""
    if where == "qdisc":
        pair.n1.run("tc", "qdisc", "replace", "dev", "Tunnel0", "root", "tbf", "rate", "10mbit", "burst", "3000", "limit", "6000")
    assert_balanced(pair.left)
    before, offered = tunnel_fate(pair.left.dataplane(), "Tunnel0"), pair.offered()
    with asleep(pair.left.worker_pid()):
        stream = traffic.Stream(pair.hA, pair.hB, lab.host(2, "tunnel4"), count=SENT, rate=20000)
        wait_until(lambda: pair.offered() - offered >= SENT, 10, "all are offered")
    sent, received = stream.finish()

    def counted() -> dict:
        now = tunnel_fate(pair.left.dataplane(), "Tunnel0")
        return {what: now[what] - before[what] for what in now}

    wait_until(lambda: sum(counted().values()) == pair.offered() - offered, 5, "what was offered is what was read and dropped")
    found = counted()
    assert found[where] > SENT / 10, found
    assert received["distinct"] <= found["read"] < SENT, found
    assert_balanced(pair.left, pair.right)
