"""Two Postern nodes: each flow, each family, both ways; nothing but ESP between them."""
import time

import pytest

import lab
import traffic
from balance import assert_balanced
from capture import Capture
from oracle import Oracle

FLOWS = ("map4", "map6", "tunnel4", "tunnel6")


@pytest.fixture(scope="module")
def pair(module_scratch):
    with lab.Pairing(module_scratch) as made:
        yield made


def exchange(made: lab.Pairing, flow: str, scratch, outer_version: int | None = None) -> None:
    """Pings both ways with payloads up to a whole segment; the capture holds ESP of this flow's two SAs alone."""
    near, far = lab.host(1, flow), lab.host(2, flow)
    traffic.ping_until(made.hA, far, source=near)
    with Capture(made.w, "w1", scratch / f"{flow}.pcap") as capture:
        assert traffic.ping(made.hA, far, count=10, source=near) == 10
        assert traffic.ping(made.hA, far, count=3, size=1200, source=near) == 3
        assert traffic.ping(made.hB, near, count=5, source=far) == 5
        found = Oracle(made.flows.all()).examine(capture.frames())
    found.assert_protected()
    keys = getattr(made.flows, flow)
    assert found.spis() == {keys.to_left.spi, keys.to_right.spi}
    assert len(found.opened) >= 36
    if outer_version:
        assert {one.outer.version for one in found.opened} == {outer_version}
        assert {one.inner.version for one in found.opened} == {10 - outer_version}
    assert_balanced(made.left, made.right)


@pytest.mark.parametrize("flow", FLOWS)
def test_ping_both_ways(pair, flow, scratch):
    exchange(pair, flow, scratch)


def test_ipv6_over_ipv4_and_ipv4_over_ipv6(scratch):
    with lab.Pairing(scratch, cross=True) as made:
        exchange(made, "tunnel6", scratch, outer_version=4)
        exchange(made, "tunnel4", scratch, outer_version=6)


@pytest.mark.parametrize("transforms", [("esp-aes", "esp-sha-hmac"), ("esp-aes 192", "esp-sha256-hmac"), ("esp-aes 256", "esp-sha256-hmac")],
                         ids=" ".join)
def test_other_transforms(transforms, scratch):
    with lab.Pairing(scratch, transforms=transforms) as made:
        for flow in ("map4", "tunnel6"):
            exchange(made, flow, scratch)


def test_openssl_engine(scratch):
    """dataplane.crypto openssl on one side, the engine of the CPU on the other: they agree."""
    flows = lab.fresh_flows()
    with lab.Pairing(scratch, flows, start=False) as made:
        made.left.document["dataplane"]["crypto"] = "openssl"
        lab.documents.write(made.left.document, made.left.config)
        made.left.start()
        made.right.start()
        exchange(made, "map4", scratch)


def test_generic_xdp(scratch):
    """Drivers without native XDP: the injected packet passes the same hook again and is known by its mark."""
    with lab.Pairing(scratch, xdp_mode="generic") as made:
        for flow in ("map4", "tunnel4"):
            exchange(made, flow, scratch)


def test_several_queues(scratch):
    """Every queue has an owner: with four on each device nothing is lost, whatever the hash says."""
    with lab.Pairing(scratch, queues=4) as made:
        for flow in ("map4", "tunnel4"):
            exchange(made, flow, scratch)
            sent, received = traffic.stream(made.hA, made.hB, lab.host(2, flow), count=2000, rate=2000)
            assert received["distinct"] == sent["sent"]
        assert_balanced(made.left, made.right)


def test_unrelated_traffic_passes(pair):
    """Between the outside addresses themselves nothing matches: clear, and not counted as ours."""
    assert traffic.ping(pair.n1, lab.OUT4[2], count=5) == 5
    assert traffic.ping(pair.n1, lab.OUT6[2], count=5) == 5
    assert_balanced(pair.left, pair.right)


def worked(node) -> tuple[int, int, int]:
    """What its worker has done so far: wakeups, system calls, packets that it sealed."""
    view, sas = node.dataplane()["worker"], node.show("crypto", "ipsec", "sa")
    return view["wakeups"], view["system_calls"], sum(flow["counters"]["encaps"] for one in sas["interfaces"] for flow in one["flows"])


def test_a_worker_sleeps_when_nobody_sends_and_takes_many_packets_a_call(pair):
    """Without traffic it waits in the kernel, but for what posternd asks it; with traffic a system call is for a batch, in and out."""
    traffic.ping_until(pair.hA, lab.host(2, "map4"))
    for node in (pair.left, pair.right):
        node.dataplane()  # the first answer of a kind may cost more
    before, began = worked(pair.left), time.monotonic()
    time.sleep(2)  # what is measured is what happens meanwhile
    after, seconds = worked(pair.left), time.monotonic() - began
    assert after[0] - before[0] < 10 * seconds, f"{after[0] - before[0]} wakeups in {seconds:.1f} s without a packet"
    assert after[1] - before[1] < 20 * seconds, f"{after[1] - before[1]} system calls in {seconds:.1f} s without a packet"

    before = worked(pair.left)
    server = traffic.Iperf(pair.hB, lab.host(2, "map4"))
    server.run(pair.hA, "-n", "40M", seconds=None)
    _, calls, packets = (now - then for now, then in zip(worked(pair.left), before))
    assert packets > 10_000
    assert calls < 0.2 * packets, f"{calls} system calls for {packets} packets"
