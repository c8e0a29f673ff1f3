"""One node against a scapy peer, towards the wire: what leaves is what policy, RFC 4301 and RFC 4303 say."""
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, defragment, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, PadN, defragment6, fragment6
from scapy.packet import Raw

import documents
import lab
from oracle import esp_bytes
from peer import QUIET, ScapyLab

FLOWS = ("map4", "map6", "tunnel4", "tunnel6")


@pytest.fixture(scope="module", params=["tap", "af_xdp"])
def world(request, module_scratch):
    with ScapyLab(module_scratch / request.param, plain_side=request.param) as made:
        yield made


@pytest.fixture(autouse=True)
def balanced(world):
    with world.balancing():
        yield


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("size", [0, 1, 14, 15, 16, 700, 1300])
def test_protects(world, flow, size):
    payload = world.mark() + b"y" * size
    opened = world.protected(world.inner(flow, False, payload), flow)
    assert len(opened) == 1
    one = opened[0]
    assert bytes(one.inner[UDP].payload) == payload
    assert (one.inner.src, one.inner.dst) == (lab.host(1, flow), lab.host(2, flow))
    assert (one.outer.src, one.outer.dst) == world.outer_addresses(flow)[::-1]
    assert one.spi == world.pair(flow).to_right.spi


@pytest.mark.parametrize("flow", FLOWS)
def test_numbers_rise_by_one(world, flow):
    """RFC 4303 3.3.3."""
    numbers = [world.protected(world.inner(flow, False), flow)[0].sequence for _ in range(5)]
    assert numbers == list(range(numbers[0], numbers[0] + 5))


@pytest.mark.parametrize("flow", FLOWS)
def test_headers_of_the_tunnel(world, flow):
    """RFC 4301 5.1.2: TTL steps down once inside and is ours outside; DSCP and ECN are copied outwards."""
    ttl, tos = ("ttl", "tos") if flow.endswith("4") else ("hlim", "tc")
    one = world.protected(world.inner(flow, False, **{ttl: 40, tos: 0x2E << 2 | 2}), flow)[0]
    assert getattr(one.inner, ttl) == 39
    assert getattr(one.outer, ttl) == 255
    assert getattr(one.inner, tos) == 0x2E << 2 | 2
    assert getattr(one.outer, tos) == 0x2E << 2 | 2
    if flow.endswith("4"):
        assert IP(bytes(one.outer)).chksum == IP(bytes(one.outer)).chksum and checksum_right(one.outer)


def checksum_right(packet) -> bool:
    fresh = packet.copy()
    del fresh.chksum
    return IP(bytes(fresh)).chksum == packet.chksum


@pytest.mark.parametrize("flow", ("map4", "tunnel4"))
@pytest.mark.parametrize("bit", [True, False])
def test_df_is_copied(world, flow, bit):
    """RFC 4301 8.1, the default of the three policies."""
    one = world.protected(world.inner(flow, False, flags="DF" if bit else 0), flow)[0]
    assert bool(one.outer.flags.DF) is bit
    assert bool(one.inner.flags.DF) is bit


def test_fragments_follow_their_packet(world):
    """Layer 3 policy: non-initial fragments have no ports and are protected all the same."""
    payload = world.mark() * 60
    whole = IP(src=lab.host(1, "map4"), dst=lab.host(2, "map4"), id=4321) / UDP(sport=5, dport=6) / Raw(payload)
    inners = []
    for piece in fragment(whole, fragsize=400):
        opened = world.protected(piece, "map4")
        assert len(opened) == 1
        inners.append(opened[0].inner)
    rebuilt = [packet for packet in defragment(inners) if packet.haslayer(UDP)]
    assert bytes(rebuilt[0][UDP].payload) == payload
    six = IPv6(src=lab.host(1, "map6"), dst=lab.host(2, "map6")) / IPv6ExtHdrFragment(id=5) / UDP(sport=5, dport=6) / Raw(payload)
    inners = [world.protected(piece, "map6")[0].inner for piece in fragment6(six, 600)]
    assert bytes(defragment6(inners)[UDP].payload) == payload


def test_options_extension_headers_and_other_protocols(world):
    payload = world.mark()
    four = IP(src=lab.host(1, "map4"), dst=lab.host(2, "map4"), options=[IPOption_NOP()] * 4) / UDP() / Raw(payload)
    assert payload in bytes(world.protected(four, "map4")[0].inner)
    six = IPv6(src=lab.host(1, "map6"), dst=lab.host(2, "map6")) / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(4))]) / UDP() / Raw(payload)
    assert payload in bytes(world.protected(six, "map6")[0].inner)
    for layer in (ICMP(), TCP(sport=1, dport=2, flags="S"), IP(src="1.2.3.4", dst="5.6.7.8")):
        payload = world.mark()
        packet = IP(src=lab.host(1, "map4"), dst=lab.host(2, "map4")) / layer / Raw(payload)
        assert payload in bytes(world.protected(packet, "map4")[0].inner)


def test_other_traffic_stays_clear(world):
    """What no rule matches is none of our business; the same packet in the flow would be sealed."""
    payload = world.mark()
    other = IP(src=lab.host(1, "map4"), dst="198.51.100.7", ttl=20) / UDP() / Raw(payload)
    got = world.on_wire(other, lambda one: payload in bytes(one))
    assert got is not None and esp_bytes(got) is None and got.ttl == 19


def test_large_packets_without_df_arrive_in_pieces(world):
    """IPv4 without DF: fragmented before or after sealing, but every piece is ESP and the data is whole."""
    for flow in ("map4", "tunnel4"):
        payload = world.mark().ljust(1472, b"w")
        packet = world.inner(flow, False, payload)
        opened = world.protected(packet, flow, seconds=2, count=99)
        inners = [one.inner for one in opened]
        rebuilt = [one for one in defragment(inners) if one.haslayer(UDP)] if len(inners) > 1 else inners
        assert rebuilt and bytes(rebuilt[0][UDP].payload) == payload, flow


def test_expired_ttl_is_not_sealed(world):
    """The forwarding hop is ours: TTL 1 ends here, with the message of RFC 792."""
    payload = world.mark()
    world.peer.drain()
    world.host.drain()
    world.host.send(world.inner("map4", False, payload, ttl=1))
    answer = world.host.first(lambda one: one.haslayer(ICMP) and one[ICMP].type == 11)
    assert answer is not None
    assert world.peer.first(lambda one: esp_bytes(one) is not None, QUIET) is None


def test_the_nodes_own_traffic_is_protected_too(world):
    """A ping from the node itself, with an inside source address, matches the map like any other packet."""
    world.peer.drain()
    world.n1.run("ping", "-c", "1", "-W", "1", "-I", "10.1.0.1", "10.2.0.2", check=False)
    found = world.peer.first(lambda one: esp_bytes(one) is not None or (one.haslayer(ICMP) and one.dst == "10.2.0.2"))
    assert found is not None and esp_bytes(found) is not None


@pytest.mark.parametrize("policy,inner,outer", [("set", 0, True), ("clear", "DF", False)])
def test_df_policies(scratch, policy, inner, outer):
    """The two other policies of RFC 4301 8.1, per map entry and per tunnel."""
    flows = lab.fresh_flows()
    document = lab.gateway_document(1, flows)
    document["crypto_maps"][0]["entries"][0]["df_bit"] = policy
    document["tunnels"][0]["df_bit"] = policy
    with ScapyLab(scratch, document, flows) as one:
        for flow in ("map4", "tunnel4"):
            sealed = one.protected(one.inner(flow, False, flags=inner), flow)[0]
            assert bool(sealed.outer.flags.DF) is outer
        one.assert_balanced()


def test_a_flow_of_its_own_ports(scratch):
    """An ACL with ports: the 5-tuple decides, its neighbour stays clear."""
    flows = lab.fresh_flows()
    document = lab.gateway_document(1, flows)
    document["acls"][0] = documents.permit("101", "10.1.0.0/16", "10.2.0.0/16", "udp", destination_ports="range 2000 2100")
    with ScapyLab(scratch, document, flows) as one:
        assert len(one.protected(one.inner("map4", False), "map4")) == 1  # destination port 2048
        payload = one.mark()
        beside = IP(src=lab.host(1, "map4"), dst=lab.host(2, "map4")) / UDP(sport=1024, dport=2101) / Raw(payload)
        got = one.on_wire(beside, lambda packet: payload in bytes(packet))
        assert got is not None and esp_bytes(got) is None
        one.assert_balanced()
