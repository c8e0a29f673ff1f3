"""The lab: hA - N1 - W - N2 - hB. W is only a bridge; N1 and N2 are gateways; 10.1 and 10.3 live behind N1, 10.2 and 10.4 behind N2.

            10.1.0.2 hA --- in0 N1 out0 192.0.2.1 --- w1 [W: br0] w2 --- 192.0.2.2 out0 N2 in0 --- hB 10.2.0.2

Map flow: 10.1/16 <-> 10.2/16 (2001:db8:1::/64 <-> :2::/64). Tunnel flow: 10.3/16 <-> 10.4/16 (:3:: <-> :4::).
"""
import dataclasses
import os
import pathlib

import documents
from documents import Pair, fresh_pair
from netns import Lab, Namespace
from node import Node

TRANSFORMS = ("esp-aes", "esp-sha256-hmac")
OUT4, OUT6 = {1: "192.0.2.1", 2: "192.0.2.2"}, {1: "2001:db8:ff::1", 2: "2001:db8:ff::2"}


@dataclasses.dataclass(frozen=True)
class Flows:
    """Keys of the four flows of a two-gateway lab, by name; `all()` is what the oracle must know."""
    map4: Pair
    map6: Pair
    tunnel4: Pair
    tunnel6: Pair

    def all(self) -> list[documents.Sa]:
        return [sa for pair in (self.map4, self.map6, self.tunnel4, self.tunnel6) for sa in (pair.to_right, pair.to_left)]


def fresh_flows(*transforms: tuple[str, str]) -> Flows:
    """Of one transform set for all, or of four."""
    sets = transforms if len(transforms) == 4 else 4 * (transforms or (TRANSFORMS,))
    return Flows(*(fresh_pair(spi, one) for spi, one in zip((0x1001, 0x1101, 0x2001, 0x2101), sets)))


def host(side: int, flow: str) -> str:
    """Address of hA (side 1) or hB (side 2) that belongs to a flow: map4, map6, tunnel4, tunnel6."""
    number = side if flow.startswith("map") else side + 2
    return f"10.{number}.0.2" if flow.endswith("4") else f"2001:db8:{number}::2"


def gateway_document(side: int, flows: Flows, *, plain_side: str = "tap", transforms: tuple[str, str] | None = None,
                     cross: bool = False, **more) -> dict:
    """The document of N1 (side 1) or N2 (side 2). `transforms`: others than those of the flows' keys. `cross`: the tunnels are 6in4 and 4in6."""
    of_map4, of_map6, of_tunnel4, of_tunnel6 = (transforms or pair.to_right.transforms
                                                for pair in (flows.map4, flows.map6, flows.tunnel4, flows.tunnel6))
    left, other = side == 1, 3 - side
    document = documents.empty(f"N{side}")
    document["dataplane"] = {"plain_side": plain_side, **more}
    documents.map_entry(document, "M4", 10, documents.permit("101", f"10.{side}.0.0/16", f"10.{other}.0.0/16"), OUT4[other],
                        flows.map4.session_key(left), of_map4)
    documents.map_entry(document, "M6", 10, documents.permit("V6", f"2001:db8:{side}::/64", f"2001:db8:{other}::/64"), OUT6[other],
                        flows.map6.session_key(left), of_map6)
    documents.interface(document, "out0", [f"{OUT4[side]}/24", f"{OUT6[side]}/64"], crypto_map="M4", ipv6_crypto_map="M6")
    documents.interface(document, "in0", inside_addresses(side), inside=True)
    outer4 = dict(source=OUT4[side], destination=OUT4[other])
    outer6 = dict(source=OUT6[side], destination=OUT6[other])
    inner4 = dict(addresses=[f"172.16.0.{side}/30"], routes=[f"10.{other + 2}.0.0/16"], keys=flows.tunnel4.session_key(left), transforms=of_tunnel4)
    inner6 = dict(addresses=[f"2001:db8:a::{side}/64"], routes=[f"2001:db8:{other + 2}::/64"], keys=flows.tunnel6.session_key(left), transforms=of_tunnel6)
    documents.tunnel(document, 0, mode="ipsec ipv6 v4-overlay" if cross else "ipsec ipv4", **inner4, **(outer6 if cross else outer4))
    documents.tunnel(document, 1, mode="ipsec ipv4 v6-overlay" if cross else "ipsec ipv6", **inner6, **(outer4 if cross else outer6))
    return document


def inside_addresses(side: int) -> list[str]:
    return [f"10.{side}.0.1/16", f"10.{side + 2}.0.1/16", f"2001:db8:{side}::1/64", f"2001:db8:{side + 2}::1/64"]


class Gateways(Lab):
    """The topology, without a node started: plain routers between which the kernel forwards."""

    def __init__(self, scratch: pathlib.Path, prefix: str | None = None, queues: int = 1, host_offloads: bool = True):
        super().__init__(scratch, prefix)
        try:
            self._build(queues, host_offloads)
        except BaseException:
            self.close()
            raise

    def _build(self, queues: int, host_offloads: bool) -> None:
        self.hA, self.n1, self.w, self.n2, self.hB = (self.namespace(label) for label in ("hA", "N1", "W", "N2", "hB"))
        for side, end, gateway, port in ((1, self.hA, self.n1, "w1"), (2, self.hB, self.n2, "w2")):
            self.veth(end, "eth0", gateway, "in0", queues=queues)
            self.veth(gateway, "out0", self.w, port, queues=queues)
            gateway.router()
            if not host_offloads:
                end.offloads_off("eth0")
                gateway.offloads_off("in0")
            self._address(side, end, gateway)
        self._connect()

    def _connect(self) -> None:
        """What W is."""
        self.bridge(self.w, "br0", ["w1", "w2"])

    def _address(self, side: int, end: Namespace, gateway: Namespace) -> None:
        other = 3 - side
        flows = ((side, other), (side + 2, other + 2))
        end.ip_batch(
            *(line for near, _ in flows for line in (f"address add 10.{near}.0.2/16 dev eth0", f"address add 2001:db8:{near}::2/64 dev eth0 nodad")),
            # The source of each flow is its own: hA speaks as 10.1 to 10.2 and as 10.3 to 10.4.
            *(line for near, far in flows for line in (f"route add 10.{far}.0.0/16 via 10.{near}.0.1 src 10.{near}.0.2",
                                                       f"route add 2001:db8:{far}::/64 via 2001:db8:{near}::1 src 2001:db8:{near}::2")))
        gateway.ip_batch(
            *(f"address add {address} dev in0{' nodad' if ':' in address else ''}" for address in inside_addresses(side)),
            f"address add {OUT4[side]}/24 dev out0",
            f"address add {OUT6[side]}/64 dev out0 nodad",
            # What a crypto map protects is routed like anything else; only policy keeps it from leaving in clear.
            f"route add 10.{other}.0.0/16 via {OUT4[other]}",
            f"route add 2001:db8:{other}::/64 via {OUT6[other]}")

    def node(self, side: int, document: dict, name: str | None = None, detached: bool = False) -> Node:
        unique = f"T{os.getpid() % 10**7}{'ab'[side - 1]}{self.number % 100}"
        return Node(self, self.n1 if side == 1 else self.n2, name or unique, document, detached)


class Pairing(Gateways):
    """Both gateways run Postern."""

    def __init__(self, scratch: pathlib.Path, flows: Flows | None = None, *, queues: int = 1, start: bool = True, **document):
        super().__init__(scratch, queues=queues)
        self.flows = flows or fresh_flows(document.get("transforms", TRANSFORMS))
        try:
            self.left = self.node(1, gateway_document(1, self.flows, **document))
            self.right = self.node(2, gateway_document(2, self.flows, **document))
            if start:
                self.left.start()
                self.right.start()
        except BaseException:
            self.close()
            raise


class RoutedPairing(Pairing):
    """W is a router, and the cable from it to N2 carries less than the one to N1: N1 learns of that from W alone. W stands for
    either gateway at the other (proxy ARP, proxy NDP), so that addresses and documents are those of the bridge."""
    FAR_MTU = 1400
    W4, W6 = "192.0.2.254", "2001:db8:ff::fe"

    def _connect(self) -> None:
        self.w.router()
        for side, port in ((1, "w1"), (2, "w2")):
            self.w.sysctls({f"net.ipv4.conf.{port}.proxy_arp": 1, f"net.ipv6.conf.{port}.proxy_ndp": 1,
                            f"net.ipv4.neigh.{port}.proxy_delay": 0, f"net.ipv6.neigh.{port}.proxy_delay": 0})
            self.w.ip_batch(f"address add {self.W4}/32 dev {port}", f"address add {self.W6}/128 dev {port} nodad",
                            f"route add {OUT4[side]} dev {port}", f"route add {OUT6[side]} dev {port}",
                            f"neigh add proxy {OUT6[3 - side]} dev {port}")
        # Every message counts here.
        self.w.sysctls({"net.ipv4.icmp_ratelimit": 0, "net.ipv6.icmp.ratelimit": 0})
        self.w.ip("link", "set", "w2", "mtu", self.FAR_MTU)
        self.n2.ip("link", "set", "out0", "mtu", self.FAR_MTU)
