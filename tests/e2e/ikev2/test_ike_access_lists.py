"""TS-04, TS-07 with strongSwan: which options of a rule the peer is told, and which filter on this side alone."""
import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.utils import PcapReader

from ike_documents import children
from ike_lab import inside
from ike_pairs import SwanLab
from netns import wait_until

ANY = {"action": "permit", "protocol": "ip", "source": inside(1), "destination": inside(2)}


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch, flows=("map4",)) as made:
        yield made


SEND = """
import socket, sys
out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
packet = bytes.fromhex(sys.argv[1])
out.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))
"""


def send(world, packet) -> None:
    world.hA.run("python3", "-c", SEND, bytes(IP(bytes(packet))).hex())


def ip(**fields) -> IP:
    return IP(src="10.1.0.2", dst="10.2.0.2", **fields)


def selectors(world) -> tuple[list[str], list[str]]:
    child = world.peer.children()[0]
    return child["local-ts"], child["remote-ts"]


def told(world, rule: dict, matching, differing) -> tuple[list[str], list[str]]:
    """The first packet that the rule takes brings an SA up, one that differs does not; strongSwan's view of the selectors."""
    world.configure(acl4=[{**ANY, **rule}])
    with world.capture("net 10.0.0.0/8") as capture:
        send(world, differing)
        wait_until(lambda: frames(capture), 5, "what the rule does not take passes in clear")
        assert not children(world.left)
        send(world, matching)
        wait_until(lambda: len(children(world.left)) == 1 and world.peer.children(), 8, "a child SA")
        assert len(frames(capture)) == 1, "and the other one alone"
    return selectors(world)


def frames(capture) -> list:
    with PcapReader(str(capture.path)) as reader:
        return [one for one in reader if one.haslayer(IP) and one[IP].src == "10.1.0.2"]


def test_icmp_types_are_told(world):
    local, remote = told(world, {"protocol": "icmp", "icmp_type": "echo"}, ip() / ICMP(type=8) / b"x", ip() / ICMP(type=13) / b"x")
    assert (local, remote) == (["10.2.0.0/16[icmp/8-8(255)]"], ["10.1.0.0/16[icmp/8-8(255)]"]), "type 8 with every code"


@pytest.mark.parametrize("rule, tos", [({"dscp": "ef"}, 46 << 2), ({"precedence": 5}, 0xa0), ({"tos": 8}, 0x10)], ids=("dscp", "precedence", "tos"))
def test_the_class_filters_here_alone(world, rule, tos):
    local, remote = told(world, {"protocol": "udp", **rule}, ip(tos=tos) / UDP(sport=9, dport=9) / b"x", ip() / UDP(sport=9, dport=9) / b"x")
    assert local == ["10.2.0.0/16[udp]"] and remote == ["10.1.0.0/16[udp]"], (local, remote)
