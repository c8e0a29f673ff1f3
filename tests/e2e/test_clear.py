"""TS-09: a crypto ACL also filters. What arrives in clear but should be protected is dropped, counted, and nothing else is."""
import pytest
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

import documents
import lab
from balance import DropWatch
from peer import ScapyLab


@pytest.fixture(scope="module")
def world(module_scratch):
    with ScapyLab(module_scratch) as made:
        yield made


@pytest.fixture(autouse=True)
def balanced(world):
    with world.balancing():
        yield


@pytest.mark.parametrize("flow", ("map4", "map6"))
def test_clear_packets_of_a_protected_flow_are_dropped(world, flow):
    payload = world.mark()
    world.refused(world.inner(flow, True, payload), "clear_text", payload)
    sealed = world.mark()
    assert world.delivered(world.seal(flow, world.inner(flow, True, sealed)), sealed) is not None, "the same packet as ESP"


def test_fragments_without_ports_are_dropped_too(world):
    payload = world.mark()
    whole = IP(src=lab.host(2, "map4"), dst=lab.host(1, "map4"), id=9) / UDP() / Raw(payload * 40)
    pieces = fragment(whole, fragsize=304)
    for piece in pieces:
        world.refused(piece, "clear_text", payload)


@pytest.mark.parametrize("source", ["10.4.0.9", "198.51.100.9", "192.0.2.2"])
def test_other_clear_packets_pass(world, source):
    payload = world.mark()
    got = world.delivered(IP(src=source, dst=lab.host(1, "map4")) / UDP() / Raw(payload), payload)
    assert got is not None and got.src == source


def test_ipv6_neighbours_pass_and_others_are_judged(world):
    payload = world.mark()
    got = world.delivered(IPv6(src="2001:db8:77::1", dst=lab.host(1, "map6")) / UDP() / Raw(payload), payload)
    assert got is not None


def test_unparseable_packets_are_dropped(world):
    """Design 4.6: what cannot be parsed on a protected interface does not pass."""
    payload = world.mark()
    clear = bytes(IP(src=lab.host(2, "map4"), dst=lab.host(1, "map4")) / UDP() / Raw(payload))
    with DropWatch(world.node, "unparseable", 1):
        world.peer.send_bytes(b"\x43" + clear[1:])  # a header of 12 bytes
    assert world.host.first(lambda one: payload in bytes(one), 0.4) is None


def test_deny_rules_let_clear_packets_pass(scratch):
    """TS-09: not for packets that a deny or no rule matched."""
    flows = lab.fresh_flows()
    document = lab.gateway_document(1, flows)
    document["acls"][0] = documents.permit("101", "10.1.0.0/16", "10.2.0.0/16")
    document["acls"][0]["rules"].insert(0, {"action": "deny", "protocol": "ip", "source": "10.1.0.0/16", "destination": "10.2.0.128/25"})
    with ScapyLab(scratch, document, flows) as one:
        payload = one.mark()
        assert one.delivered(IP(src="10.2.0.200", dst="10.1.0.2") / UDP() / Raw(payload), payload) is not None
        one.refused(IP(src="10.2.0.2", dst="10.1.0.2") / UDP() / Raw(payload), "clear_text", payload)
        got = one.on_wire(IP(src="10.1.0.2", dst="10.2.0.200") / UDP() / Raw(payload), lambda packet: payload in bytes(packet))
        assert got is not None and got.dst == "10.2.0.200", "outbound the deny leaves it clear as well"
        one.assert_balanced()
