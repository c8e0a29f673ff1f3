"""Packets that the kernel drops before the worker sees them are counted, each once."""
import contextlib
import os
import re
import signal

import pytest

import lab
import traffic
from balance import assert_balanced, tunnel_fate
from netns import wait_until

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
