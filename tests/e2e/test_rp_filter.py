"""Design 4.4: a decrypted packet arrives on the interface that holds the map, so reverse path filtering is content."""
import pytest

import lab
import traffic
from balance import assert_balanced


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_traffic_with_reverse_path_filter(mode, scratch):
    with lab.Pairing(scratch, start=False) as made:
        for gateway in (made.n1, made.n2):
            for where in ("all", "default", "out0", "in0"):
                gateway.sysctl(f"net.ipv4.conf.{where}.rp_filter", mode)
        made.left.start()
        made.right.start()
        for flow in ("map4", "tunnel4"):
            traffic.ping_until(made.hA, lab.host(2, flow), source=lab.host(1, flow))
            assert traffic.ping(made.hA, lab.host(2, flow), count=5, source=lab.host(1, flow)) == 5
            assert traffic.ping(made.hB, lab.host(1, flow), count=5, source=lab.host(2, flow)) == 5
        assert_balanced(made.left, made.right)


def test_a_spoofed_inner_source_meets_strict_filtering(scratch):
    """The filter does work: with strict mode and no route back through the outside interface the decrypted packet is dropped."""
    with lab.Pairing(scratch, start=False) as made:
        for where in ("all", "out0"):
            made.n2.sysctl(f"net.ipv4.conf.{where}.rp_filter", 1)
        made.left.start()
        made.right.start()
        far = lab.host(2, "map4")
        traffic.ping_until(made.hA, far)
        made.n2.ip("route", "replace", "blackhole", "10.1.0.0/16")
        made.n2.ip("route", "del", "10.1.0.0/16", "via", lab.OUT4[1], check=False)
        sent, received = traffic.stream(made.hA, made.hB, far, count=50, rate=200, quiet=1)
        assert sent["sent"] == 50 and received["received"] == 0
        assert_balanced(made.left, made.right)
