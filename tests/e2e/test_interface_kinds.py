"""Other tunnels inside IPsec, and maps where they cannot be: IF-09, IF-12, IF-17. The node between scapy ends; what a GRE or IP-in-IP
device of the kernel would send comes from a raw socket of the node's own host, since not every kernel has such devices."""
import copy
import itertools
import socket

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP
from scapy.layers.l2 import GRE
from scapy.packet import Raw

import documents
import lab
from balance import DropWatch
from peer import QUIET, ScapyLab
from protection import protection
from test_ah import received

ESP_SET = ("esp-aes", "esp-sha256-hmac")
KINDS = {"gre": 47, "ipip": 4, "6in4": 41}
MODES = ("transport", "tunnel")


def entries(document: dict) -> dict[str, object]:
    """One for each kind, GRE and 6in4 in transport mode, IP-in-IP in tunnel mode."""
    made = {}
    for number, (kind, protocol) in enumerate(KINDS.items()):
        mode = "tunnel" if kind == "ipip" else "transport"
        keys = made[kind] = protection(0x8001 + 16 * number, lab.OUT4[1], lab.OUT4[2], ESP_SET, mode)
        acl = documents.permit(f"IN-{kind}", f"host {lab.OUT4[1]}", f"host {lab.OUT4[2]}", protocol)
        documents.map_entry(document, "M4", 300 + number, acl, lab.OUT4[2], keys.session_key(), ESP_SET, mode)
    return made


@pytest.fixture(scope="module")
def world(module_scratch):
    flows = lab.fresh_flows(lab.TRANSFORMS)
    document = lab.gateway_document(1, flows)
    keys = entries(document)
    with ScapyLab(module_scratch, document, flows) as made:
        made.keys = keys
        made.numbers = itertools.count(1)
        yield made


@pytest.fixture(autouse=True)
def balanced(world):
    with world.balancing():
        yield


def carried(kind: str, payload: bytes, back: bool = False):
    """What the tunnel of that kind carries, behind its outer header."""
    if kind == "6in4":
        ends = ("2001:db8:2::2", "2001:db8:1::2") if back else ("2001:db8:1::2", "2001:db8:2::2")
        return IPv6(src=ends[0], dst=ends[1]) / UDP(sport=5, dport=6) / Raw(payload)
    ends = ("10.2.0.2", "10.1.0.2") if back else ("10.1.0.2", "10.2.0.2")
    inner = IP(src=ends[0], dst=ends[1]) / UDP(sport=5, dport=6) / Raw(payload)
    return GRE(proto=0x0800) / inner if kind == "gre" else inner


@pytest.mark.parametrize("kind", KINDS)
def test_a_tunnel_inside_ipsec(world, kind):
    """IF-17, and IF-12: transport mode on out0, which is the source of protected tunnels as well."""
    keys, payload = world.keys[kind], world.mark()
    with world.n1.socket(socket.AF_INET, socket.SOCK_RAW, KINDS[kind]) as device:
        device.bind((lab.OUT4[1], 0))
        world.peer.drain()
        device.sendto(bytes(carried(kind, payload)), (lab.OUT4[2], 0))
        wire = world.peer.first(lambda one: ESP in one or payload in bytes(one))
        assert ESP in wire, "it left in clear"
        opened = IP(bytes(keys.open_from_left(wire)))
        assert (opened.src, opened.dst, opened.proto) == (lab.OUT4[1], lab.OUT4[2], KINDS[kind])
        assert bytes(opened.payload) == bytes(carried(kind, payload))

        answer = world.mark()
        back = IP(bytes(IP(src=lab.OUT4[2], dst=lab.OUT4[1], proto=KINDS[kind]) / Raw(bytes(carried(kind, answer, True)))))
        world.peer.send(keys.seal_to_left(back, next(world.numbers)))
        got = received(device)
        assert got is not None and got.endswith(bytes(carried(kind, answer, True))), "opened, and handed to the device's end"

        with DropWatch(world.node, "clear_text"):
            world.peer.send(back)
        assert received(device, QUIET) is None, "the same packet in clear"


def test_its_tunnels_go_on_beside_it(world):
    """IF-12: the tunnel whose source is the map's interface, with a set of tunnel mode; a set of transport mode is refused, with the reason."""
    payload = world.mark()
    opened = world.protected(world.inner("tunnel4", False, payload), "tunnel4")
    assert len(opened) == 1 and payload in bytes(opened[0].inner)
    document = copy.deepcopy(world.node.document)
    name = documents.transform_set(document, ESP_SET, "transport")
    document["ipsec"]["profiles"][0]["transform_sets"] = [name]
    refused = world.node.apply(document, check=False)
    assert refused.returncode == 1 and "/tunnels/0/protection/profile" in refused.stderr and "tunnel mode" in refused.stderr, refused.stderr


@pytest.mark.parametrize("name", ("Tunnel0", "Tunnel1"))
def test_a_map_on_a_tunnel_is_refused(world, name):
    """IF-09: what goes into a tunnel is protected by it; the reason is said, and nothing is changed."""
    document = copy.deepcopy(world.node.document)
    documents.interface(document, name, [], crypto_map="M4")
    before = world.node.postern("config", "show").stdout
    refused = world.node.apply(document, check=False)
    assert refused.returncode == 1 and "/interfaces/2/name" in refused.stderr and "made by this document's tunnels" in refused.stderr
    assert world.node.postern("config", "show").stdout == before


def test_a_map_on_a_device_without_ethernet_says_so(world):
    """IF-09: the map's packets are dropped there, none leaves in clear, and the node's state tells why."""
    world.n1.ip("tuntap", "add", "dev", "ppp9", "mode", "tun")
    try:
        world.n1.ip("link", "set", "ppp9", "up")
        document = copy.deepcopy(world.node.document)
        documents.interface(document, "ppp9", ["198.51.100.1/30"])
        keys = documents.fresh_pair(0x8801)
        documents.map_entry(document, "MT", 10, documents.permit("AT", "10.1.0.0/16", "10.77.0.0/16"), "198.51.100.2", keys.session_key(True), ESP_SET)
        world.node.apply(document)
        assert "ppp9" not in world.node.dataplane()["state"], "without a map it is an interface like any other"
        document["interfaces"][-1]["crypto_map"] = "MT"
        world.node.apply(document)
        state = world.node.dataplane()["state"]
        assert state.startswith("degraded") and "ppp9 has no Ethernet header" in state, state
        world.node.apply(world.node.document)
        assert world.node.dataplane()["state"] == "running"
    finally:
        world.n1.ip("link", "del", "ppp9", check=False)
