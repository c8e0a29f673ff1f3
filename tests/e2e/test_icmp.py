"""Packets that do not fit: the sender is told, with the right MTU, and the largest that fits is what `show` says (SV-19)."""
import pytest
from scapy.layers.inet import ICMP
from scapy.layers.inet6 import ICMPv6PacketTooBig

import lab
import traffic
from balance import DropWatch
from oracle import esp_bytes
from peer import ScapyLab

pytestmark = pytest.mark.long

SETS = [("esp-aes", "esp-sha256-hmac"), ("esp-aes 256", "esp-sha-hmac")]
ICV = {"esp-sha256-hmac": 16, "esp-sha-hmac": 12}


def plaintext_mtu(path: int, flow: str, transforms: tuple[str, str], outer: str | None = None) -> int:
    """SV-19: (path - outer header - 8 - IV - ICV) rounded down to the block, minus 2."""
    room = path - (20 if (outer or flow).endswith("4") else 40) - 8 - 16 - ICV[transforms[1]]
    return room // 16 * 16 - 2


@pytest.fixture(scope="module", params=[(s, p) for s in SETS for p in ("tap", "af_xdp")], ids=lambda v: f"{v[0][1]} {v[1]}")
def world(request, module_scratch):
    transforms, plain_side = request.param
    with ScapyLab(module_scratch / plain_side / transforms[1], transforms=transforms, plain_side=plain_side) as made:
        made.transforms = transforms
        yield made


@pytest.fixture(autouse=True)
def balanced(world):
    with world.balancing():
        yield


def sized(world, flow: str, length: int, **header):
    """An inner packet of `length` bytes in all."""
    headers = 28 if flow.endswith("4") else 48
    return world.inner(flow, False, world.mark().ljust(length - headers, b"z"), **header)


@pytest.mark.parametrize("flow", ("map4", "tunnel4", "map6", "tunnel6"))
def test_the_largest_packet_passes_and_one_more_byte_does_not(world, flow):
    mtu = plaintext_mtu(1500, flow, world.transforms)
    header = {"flags": "DF"} if flow.endswith("4") else {}
    opened = world.protected(sized(world, flow, mtu, **header), flow)
    assert len(opened) == 1 and len(bytes(opened[0].outer)) <= 1500
    world.host.drain()
    world.peer.drain()
    world.host.send(sized(world, flow, mtu + 1, **header))
    if flow.endswith("4"):
        told = world.host.first(lambda one: one.haslayer(ICMP) and one[ICMP].type == 3 and one[ICMP].code == 4)
        assert told is not None and told[ICMP].nexthopmtu == mtu  # RFC 1191
        assert told.dst == lab.host(1, flow)
    else:
        told = world.host.first(lambda one: one.haslayer(ICMPv6PacketTooBig))
        assert told is not None and told[ICMPv6PacketTooBig].mtu == mtu  # RFC 4443 3.2
    assert world.peer.first(lambda one: len(esp_bytes(one) or b"") > 1000, 0.3) is None


def test_show_says_the_same_figure(world):
    for interface in world.node.show("crypto", "ipsec", "sa")["interfaces"]:
        for flow in interface["flows"]:
            name = "map4" if ":" not in flow["endpoints"]["local"] else "map6"
            assert flow["mtu"]["plaintext"] == plaintext_mtu(1500, name, world.transforms)
            assert flow["mtu"]["path"] == 1500


@pytest.mark.parametrize("flow", ("map4", "tunnel4", "map6", "tunnel6"))
def test_ping_finds_the_same_limit(flow, scratch):
    """Two nodes, Linux's own ping: the largest DF ping that passes has plaintext-mtu bytes."""
    with lab.Pairing(scratch) as made:
        near, far = lab.host(1, flow), lab.host(2, flow)
        traffic.ping_until(made.hA, far, source=near)
        headers = 28 if flow.endswith("4") else 48
        largest = plaintext_mtu(1500, flow, lab.TRANSFORMS) - headers
        assert traffic.ping(made.hA, far, size=largest, dont_fragment=True, source=near) == 3
        assert traffic.ping(made.hA, far, size=largest + 1, dont_fragment=True, source=near, wait=1) == 0


def test_a_smaller_path_is_obeyed(scratch):
    """An outside link of 1400 bytes: both the message and the largest packet follow it."""
    flows = lab.fresh_flows()
    document = lab.gateway_document(1, flows)
    with ScapyLab(scratch, document, flows, mtu=1400) as one:
        mtu = plaintext_mtu(1400, "map4", lab.TRANSFORMS)
        assert len(one.protected(sized(one, "map4", mtu, flags="DF"), "map4")) == 1
        with DropWatch(one.node, "too_big", 1):
            one.host.send(sized(one, "map4", mtu + 1, flags="DF"))
        told = one.host.first(lambda packet: packet.haslayer(ICMP) and packet[ICMP].type == 3)
        assert told is not None and told[ICMP].nexthopmtu == mtu
        one.assert_balanced()
