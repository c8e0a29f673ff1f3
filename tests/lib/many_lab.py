"""Postern at N1 and strongSwan at several gateways: N2 as in ike_lab.py, and N3, N4, ... beside it on W, each with a network of its own.

    10.1/16 hA - N1 192.0.2.1 --- W --- 192.0.2.2 N2 - hB 10.2/16, 10.4/16
                                   +--- 192.0.2.3 N3 (10.13.0.2)     2001:db8:13::2
                                   +--- 192.0.2.4 N4 (10.14.0.2)     2001:db8:14::2
"""
import pathlib

import ike_documents
import traffic
from ike_documents import ike_sas, wait_down
from ike_lab import IkeLab, PSK
from lab import OUT4, OUT6
from netns import Namespace
from strongswan import Connection, StrongSwan


def network(gateway: int, family: int = 4) -> str:
    if gateway <= 2:
        return f"10.{gateway}.0.0/16" if family == 4 else f"2001:db8:{gateway}::/64"
    return f"10.{10 + gateway}.0.0/16" if family == 4 else f"2001:db8:{10 + gateway}::/64"


def host(gateway: int, family: int = 4) -> str:
    return network(gateway, family).replace("0.0/16", "0.2").replace("::/64", "::2")


def outer(gateway: int, family: int = 4) -> str:
    return f"192.0.2.{gateway}" if family == 4 else f"2001:db8:ff::{gateway}"


class ManyLab(IkeLab):
    """`peers[k]` is strongSwan at gateway k; none has an SA. `document` is N1's; or start the node later."""

    def __init__(self, scratch: pathlib.Path, gateways: int = 3, document: dict | None = None):
        super().__init__(scratch)
        self.gateways: dict[int, Namespace] = {2: self.n2}
        self.peers: dict[int, StrongSwan] = {}
        try:
            self.left = self.node(1, document or dynamic_document())
            for number in range(3, gateways + 1):
                self._add_gateway(number)
            self.peers[2] = self.swan(2)
            for peer in self.peers.values():
                peer.start()
            if document is not None:
                self.left.start()
        except BaseException:
            self.close()
            raise

    def _add_gateway(self, number: int) -> None:
        where = self.gateways[number] = self.namespace(f"N{number}")
        self.veth(where, "out0", self.w, f"w{number}")
        self.w.ip_batch(f"link set w{number} master br0", f"link set w{number} up")
        where.router()
        where.ip_batch(f"address add {outer(number)}/24 dev out0", f"address add {outer(number, 6)}/64 dev out0 nodad",
                       "link add in0 type bridge", "link set in0 up",
                       f"address add {host(number)}/32 dev in0", f"address add {host(number, 6)}/128 dev in0 nodad",
                       "rule add to 192.0.2.0/24 lookup main pref 100")
        where.ip_batch("rule add to 2001:db8:ff::/64 lookup main pref 100", family=6)
        self.n1.ip_batch(f"route add {network(number)} via {outer(number)}", f"route add {network(number, 6)} via {outer(number, 6)}")
        self.hA.ip_batch(f"route add {network(number)} via 10.1.0.1 src 10.1.0.2",
                         f"route add {network(number, 6)} via 2001:db8:1::1 src 2001:db8:1::2")
        self.peers[number] = StrongSwan(self, where, f"swan{number}", reach=("10.1.0.0/16", "2001:db8:1::/64"))

    def load(self, number: int, name: str = "net", family: int = 4, **options) -> Connection:
        """strongSwan's view, at gateway `number`, of what N1 has with it."""
        options = {"psk": PSK, "local_ts": [network(number, family)], "remote_ts": [network(1, family)],
                   "local_id": outer(number, family), "remote_id": outer(1, family), "esp_proposals": ["aes128gcm16"], **options}
        return self.peers[number].load(Connection(name, outer(number, family), outer(1, family), **options))

    def ping_from(self, number: int, count: int = 2, family: int = 4, **options) -> int:
        where = self.hB if number == 2 else self.gateways[number]
        return traffic.ping(where, host(1, family), count, source=host(number, family), **options)

    def ping_to(self, number: int, count: int = 2, family: int = 4, **options) -> int:
        return traffic.ping(self.hA, host(number, family), count, source=host(1, family), **options)

    def down(self) -> None:
        """Nothing is left of what earlier tests set up."""
        for peer in self.peers.values():
            for sa in peer.sas():
                peer.terminate(check=False, ike_id=sa["uniqueid"], force="yes")
            for name in list(peer._loaded):
                peer.unload(name)
        if ike_sas(self.left):
            self.left.postern("clear", "crypto", "session")
        wait_down(self.left)

    def configure(self, document: dict) -> None:
        self.down()
        self.left.apply(document)


def dynamic_document(entries: list[dict] | None = None, acls: list[dict] | None = None, family: int = 4, before: list[dict] | None = None,
                     limit: int | None = None, esp: str = "aes128gcm16", **section) -> dict:
    """N1 with the dynamic map D1 behind the entries `before` of its crypto map."""
    document = ike_documents.gateway_document(1, flows=(f"map{family}",), esp=esp, **section)
    document["acls"] += acls or []
    entries = entries if entries is not None else [{"sequence": 10}]
    document["dynamic_maps"] = [{"name": "D1", "entries": [{"transform_sets": ["T0"], "ikev2_profile": "PEER", **one} for one in entries],
                                 **({"limit": limit} if limit else {})}]
    document["crypto_maps"][0]["family"] = f"ipv{family}"
    document["crypto_maps"][0]["entries"] = (before or []) + [{"sequence": 1000, "type": "ipsec-isakmp", "dynamic": "D1"}]
    return document


def permit(name: str, *pairs: tuple[str, str], deny: tuple[tuple[str, str], ...] = (), family: int = 4) -> dict:
    """An access list: `deny` in front of the permits."""
    protocol = "ip" if family == 4 else "ipv6"
    return {"name": name, "family": f"ipv{family}", "rules":
            [{"action": "deny", "protocol": protocol, "source": source, "destination": destination} for source, destination in deny] +
            [{"action": "permit", "protocol": protocol, "source": source, "destination": destination} for source, destination in pairs]}


def temporary(node) -> dict[str, dict]:
    """Temporary entries of `show crypto map`, by peer."""
    return {entry["current_peer"]: entry for one in node.show("crypto", "map")["maps"] for entry in one["entries"] if entry.get("temporary")}


def flow_text(entry: dict) -> set[tuple[str, str]]:
    return {(rule["src"], rule["dst"]) for rule in entry["acl"]["rules"]}


__all__ = ["ManyLab", "OUT4", "OUT6", "dynamic_document", "flow_text", "host", "network", "outer", "permit", "temporary"]
