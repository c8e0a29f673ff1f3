"""Multicast and broadcast under a crypto map and through a tunnel (TS-11); log records of access rules (TS-12)."""
import re
import socket

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

import documents
import lab
from balance import DropWatch
from netns import wait_until
from oracle import open_esp
from peer import QUIET, ScapyLab


INTERVAL = 3  # seconds


@pytest.fixture(scope="module")
def world(module_scratch):
    """Everything is protected, and logged, but what the tunnels make."""
    flows = lab.fresh_flows()
    document = lab.gateway_document(1, flows)
    document["system"]["acl_log_interval_s"] = INTERVAL
    document["acls"][0] = documents.permit("101", "any", "any", log="input")
    document["acls"][0]["rules"][:0] = [
        {"action": "deny", "protocol": "ip", "source": f"host {lab.OUT4[1]}", "destination": f"host {lab.OUT4[2]}"},
        {"action": "deny", "protocol": "udp", "source": "any", "destination": "any", "destination_ports": "eq 7777", "log": True}]
    with ScapyLab(module_scratch, document, flows) as made:
        yield made


@pytest.fixture(autouse=True)
def balance(world):
    with world.balancing():
        yield


def send_from_node(world, destination: str, device: str, payload: bytes) -> None:
    """The node's own datagram, by one device."""
    with world.n1.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        out.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 8)
        out.sendto(payload, (destination, 9000))


@pytest.mark.parametrize("destination", ["239.1.1.1", "224.0.0.5", "255.255.255.255", "192.0.2.255"])
def test_a_map_protects_unicast_alone(world, destination):
    """TS-11: neither as ESP nor in clear, and counted under a reason of its own."""
    payload = world.mark()
    world.peer.drain()
    with DropWatch(world.node, "multicast_not_protected", 1):
        send_from_node(world, destination, "out0", payload)
    seen = world.peer.collect(lambda one: one.proto == 50 or payload in bytes(one) if isinstance(one, IP) else False, QUIET)
    assert not seen


def test_multicast_that_comes_in_clear_is_dropped_under_the_same_reason(world):
    payload = world.mark()
    world.refused(IP(src="10.2.0.2", dst="239.1.1.1") / UDP(dport=9000) / Raw(payload), "multicast_not_protected", payload)


def test_a_tunnel_carries_multicast(world):
    payload = world.mark()
    world.peer.drain()
    send_from_node(world, "224.0.0.5", "Tunnel0", payload)
    spi = world.pair("tunnel4").to_right.spi.to_bytes(4, "big")
    sealed = world.peer.first(lambda one: (world.sealed_bytes("tunnel4", one) or b"").startswith(spi))
    assert sealed is not None
    inner = open_esp(world.pair("tunnel4").to_right, world.sealed_bytes("tunnel4", sealed))
    assert payload in bytes(inner)


# -- log

def records(world, port: int) -> list[str]:
    return [line for line in world.node.process.log().splitlines() if "access list" in line and f"({port})" in line]


def counted(lines: list[str]) -> int:
    return sum(int(re.search(r", (\d+) packets?", line)[1]) for line in lines)


def test_a_record_at_once_and_the_count_after_the_interval(world):
    """Five packets of one flow: one record with the 5-tuple now, one with the other four later, and then silence."""
    packet = IP(src=lab.host(1, "map4"), dst=lab.host(2, "map4")) / UDP(sport=4321, dport=4322) / Raw(world.mark())
    for _ in range(5):
        assert len(world.protected(packet, "map4")) == 1
    wait_until(lambda: counted(records(world, 4321)) == 5, 4 * INTERVAL, "all five are in the log")
    lines = records(world, 4321)
    assert 2 <= len(lines) <= 3, lines  # a slow machine may take longer than an interval for five packets
    for line in lines:
        assert "access list 101 rule 30 permitted udp 10.1.0.2(4321) -> 10.2.0.2(4322)" in line
        assert "(in0 02:00:00:00:00:0a)" in line  # log-input
    assert lines[0].endswith("1 packet")


def test_a_deny_is_logged_as_denied_and_without_source(world):
    packet = IP(src=lab.host(1, "map4"), dst=lab.host(2, "map4")) / UDP(sport=4323, dport=7777) / Raw(world.mark())
    assert world.on_wire(packet, lambda one: isinstance(one, IP) and one.proto == 17) is not None
    wait_until(lambda: records(world, 4323), 5, "the record")
    assert "rule 20 denied udp 10.1.0.2(4323) -> 10.2.0.2(7777), 1 packet" in records(world, 4323)[0]


def test_a_clear_packet_from_outside_is_told_as_such(world):
    payload = world.mark()
    world.refused(IP(src="10.2.0.2", dst="10.1.0.2") / UDP(sport=4324, dport=1) / Raw(payload), "clear_text", payload)
    wait_until(lambda: records(world, 4324), 5, "the record")
    assert "udp 10.2.0.2(4324) -> 10.1.0.2(1) (out0 02:00:00:00:00:0b) inbound in clear, 1 packet" in records(world, 4324)[0]


def test_the_map_shows_what_is_logged(world):
    text = world.node.postern("show", "crypto", "map").stdout
    assert "deny udp any any eq 7777 log" in text.replace("17", "udp") and "any any log-input" in text
