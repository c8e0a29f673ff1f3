"""IF-08: a crypto map on a Linux bridge, whose port is the wire."""
import pytest

import lab
import traffic
from balance import assert_balanced
from capture import Capture
from oracle import Oracle


@pytest.fixture
def pair(scratch):
    with lab.Pairing(scratch, start=False) as made:
        made.n1.run("sh", "-c", "ip link set out0 down && ip link set out0 name port0 && ip address flush dev port0 && ip link add out0 type bridge && "
                                "ip link set port0 master out0 && ip link set port0 up && ip link set out0 up")
        made.left.start()
        made.right.start()
        made.n1.ip("route", "replace", "10.2.0.0/16", "via", lab.OUT4[2])
        made.n1.ip6("route", "replace", "2001:db8:2::/64", "via", lab.OUT6[2])
        yield made


def test_a_map_on_a_bridge(pair, scratch):
    traffic.ping_until(pair.hA, lab.host(2, "map4"))
    with Capture(pair.w, "w1", scratch / "bridge.pcap") as capture:
        for flow in ("map4", "map6", "tunnel4"):
            traffic.ping_until(pair.hA, lab.host(2, flow), source=lab.host(1, flow))
            assert traffic.ping(pair.hA, lab.host(2, flow), source=lab.host(1, flow)) == 3
        found = Oracle(pair.flows.all()).examine(capture.frames())
    found.assert_protected()
    device = next(one for one in pair.left.dataplane()["devices"] if one["name"] == "out0")
    assert device["role"] == "outside" and device["xdp_mode"] == "generic"
    done = traffic.transfer(pair.hA, pair.hB, lab.host(2, "map4"), 1_000_000, near=lab.host(1, "map4"))
    assert done["received"] == 1_000_000 and done["right"], done
    assert_balanced(pair.left, pair.right)
