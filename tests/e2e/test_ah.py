"""Transport mode, AH, and AH around ESP: a node between scapy ends, and two nodes that talk to each other themselves."""
import contextlib
import itertools
import select
import socket

import pytest
from scapy.layers.inet import ICMP, IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.layers.ipsec import AH, ESP
from scapy.packet import Raw

import documents
import lab
import safety
import traffic
from balance import DropWatch, assert_balanced
from capture import Capture
from peer import QUIET, ScapyLab
from protection import Protection, protection

ESP_SET, AH_SET = ("esp-aes", "esp-sha256-hmac"), ("ah-sha256-hmac",)
BOTH_SET = AH_SET + ESP_SET
# Flows between the node and its peer, told apart by the peer's UDP port; and one between the hosts behind them.
TRANSPORT = {7001: ("ah", AH_SET), 7002: ("esp", ESP_SET), 7003: ("both", BOTH_SET), 7004: ("ah-sha512", ("ah-sha512-hmac",))}
TUNNEL = {"10.2.0.0/16": AH_SET, "10.6.0.0/16": BOTH_SET}


def between_hosts(document: dict, family: int) -> dict[int, Protection]:
    """Transport mode, one entry for each port; the sets say `transport`, and what else uses them is of tunnel mode."""
    ends = lab.OUT4 if family == 4 else lab.OUT6
    made = {}
    for number, (port, (name, transforms)) in enumerate(TRANSPORT.items()):
        keys = made[port] = protection(0x6001 + 16 * number, ends[1], ends[2], transforms, "transport")
        acl = documents.permit(f"T{family}-{name}", f"host {ends[1]}", f"host {ends[2]}", "udp", destination_ports=f"eq {port}")
        acl["family"] = f"ipv{family}"
        documents.map_entry(document, f"M{family}", 100 + number, acl, ends[2], keys.session_key(), transforms, "transport")
    return made


@pytest.fixture(scope="module")
def world(module_scratch):
    document = documents.empty("N1")
    four, six = between_hosts(document, 4), between_hosts(document, 6)
    tunnels = {}
    for number, (net, transforms) in enumerate(TUNNEL.items()):
        keys = tunnels[net] = protection(0x7001 + 16 * number, lab.OUT4[1], lab.OUT4[2], transforms, "tunnel")
        # The set says transport, the traffic does not end at the peer: TS-34's trap.
        documents.map_entry(document, "M4", 200 + number, documents.permit(f"N{number}", "10.1.0.0/16", net), lab.OUT4[2],
                            keys.session_key(), transforms, "transport")
    documents.interface(document, "out0", [f"{lab.OUT4[1]}/24", f"{lab.OUT6[1]}/64"], crypto_map="M4", ipv6_crypto_map="M6")
    documents.interface(document, "in0", lab.inside_addresses(1), inside=True)
    with ScapyLab(module_scratch, document) as made:
        made.keys = {4: four, 6: six}
        made.tunnels = tunnels
        made.numbers = itertools.count(1)
        yield made


@pytest.fixture(autouse=True)
def balanced(request):
    if "world" not in request.fixturenames:
        yield
        return
    with request.getfixturevalue("world").balancing():
        yield


@contextlib.contextmanager
def own_socket(world, family: int, port: int):
    """A socket of the node's own host, connected to the peer."""
    ends = lab.OUT4 if family == 4 else lab.OUT6
    with world.n1.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM, 0) as made:
        made.bind((ends[1], 0))
        made.connect((ends[2], port))
        yield made


def own_packet(sock, family: int, payload: bytes):
    """The peer's answer to `sock`, in clear."""
    ends = lab.OUT4 if family == 4 else lab.OUT6
    layer = IP if family == 4 else IPv6
    return layer(src=ends[2], dst=ends[1]) / UDP(sport=sock.getpeername()[1], dport=sock.getsockname()[1]) / Raw(payload)


def received(sock, seconds: float = 5) -> bytes | None:
    return sock.recv(65535) if select.select([sock], [], [], seconds)[0] else None


def has_esp(packet) -> bool:
    """scapy shows none behind AH."""
    return ESP in packet or (AH in packet and packet[AH].nh == 50)


def is_protected(packet) -> bool:
    return AH in packet or ESP in packet


@pytest.mark.parametrize("port", TRANSPORT)
@pytest.mark.parametrize("family", (4, 6))
def test_the_nodes_own_traffic(world, family, port):
    keys, payload = world.keys[family][port], world.mark()
    with own_socket(world, family, port) as sock:
        world.peer.drain()
        sock.send(payload)
        wire = world.peer.first(lambda one: is_protected(one) or payload in bytes(one))
        assert is_protected(wire), "it left in clear"
        assert (AH in wire, has_esp(wire)) == (keys.to_right.ah_key is not None, keys.to_right.esp is not None)
        opened = keys.open_from_left(wire)
        assert bytes(opened[UDP].payload) == payload and (opened.src, opened.dst) == (keys.left, keys.right)
        answer = world.mark()
        world.peer.send(keys.seal_to_left(own_packet(sock, family, answer), next(world.numbers)))
        assert received(sock) == answer


@pytest.mark.parametrize("port", TRANSPORT)
@pytest.mark.parametrize("family", (4, 6))
def test_what_is_not_as_policy_says(world, family, port):
    """In clear, changed on the way, or only a part of what the flow demands."""
    keys = world.keys[family][port]
    with own_socket(world, family, port) as sock:
        clear = own_packet(sock, family, world.mark())
        with DropWatch(world.node, "clear_text"):
            world.peer.send(clear)
        changed = bytearray(bytes(keys.seal_to_left(clear, next(world.numbers))))
        changed[-1] ^= 1
        with DropWatch(world.node, "bad_icv"):
            world.peer.send(clear.__class__(bytes(changed)))
        if keys.to_left.esp and keys.to_left.ah_key:
            with DropWatch(world.node, "bundle"):
                world.peer.send(keys.seal_to_left(clear, next(world.numbers), ah=False))
            with DropWatch(world.node, "selector"):
                world.peer.send(keys.seal_to_left(clear, next(world.numbers), esp=False))
        assert received(sock, QUIET) is None


@pytest.mark.parametrize("net", TUNNEL)
def test_tunnel_mode(world, net):
    keys, payload = world.tunnels[net], world.mark()
    far = net.replace("0.0/16", "0.2")
    inner = IP(src="10.1.0.2", dst=far) / UDP(sport=1, dport=2) / Raw(payload)
    wire = world.on_wire(inner, is_protected)
    assert (wire.src, wire.dst) == (lab.OUT4[1], lab.OUT4[2])
    opened = keys.open_from_left(wire)
    assert bytes(opened[UDP].payload) == payload and opened.dst == far
    answer = world.mark()
    back = IP(src=far, dst="10.1.0.2") / UDP(sport=2, dport=1) / Raw(answer)
    assert world.delivered(keys.seal_to_left(back, next(world.numbers)), answer) is not None


def test_modes_are_shown(world):
    flows = [flow for one in world.node.show("crypto", "ipsec", "sa")["interfaces"] for flow in one["flows"]]
    by_port = {(flow["remote_ident"]["prefix"], flow["remote_ident"]["port"]): flow for flow in flows}
    for port, (_, transforms) in TRANSPORT.items():
        for address in (f"{lab.OUT4[2]}/32", f"{lab.OUT6[2]}/128"):
            sas = by_port[address, port]["sas"]
            assert {sa["mode"] for sa in sas} == {"transport"}
            wanted = {"ah": [t for t in transforms if t.startswith("ah-")], "esp": [t for t in transforms if t.startswith("esp-")]}
            assert all(sa["transforms"] == wanted[sa["proto"]] for sa in sas)
            assert sorted(sa["proto"] for sa in sas) == sorted(proto for proto, words in wanted.items() if words for _ in "io")
    outermost = {net: {sa["mode"] for sa in by_port[net, 0]["sas"] if sa["proto"] == "esp" or TUNNEL[net] == AH_SET} for net in TUNNEL}
    assert outermost == {net: {"tunnel"} for net in TUNNEL}
    text = world.node.postern("show", "crypto", "ipsec", "sa").stdout
    assert "in use settings ={Transport, }" in text and "in use settings ={Tunnel, }" in text
    ah_part = text.split("inbound ah sas:")[1].split("inbound pcp sas:")[0]
    assert "transform: ah-sha" in ah_part and "IV size: 0 bytes" in ah_part
    sessions = world.node.show("crypto", "session")["sessions"]
    assert 4 in {flow["active_sas"] for session in sessions for flow in session["flows"]}


@pytest.mark.parametrize("family", (4, 6))
def test_ah_that_arrives_in_fragments(world, family):
    """RFC 4302 3.4.1: reassembly comes first; the kernel does it, and a raw socket gives it to the worker."""
    keys = world.keys[family][7001]
    with own_socket(world, family, 7001) as sock:
        payload = world.mark() + bytes(1200)
        whole = keys.seal_to_left(own_packet(sock, family, payload), next(world.numbers))
        if family == 4:
            pieces = fragment(whole, fragsize=600)
        else:
            packet = IPv6(bytes(whole))
            head = IPv6(src=packet.src, dst=packet.dst, hlim=packet.hlim)
            pieces = fragment6(head / IPv6ExtHdrFragment(nh=51, id=77) / Raw(bytes(packet.payload)), 700)
        assert len(pieces) > 1
        for piece in pieces:
            world.peer.send(piece)
        assert received(sock) == payload


def test_the_node_learns_the_paths_mtu(world):
    """What is too large for the path once it is protected is answered, and the kernel sends smaller ones from then on."""
    with own_socket(world, 4, 7002) as sock:
        sock.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO: DF set, and an error when it is known
        sock.send(bytes(1472))
        with pytest.raises(OSError, match="too long"):
            for _ in range(50):
                sock.send(bytes(1472))
                select.select([], [], [], 0.05)
        assert sock.getsockopt(socket.IPPROTO_IP, 14) < 1500  # IP_MTU


def test_clear_installs_both_halves_again(world):
    spi = world.tunnels["10.6.0.0/16"].to_left.spi
    world.node.postern("clear", "crypto", "sa", "spi", str(spi))
    sas = [sa for one in world.node.show("crypto", "ipsec", "sa")["interfaces"] for flow in one["flows"] for sa in flow["sas"]
           if sa["spi"] in (f"0x{spi:X}", f"0x{spi - 1:X}")]
    assert len(sas) == 4 and not any(sa["packets"] for sa in sas)
    test_tunnel_mode(world, "10.6.0.0/16")


# --- two nodes

def host_document(side: int, transforms, mode: str, keys: dict[int, Protection]) -> dict:
    document = documents.empty(f"N{side}")
    other = 3 - side
    for family, ends in ((4, lab.OUT4), (6, lab.OUT6)):
        acl = documents.permit(f"H{family}", f"host {ends[side]}", f"host {ends[other]}")
        acl["family"] = f"ipv{family}"
        documents.map_entry(document, f"M{family}", 10, acl, ends[other], keys[family].session_key(side == 1), transforms, mode)
    documents.interface(document, "out0", [f"{lab.OUT4[side]}/24", f"{lab.OUT6[side]}/64"], crypto_map="M4", ipv6_crypto_map="M6")
    return document


@pytest.mark.parametrize("transforms", (AH_SET, ESP_SET, BOTH_SET), ids=("ah", "esp", "both"))
def test_two_hosts(scratch, transforms):
    """Everything between the two, TCP with its super-packets too; nothing in clear between them."""
    keys = {family: protection(0x8001 + 16 * family, ends[1], ends[2], transforms, "transport")
            for family, ends in ((4, lab.OUT4), (6, lab.OUT6))}
    with lab.Gateways(scratch) as made:
        left, right = (made.node(side, host_document(side, transforms, "transport", keys)) for side in (1, 2))
        left.start()
        right.start()
        with Capture(made.w, "w1", scratch / "w.pcap") as capture:
            for ends in (lab.OUT4, lab.OUT6):
                traffic.ping_until(made.n1, ends[2], source=ends[1])
                assert traffic.ping(made.n1, ends[2], count=5, size=1000) == 5
                assert traffic.ping(made.n2, ends[1], count=5) == 5
                got = traffic.transfer(made.n1, made.n2, ends[2], 2_000_000, port=9300 + len(ends[1]))
                assert got["received"] == 2_000_000 and got["right"]
            frames = list(capture.frames())
        clear = [one for one in frames if ICMP in one or UDP in one or one.haslayer("TCP")]
        sealed = [one for one in frames if is_protected(one)]
        assert len(sealed) > 1000
        if has_esp(sealed[0]):
            safety.never(clear, "clear packets")
        first = AH if transforms[0].startswith("ah-") else ESP
        assert all(first in one for one in sealed)
        assert_balanced(left, right)
