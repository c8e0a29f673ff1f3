"""The claim of the house, measured on W: what was offered is there as ESP, opens to what was sent, and no number is used twice."""
import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

import lab
import traffic
from balance import assert_balanced
from capture import Capture
from oracle import Oracle, inner_payload
from udp_stream import number_of
from wire import Wire

COUNT, RATE = 5000, 4000


@pytest.fixture(scope="module", params=["tap", "af_xdp"])
def pair(request, module_scratch):
    with lab.Pairing(module_scratch / request.param, plain_side=request.param) as made:
        for flow in ("map4", "tunnel4"):
            traffic.ping_until(made.hA, lab.host(2, flow), source=lab.host(1, flow))
        yield made


@pytest.mark.parametrize("flow", ("map4", "tunnel4"))
def test_offered_packets_are_on_the_wire_as_esp(pair, flow, scratch):
    with Capture(pair.w, "w1", scratch / "w.pcap") as capture:
        sent, received = traffic.stream(pair.hA, pair.hB, lab.host(2, flow), count=COUNT, rate=RATE)
        found = Oracle(pair.flows.all()).examine(capture.frames())
    found.assert_protected()
    seen = {number_of(inner_payload(one.inner)) for one in found.opened if one.inner.haslayer(UDP)} - {None}
    assert sent["sent"] == COUNT
    assert len(seen) > 0.99 * COUNT, f"{len(seen)} of {COUNT} seen as ESP"
    assert received["distinct"] > 0.99 * COUNT and received["wrong"] == 0
    assert_balanced(pair.left, pair.right)


def test_a_planted_clear_packet_is_detected(pair, scratch):
    """The same check, and one packet that N1 never saw: put on W's bridge by the test."""
    with Capture(pair.w, "w1", scratch / "w.pcap") as capture:
        assert traffic.ping(pair.hA, lab.host(2, "map4"), count=3) == 3
        with Wire(pair.w, "w1", "02:00:00:00:00:01", "02:00:00:00:00:02") as plant:
            plant.send(IP(src=lab.host(1, "map4"), dst=lab.host(2, "map4")) / UDP() / Raw(b"planted"))
        found = Oracle(pair.flows.all()).examine(capture.frames())
    assert len(found.clear) == 1 and b"planted" in bytes(found.clear[0])
    with pytest.raises(AssertionError, match="1 clear packets"):
        found.assert_protected()
