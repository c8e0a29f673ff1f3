"""RFC 7296 2.4: nobody is given up because of ICMP, which nothing protects. Forged errors about the node's own IKE and ESP packets, port unreachable
before all others, while an IKE SA is up and while one is being made."""
import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.packet import Raw

import ike_wire
from ike_documents import children, diagnosis, ike_sas
from ike_pairs import SwanLab
from ike_wire import AUTH, CREATE_CHILD, SA_INIT
from netns import wait_until
from wire import Wire

CODES = {4: {"port": 3, "host": 1, "protocol": 2, "prohibited": 13}, 6: {"port": 4, "host": 3, "prohibited": 1}}
ROUTER_MAC = "02:00:00:00:00:0c"


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch, profile={"dpd": {"mode": "periodic", "interval": 10, "retry": 2}}) as made:
        yield made


class Forger:
    """On N1's cable, in W."""

    def __init__(self, world, family: int):
        self.family, self.near, self.far = family, world.outer(1, family), world.outer(2, family)
        self.wire = Wire(world.w, "w1", ROUTER_MAC, world.n1.mac("out0"))

    def __enter__(self) -> "Forger":
        return self

    def __exit__(self, *words) -> None:
        self.wire.__exit__(*words)

    def errors(self, port: int, data: bytes, code: int):
        """About a datagram of the node's, from its peer."""
        about = UDP(sport=port, dport=port) / Raw(data)
        if self.family == 4:
            quoted = bytes(IP(src=self.near, dst=self.far, ttl=64) / about)
            return IP(src=self.far, dst=self.near) / ICMP(type=3, code=code) / Raw(quoted)
        quoted = bytes(IPv6(src=self.near, dst=self.far, hlim=64) / about)
        return IPv6(src=self.far, dst=self.near) / ICMPv6DestUnreach(code=code) / Raw(quoted)

    def flood(self, packets: list[tuple[int, bytes]], times: int = 20) -> None:
        for _ in range(times):
            for port, data in packets:
                for code in CODES[self.family].values():
                    self.wire.send(self.errors(port, data, code))


def said_by_us(wire, world, family: int) -> list[tuple[int, bytes]]:
    """IKE as it left, with the marker where it had one; and the head of an ESP packet in UDP."""
    near = world.outer(1, family)
    ike = [(one.sport, (bytes(4) if one.sport == 4500 else b"") + one.data) for one in wire.ike if one.source == near]
    spi = next(spi for source, _, spi, _ in wire.esp if source == near)
    return [*ike, (4500, spi.to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes(64))]


@pytest.mark.parametrize("family", [4, pytest.param(6, marks=pytest.mark.slow)])
def test_errors_about_what_is_up_end_nothing(world, family):
    flow = f"map{family}"
    world.configure(swan={"flow": flow, "family": family})
    with world.capture("udp") as capture:
        world.up("postern", flow)
        world.ping_both(flow)
        sent = said_by_us(ike_wire.read(capture.frames()), world, family)
    before, child = ike_sas(world.left)[0], children(world.left)[0]
    assert {port for port, _ in sent} == {500, 4500}
    with world.capture("udp") as capture, Forger(world, family) as forger:
        forger.flood(sent)
        world.ping_both(flow)
        # Liveness asks, and is answered, among more of them.
        asked = before["msgid"]["local_next"]
        wait_until(lambda: forger.flood(sent, 1) or ike_sas(world.left)[0]["msgid"]["local_next"] > asked, 15, "liveness was answered", 0.2)
        world.ping_both(flow)
        wire = ike_wire.read(capture.frames())
    assert [one["local_spi"] for one in ike_sas(world.left)] == [before["local_spi"]]
    assert [one["esp_spi_in"] for one in children(world.left)] == [child["esp_spi_in"]]
    assert not any(wire.exchanges(one) for one in (SA_INIT, AUTH, CREATE_CHILD)) and not wire.clear


@pytest.mark.parametrize("family", [4, pytest.param(6, marks=pytest.mark.slow)])
def test_errors_about_a_first_message_end_no_attempt(world, family):
    """The peer does not hear the first message for a while: it is sent again, as it was, and then answered."""
    flow = f"map{family}"
    world.configure(swan={"flow": flow, "family": family})
    with world.capture("udp") as capture, Forger(world, family) as forger:
        with world.lost(world.n2, "udp dport 500") as dropped:
            world.ping(flow, 1, wait=0.2)
            wait_until(lambda: dropped() >= 1, 5, "a first message is on its way")
            forger.flood([(500, b"\1" * 8 + bytes(200))])
            wait_until(lambda: dropped() >= 2, 10, "it is sent again")
            forger.flood([(500, b"\1" * 8 + bytes(200))])
        world.peer.wait_child(1, 15)
        wire = ike_wire.read(capture.frames())
    assert len(wire.exchanges(SA_INIT)) == 1, "one attempt, byte by byte the same"
    assert not [one for one in diagnosis(world.left, world.outer(2, family)) if one["failure"].startswith("no_answer")]
    world.ping_both(flow)
