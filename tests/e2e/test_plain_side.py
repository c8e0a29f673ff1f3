"""dataplane.plain_side: tap, af_xdp and auto, and auto's caution: nothing that the operator configured is bypassed."""
import pytest

import lab
import traffic
from balance import assert_balanced
from netns import wait_until

pytestmark = pytest.mark.long


def plain_side(node, device: str = "in0") -> str:
    return next(one["plain_side"] for one in node.dataplane()["devices"] if one["name"] == device)


def reason(node, device: str = "in0") -> str:
    return next(one["plain_side_reason"] for one in node.dataplane()["devices"] if one["name"] == device)


def works(made) -> None:
    for flow in ("map4", "tunnel4", "map6", "tunnel6"):
        traffic.ping_until(made.hA, lab.host(2, flow), source=lab.host(1, flow))
        assert traffic.ping(made.hA, lab.host(2, flow), count=5, source=lab.host(1, flow)) == 5
        assert traffic.ping(made.hB, lab.host(1, flow), count=5, source=lab.host(2, flow)) == 5
    assert_balanced(made.left, made.right)


@pytest.mark.parametrize("mode", ["tap", "af_xdp"])
def test_forced(mode, scratch):
    with lab.Pairing(scratch, plain_side=mode) as made:
        works(made)
        assert plain_side(made.left) == mode
        inside = next(one for one in made.left.dataplane()["devices"] if one["name"] == "in0")
        assert (inside["verdicts"]["xdp_ingress"]["to_worker"] > 0) == (mode == "af_xdp")


def test_auto_uses_af_xdp_where_nothing_is_bypassed(scratch):
    with lab.Pairing(scratch, plain_side="auto") as made:
        works(made)
        assert plain_side(made.left) == "af_xdp", reason(made.left)


def test_auto_falls_back_when_a_rule_appears_and_returns(scratch):
    with lab.Pairing(scratch, plain_side="auto") as made:
        traffic.ping_until(made.hA, lab.host(2, "map4"))
        assert plain_side(made.left) == "af_xdp"
        made.n1.run("nft", "add table inet t; add chain inet t f { type filter hook forward priority 0; }; "
                           "add rule inet t f ip daddr 10.2.0.2 udp dport 9999 counter drop")
        wait_until(lambda: plain_side(made.left) == "tap", 15, "falls back to the TAP")
        assert "nft" in reason(made.left) or "netfilter" in reason(made.left)
        works(made)
        sent, received = traffic.stream(made.hA, made.hB, lab.host(2, "map4"), count=100, rate=500, port=9999, quiet=1)
        assert received["received"] == 0, "and the rule is obeyed"
        made.n1.run("nft", "delete table inet t")
        wait_until(lambda: plain_side(made.left) == "af_xdp", 15, "returns to AF_XDP")
        works(made)


def test_forced_af_xdp_skips_the_rule_and_says_so(scratch):
    """What `af_xdp` means: the operator takes the netfilter bypass. The TAP beside it obeys the same rule."""
    for mode, expected in (("af_xdp", 100), ("tap", 0)):
        with lab.Pairing(scratch / mode, plain_side=mode) as made:
            made.n1.run("nft", "add table inet t; add chain inet t f { type filter hook forward priority 0; }; "
                               "add rule inet t f udp dport 9999 drop")
            traffic.ping_until(made.hA, lab.host(2, "map4"))
            sent, received = traffic.stream(made.hA, made.hB, lab.host(2, "map4"), count=100, rate=500, port=9999, quiet=1)
            assert received["received"] == expected


def test_what_is_for_another_station_is_not_forwarded(scratch):
    """As a bridge floods it: the kernel would drop it, so AF_XDP does not seal it."""
    with lab.Pairing(scratch, plain_side="af_xdp") as made:
        works(made)
        made.hA.ip("neigh", "replace", "10.1.0.1", "lladdr", "02:00:00:00:00:99", "nud", "permanent", "dev", "eth0")
        sent, received = traffic.stream(made.hA, made.hB, lab.host(2, "map4"), count=100, rate=500, quiet=1)
        assert sent["sent"] == 100 and received["received"] == 0
        made.hA.ip("neigh", "del", "10.1.0.1", "dev", "eth0")
        works(made)


@pytest.mark.parametrize("mode", ["auto", "af_xdp"])
def test_a_device_above_has_the_kernel_sort_the_packets(mode, scratch):
    with lab.Pairing(scratch, plain_side=mode) as made:
        works(made)
        assert plain_side(made.left) == "af_xdp"
        made.n1.ip("link", "add", "link", "in0", "name", "above0", "up", "type", "macvlan", "mode", "bridge")
        wait_until(lambda: plain_side(made.left) == "tap", 15, "falls back to the TAP")
        assert reason(made.left) == "macvlan above0 stands on in0"
        works(made)
        made.n1.ip("link", "del", "above0")
        wait_until(lambda: plain_side(made.left) == "af_xdp", 15, "returns to AF_XDP")
        works(made)


def test_outside_qdisc_is_not_bypassed(scratch):
    """A qdisc on the outside interface gets the ESP: the cipher side sends by socket there, and says so."""
    with lab.Pairing(scratch, start=False) as made:
        made.n1.run("tc", "qdisc", "add", "dev", "out0", "root", "tbf", "rate", "100mbit", "burst", "64k", "latency", "50ms")
        made.left.start()
        made.right.start()
        works(made)
        shown = made.n1.run("tc", "-s", "qdisc", "show", "dev", "out0").stdout
        packets = int(shown.split(" pkt")[0].split()[-1])
        assert packets >= 40, shown
