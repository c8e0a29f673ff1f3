"""ICMP errors whose own addresses no policy names: of the flow of the packet that they quote, both ways (RFC 4301 6.2, R43-15 to 18)."""
import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6
from scapy.packet import Raw

import documents
import lab
import traffic
from balance import DropWatch, assert_balanced
from capture import Capture
from oracle import Oracle, association, esp_bytes, is_control, open_esp
from peer import QUIET, ScapyLab

FLOWS = ("map4", "map6")
ROUTER = {"map4": "172.16.99.9", "map6": "2001:db8:99::9"}  # of neither side's networks
ERRORS = {"map4": [ICMP(type=3, code=1), ICMP(type=3, code=4, nexthopmtu=1200), ICMP(type=11, code=0), ICMP(type=12, code=0)],
          "map6": [ICMPv6DestUnreach(code=3), ICMPv6PacketTooBig(mtu=1280), ICMPv6TimeExceeded(code=0)]}
THIRD = "10.30.0.9"  # a host behind a second peer: see `hub`


@pytest.fixture(scope="module", params=("tap", "af_xdp"))
def world(request, module_scratch):
    with ScapyLab(module_scratch / request.param, plain_side=request.param) as made:
        # Nobody lives there: the kernel says so at once.
        made.n1.ip("route", "add", "unreachable", "10.1.77.0/24")
        made.n1.ip6("route", "add", "unreachable", "2001:db8:1:0:77::/80")
        yield made


@pytest.fixture(autouse=True)
def balanced(request):
    if "world" not in request.fixturenames:
        yield
        return
    with request.getfixturevalue("world").balancing():
        yield


def layer(flow: str):
    return IP if flow.endswith("4") else IPv6


def quoted(flow: str, arrived: bool, payload: bytes, **changes) -> bytes:
    """What an error about a packet of the flow quotes; `arrived`: one from hB to hA."""
    source, destination = (lab.host(2, flow), lab.host(1, flow)) if arrived else (lab.host(1, flow), lab.host(2, flow))
    return bytes(layer(flow)(**{"src": source, "dst": destination, **changes}) / UDP(sport=1024, dport=2048) / Raw(payload))


def counter(world, flow: str, name: str) -> int:
    for interface in world.node.show("crypto", "ipsec", "sa")["interfaces"]:
        for one in interface["flows"]:
            if not interface["name"].startswith("Tunnel") and (":" in one["endpoints"]["local"]) == flow.endswith("6"):
                return one["counters"][name]
    raise AssertionError(flow)


@pytest.mark.parametrize("flow,error", [(flow, error) for flow in FLOWS for error in ERRORS[flow]], ids=lambda v: v if isinstance(v, str) else v.summary())
def test_a_routers_error_leaves_in_the_sa_of_its_packet(world, flow, error):
    """R43-15, R43-17, R43-18: a router behind the node, about a packet that hB sent; counted once."""
    payload, before = world.mark(), counter(world, flow, "encaps")
    packet = layer(flow)(src=ROUTER[flow], dst=lab.host(2, flow)) / error / Raw(quoted(flow, True, payload))
    opened = world.protected(packet, flow)
    assert len(opened) == 1
    inner = opened[0].inner
    assert (inner.src, inner.dst) == (ROUTER[flow], lab.host(2, flow)) and payload in bytes(inner)
    assert counter(world, flow, "encaps") == before + 1


@pytest.mark.parametrize("flow", FLOWS)
def test_an_error_about_another_packet_is_bypassed_like_any_packet(world, flow):
    """Its own addresses are of no flow, and its quote is not either: what the policy does not name leaves as it is."""
    other = {"dst": "10.9.0.9"} if flow.endswith("4") else {"dst": "2001:db8:9::9"}
    payload, before = world.mark(), counter(world, flow, "encaps")
    packet = layer(flow)(src=ROUTER[flow], dst=lab.host(2, flow)) / ERRORS[flow][0] / Raw(quoted(flow, True, payload, **other))
    assert world.on_wire(packet, lambda one: payload in bytes(one)) is not None
    assert counter(world, flow, "encaps") == before


@pytest.mark.parametrize("flow", FLOWS)
def test_an_error_whose_quote_cannot_be_read_does_not_leave(world, flow):
    payload = world.mark()
    packet = layer(flow)(src=ROUTER[flow], dst=lab.host(2, flow)) / ERRORS[flow][0] / Raw(quoted(flow, True, payload)[:19])
    with DropWatch(world.node, "unparseable"):
        world.host.send(packet)


@pytest.mark.parametrize("flow,error", [(flow, error) for flow in FLOWS for error in ERRORS[flow]], ids=lambda v: v if isinstance(v, str) else v.summary())
def test_a_routers_error_arrives_in_the_sa_of_its_packet(world, flow, error):
    """R43-16, R43-17: a router behind the peer, about a packet that hA sent."""
    payload, before = world.mark(), counter(world, flow, "decaps")
    packet = layer(flow)(src=ROUTER[flow], dst=lab.host(1, flow)) / error / Raw(quoted(flow, False, payload))
    got = world.delivered(world.seal(flow, packet), payload)
    assert got is not None and got.src == ROUTER[flow]
    assert counter(world, flow, "decaps") == before + 1


@pytest.mark.parametrize("flow", FLOWS)
def test_a_forged_error_is_dropped_under_its_own_reason(world, flow):
    """R43-16: authentic by its key, and about a packet that this SA never carried."""
    v4 = flow.endswith("4")
    for changes in ({"src": "10.9.0.9" if v4 else "2001:db8:9::9"}, {"dst": "10.9.0.9" if v4 else "2001:db8:9::9"}):
        payload = world.mark()
        packet = layer(flow)(src=ROUTER[flow], dst=lab.host(1, flow)) / ERRORS[flow][1] / Raw(quoted(flow, False, payload, **changes))
        world.refused(world.seal(flow, packet), "icmp_embedded", payload)
    payload = world.mark()
    packet = layer(flow)(src=ROUTER[flow], dst=lab.host(1, flow)) / ERRORS[flow][0] / Raw(quoted(flow, False, payload)[:16])
    world.refused(world.seal(flow, packet), "icmp_embedded", payload)
    payload = world.mark()  # no error: its own addresses count alone
    packet = layer(flow)(src=ROUTER[flow], dst=lab.host(1, flow)) / UDP(sport=1, dport=2) / Raw(payload)
    world.refused(world.seal(flow, packet), "selector", payload)


@pytest.mark.parametrize("flow", FLOWS)
def test_an_error_in_clear_about_a_protected_packet_is_made_up(world, flow):
    """Nobody between the gateways has seen a packet of hA's; who says so has not either."""
    payload = world.mark()
    packet = layer(flow)(src=ROUTER[flow], dst=lab.host(1, flow)) / ERRORS[flow][1] / Raw(quoted(flow, False, payload))
    world.refused(packet, "clear_text", payload)
    payload = world.mark()  # about a packet that leaves in clear: it may
    other = {"dst": "10.9.0.9"} if flow.endswith("4") else {"dst": "2001:db8:9::9"}
    packet = layer(flow)(src=ROUTER[flow], dst=lab.host(1, flow)) / ERRORS[flow][1] / Raw(quoted(flow, False, payload, **other))
    assert world.delivered(packet, payload) is not None


@pytest.mark.parametrize("flow", FLOWS)
def test_the_kernels_own_errors_are_protected(world, flow):
    """The node's kernel answers a packet that came out of the SA: from an address of the node that no rule names."""
    nobody = "10.1.77.7" if flow.endswith("4") else "2001:db8:1:0:77::7"
    payload = world.mark()
    packet = layer(flow)(src=lab.host(2, flow), dst=nobody) / UDP(sport=1024, dport=2048) / Raw(payload)
    spi = world.pair(flow).to_right.spi.to_bytes(4, "big")
    world.peer.drain()
    world.peer.send(world.seal(flow, packet))
    seen = world.peer.first(lambda one: payload in bytes(one) or (esp_bytes(one) or b"").startswith(spi))
    assert seen is not None and payload not in bytes(seen), "the kernel's error left in clear"
    inner = open_esp(world.pair(flow).to_right, esp_bytes(seen))
    assert inner.dst == lab.host(2, flow) and payload in bytes(inner)
    assert inner.haslayer(ICMP) or inner.haslayer(ICMPv6DestUnreach)


# --- two nodes, and Linux on all sides


@pytest.fixture(scope="module")
def pairing(module_scratch):
    with lab.Pairing(module_scratch / "pairing") as made:
        made.n2.ip("route", "add", "unreachable", "10.2.77.0/24")
        made.n2.ip6("route", "add", "unreachable", "2001:db8:2:0:77::/80")
        for flow in FLOWS:
            traffic.ping_until(made.hA, lab.host(2, flow), source=lab.host(1, flow))
        yield made


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("what", ("time exceeded", "unreachable"))
def test_traceroute_through_a_map(pairing, flow, what):
    """N2's kernel answers hA from its outside address, which no rule names: hA hears it, and W's bridge carries nothing but ESP."""
    v4 = flow.endswith("4")
    if what == "unreachable":
        words, far = [], "10.2.77.7" if v4 else "2001:db8:2:0:77::7"
    else:
        words, far = ["-t", "2"], lab.host(2, flow)  # N1 takes one hop, N2 the other
    with Capture(pairing.w, "w1", pairing.scratch / f"{what[:4]}-{flow}.pcap") as capture:
        said = pairing.hA.run("ping", "-n", "-c", "1", "-W", "3", "-I", lab.host(1, flow), *words, far, check=False).stdout
    assert what.split()[-1] in said.lower(), said
    found = Oracle(pairing.flows.all()).examine(capture.frames())
    found.assert_protected()
    spis = (pairing.flows.map4 if v4 else pairing.flows.map6)
    passed = [one for one in found.opened if not is_control(one.inner)]
    assert [one.spi for one in passed] == [spis.to_right.spi, spis.to_left.spi]
    answer = passed[-1].inner
    assert answer.src == (lab.OUT4 if v4 else lab.OUT6)[2] and answer.dst == lab.host(1, flow)
    assert_balanced(pairing.left, pairing.right)


# --- an error of the worker's own


@pytest.fixture
def hub(scratch):
    """N1 between two peers, both at P: what comes from 10.2/16 and goes to 10.30/16 passes it, and the way there is narrower
    (UDP encapsulation takes 8 bytes, here a whole block)."""
    flows = lab.fresh_flows()
    document = lab.gateway_document(1, flows)
    onward, back = documents.fresh_pair(0x7001), documents.fresh_pair(0x7101)
    documents.map_entry(document, "M4", 20, documents.permit("TO-THIRD", "10.2.0.0/16", "10.30.0.0/16"), lab.OUT4[2],
                        onward.session_key(True), lab.TRANSFORMS, udp_encapsulation={"local_port": 4500, "remote_port": 4500})
    documents.map_entry(document, "M4", 30, documents.permit("FROM-THIRD", "10.30.0.0/16", "10.2.0.0/16"), lab.OUT4[2],
                        back.session_key(True), lab.TRANSFORMS)
    with ScapyLab(scratch, document=document, flows=flows) as made:
        made.onward, made.back = onward, back
        for name in ("all", "out0"):  # in by one interface and out by the same: no redirects between what is counted
            made.n1.sysctl(f"net.ipv4.conf.{name}.send_redirects", 0)
        yield made


def test_the_workers_own_error_is_protected(hub):
    """Too big for the second tunnel, with DF: the worker tells hB, and the error, from the node's outside address, leaves in the SA
    of the flow that it is about. A capture of the wire holds nothing of the packet in clear."""
    payload = hub.mark()
    size = 1500 - 20 - 8 - 16 - 16  # room for ciphertext, as SV-19 has it
    largest = size // 16 * 16 - 2
    packet = IP(src=lab.host(2, "map4"), dst=THIRD, flags="DF") / UDP(sport=1024, dport=2048) / Raw(payload.ljust(largest - 28, b"z"))
    assert len(bytes(packet)) == largest
    sealed = association(hub.back.to_left, lab.OUT4[2], lab.OUT4[1], ttl=64).encrypt(packet, seq_num=1)
    with hub.balancing():
        hub.peer.drain()
        with DropWatch(hub.node, "too_big"):
            hub.peer.send(sealed)
        spi = hub.back.to_right.spi.to_bytes(4, "big")
        seen = hub.peer.collect(lambda one: payload[:20] in bytes(one) or (esp_bytes(one) or b"").startswith(spi), QUIET * 5, 1)
        assert len(seen) == 1 and payload[:20] not in bytes(seen[0]), "the worker's error left in clear"
        error = open_esp(hub.back.to_right, esp_bytes(seen[0]))
        assert (error.src, error.dst) == (lab.OUT4[1], lab.host(2, "map4"))
        assert (error[ICMP].type, error[ICMP].code) == (3, 4) and 0 < error[ICMP].nexthopmtu < largest
        assert payload[:20] in bytes(error)
