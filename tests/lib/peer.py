"""One Postern node between two scapy ends: H sends and sees clear packets, P sends and sees what is on the wire.

    H (wire `host`) --- in0 N1 out0 --- (wire `peer`) P
"""
import contextlib
import itertools
import pathlib

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

import documents
import lab
from balance import DropWatch, assert_balanced, settled_excess
from netns import Lab
from node import Node
from oracle import Opened, Oracle, association, esp_bytes, inner_payload, open_esp
from wire import Wire

HOST_MAC, PEER_MAC = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
QUIET = 0.4  # how long "nothing arrives" is watched, after the drop was counted


class ScapyLab(Lab):
    """`seal` and `open` speak as the peer; `delivered` and `protected` move one packet and say what came out."""

    def __init__(self, scratch: pathlib.Path, document: dict | None = None, flows: lab.Flows | None = None,
                 mtu: int = 1500, **options):
        super().__init__(scratch)
        self.flows = flows or lab.fresh_flows(options.get("transforms", lab.TRANSFORMS))
        self._marks = itertools.count(1)
        self._numbers = itertools.count(1)
        try:
            self._build(document or lab.gateway_document(1, self.flows, **options), mtu)
        except BaseException:
            self.close()
            raise

    def _build(self, document: dict, mtu: int) -> None:
        self.h, self.n1, self.p = (self.namespace(label) for label in ("H", "N1", "P"))
        for end in (self.h, self.p):
            end.sysctls({f"net.ipv6.conf.{where}.disable_ipv6": 1 for where in ("all", "default")})  # scapy alone speaks there
        self.veth(self.h, "eth0", self.n1, "in0")
        self.veth(self.p, "eth0", self.n1, "out0", mtu=mtu)
        # A capture would see the super-packets of coalescing, which a host's sockets take apart again.
        self.n1.run("ethtool", "-K", "in0", "tx-udp-segmentation", "off", "tx-tcp-segmentation", "off", "tx-tcp6-segmentation", "off")
        self.n1.router()
        addresses = [(one, "in0") for one in lab.inside_addresses(1)] + [(f"{lab.OUT4[1]}/24", "out0"), (f"{lab.OUT6[1]}/64", "out0")]
        neighbours = [(lab.host(1, flow), HOST_MAC, "in0") for flow in ("map4", "tunnel4", "map6", "tunnel6")]
        neighbours += [(lab.OUT4[2], PEER_MAC, "out0"), (lab.OUT6[2], PEER_MAC, "out0")]
        self.n1.ip_batch(*(f"address add {one} dev {device}{' nodad' if ':' in one else ''}" for one, device in addresses),
                         f"route add default via {lab.OUT4[2]}", f"route add default via {lab.OUT6[2]}",
                         *(f"neigh add {one} lladdr {mac} dev {device} nud permanent" for one, mac, device in neighbours))
        self.node = Node(self, self.n1, f"T{self.prefix[3:-1].replace('x', 'p')}"[:12], document)
        self.host = self.enter_context(Wire(self.h, "eth0", HOST_MAC, self.n1.mac("in0")))
        self.peer = self.enter_context(Wire(self.p, "eth0", PEER_MAC, self.n1.mac("out0"), answer_for=(lab.OUT4[2], lab.OUT6[2])))
        self.node.start()

    # -- packets

    def pair(self, flow: str) -> documents.Pair:
        return getattr(self.flows, flow)

    def mark(self) -> bytes:
        """A payload that no other packet of this lab has."""
        return b"mark-%06d-of-this-lab" % next(self._marks)

    def inner(self, flow: str, towards_host: bool, payload: bytes | None = None, **header):
        """A UDP packet of the flow, from hB's address to hA's (inbound) or the other way."""
        source, destination = (lab.host(2, flow), lab.host(1, flow)) if towards_host else (lab.host(1, flow), lab.host(2, flow))
        layer = IP if flow.endswith("4") else IPv6
        return layer(src=source, dst=destination, **header) / UDP(sport=1024, dport=2048) / Raw(payload or self.mark())

    def outer_addresses(self, flow: str) -> tuple[str, str]:
        """(peer, node)"""
        addresses = lab.OUT4 if flow.endswith("4") else lab.OUT6
        return addresses[2], addresses[1]

    def seal(self, flow: str, inner, sequence: int | None = None, **header):
        """As the peer seals it for the node."""
        source, destination = self.outer_addresses(flow)
        header.setdefault("ttl" if flow.endswith("4") else "hlim", 64)
        sa = association(self.pair(flow).to_left, source, destination, **header)
        return sa.encrypt(inner, seq_num=sequence or next(self._numbers))

    def sealed_bytes(self, flow: str, packet) -> bytes:
        return esp_bytes(packet)

    # -- inbound

    def delivered(self, packet, payload: bytes, seconds: float = 5):
        """Sends `packet` from the peer; the inner packet that reached the host with this payload, or None."""
        self.host.drain()
        self.peer.send(packet)
        return self.host.first(lambda one: payload in bytes(one), seconds)

    def refused(self, packet, reason: str, payload: bytes, count: int = 1) -> None:
        """Sends `packet` from the peer; it must be dropped for `reason` and nothing of it may reach the host."""
        self.host.drain()
        with DropWatch(self.node, reason, count):
            self.peer.send(packet)
        assert self.host.first(lambda one: payload in bytes(one), QUIET) is None, f"delivered, although counted as {reason}"

    # -- outbound

    def protected(self, packet, flow: str, seconds: float = 5, count: int = 1) -> list[Opened]:
        """Sends `packet` from the host; what the peer opens with the flow's keys, in order. Clear packets are an error."""
        self.peer.drain()
        self.host.send(packet)
        # The node's own neighbour discovery on a tunnel is sealed as well, with that tunnel's SPI.
        spi = self.pair(flow).to_right.spi.to_bytes(4, "big")
        sealed = self.peer.collect(lambda one: (esp_bytes(one) or b"").startswith(spi), seconds, count)
        opened = []
        for one in sealed:
            data = esp_bytes(one)
            opened.append(Opened(int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big"), one,
                                 open_esp(self.pair(flow).to_right, data), 0.0))
        return opened

    def on_wire(self, packet, wanted, seconds: float = 5):
        """Sends `packet` from the host; the first packet at the peer for which `wanted` holds, or None."""
        self.peer.drain()
        self.host.send(packet)
        return self.peer.first(wanted, seconds)

    @contextlib.contextmanager
    def balancing(self):
        """What happens inside must balance."""
        before = settled_excess(self.node)
        yield
        assert_balanced(self.node, since=before)

    def assert_balanced(self) -> None:
        assert_balanced(self.node)


__all__ = ["Oracle", "QUIET", "ScapyLab", "inner_payload"]
