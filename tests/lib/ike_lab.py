"""Labs whose right gateway (or both) is strongSwan: hA - N1 - W - N2 - hB as in lab.py, with a NAT in N1's or N2's way on demand.

    nat=None      N1 192.0.2.1 ---------------------------- W --- 192.0.2.2 N2
    nat="left"    N1 10.99.0.1 --- NAT (192.0.2.1) -------- W --- 192.0.2.2 N2
    nat="right"   N1 192.0.2.1 --- W -------- (192.0.2.2) NAT --- 10.99.0.2 N2

The capture is always on W's bridge: what is seen there is what the world between the sites sees.
"""
import contextlib
import json
import pathlib
import re

import lab
import traffic
from capture import Capture
from lab import OUT4, OUT6, Gateways
from netns import Namespace, Process, wait_until
from node import PROGRAMS, Node
from strongswan import Connection, StrongSwan

PRIVATE4 = {1: "10.99.0.1", 2: "10.99.0.2"}
NAT_INSIDE = "10.99.0.254"
PSK = "what the two gateways share"


def inside(side: int, flow: str = "map4") -> str:
    """The network behind gateway `side` that a flow belongs to."""
    number = side if flow.startswith("map") else side + 2
    return f"10.{number}.0.0/16" if flow.endswith("4") else f"2001:db8:{number}::/64"


class IkeLab(Gateways):
    """Topology, NAT, captures and streams; who runs on the gateways is the subclasses' business."""

    def __init__(self, scratch: pathlib.Path, nat: str | None = None, **options):
        self.nat_side = {None: 0, "left": 1, "right": 2}[nat]
        self.nat: Namespace | None = None
        self._captures = 0
        self.streams: list[NumberedStream] = []
        super().__init__(scratch, **options)

    def _build(self, *words) -> None:
        super()._build(*words)
        # Every gateway fails closed without our help: where a policy is missing there is no route either.
        self.n2.ip("route", "del", "10.1.0.0/16")
        self.n2.ip6("route", "del", "2001:db8:1::/64")
        if self.nat_side:
            self._insert_nat(self.nat_side)

    def _insert_nat(self, side: int) -> None:
        """The gateway's cable to W is pulled; the NAT takes its place and its address there."""
        gateway, port = (self.n1, "w1") if side == 1 else (self.n2, "w2")
        self.nat = self.namespace("NAT")
        gateway.ip("link", "del", "out0")
        self.veth(gateway, "out0", self.nat, "in")
        self.veth(self.nat, "out", self.w, port)
        self.w.ip("link", "set", port, "master", "br0")
        gateway.ip("address", "add", f"{PRIVATE4[side]}/24", "dev", "out0")
        gateway.ip("route", "add", "default", "via", NAT_INSIDE)
        self.nat.ip("address", "add", f"{NAT_INSIDE}/24", "dev", "in")
        self.nat.ip("address", "add", f"{OUT4[side]}/24", "dev", "out")
        self.nat.router()
        self.nat.run("nft", "-f", "-", input="table ip nat { chain post { type nat hook postrouting priority srcnat; "
                                            "oifname out ip saddr 10.99.0.0/24 masquerade fully-random; }; }")

    def own4(self, side: int) -> str:
        """The gateway's address on its own outside interface."""
        return PRIVATE4[side] if side == self.nat_side else OUT4[side]

    def outer(self, side: int, family: int = 4) -> str:
        """The address by which the other gateway knows this one."""
        return OUT4[side] if family == 4 else OUT6[side]

    # -- packets

    def capture(self, expression: str = "", device: str = "br0") -> Capture:
        self._captures += 1
        return Capture(self.w, "w2" if device == "br0" else device, self.scratch / f"w{self._captures}.pcap", expression)

    def ping(self, flow: str = "map4", count: int = 3, back: bool = False, **options) -> int:
        near, far = lab.host(1, flow), lab.host(2, flow)
        if back:
            return traffic.ping(self.hB, near, count, source=far, **options)
        return traffic.ping(self.hA, far, count, source=near, **options)

    def ping_both(self, flow: str = "map4", count: int = 2) -> None:
        assert self.ping(flow, count) == count, f"{flow}: hA -> hB"
        assert self.ping(flow, count, back=True) == count, f"{flow}: hB -> hA"

    def stream(self, flow: str = "map4", back: bool = False, rate: int = 20000, size: int = 200) -> "NumberedStream":
        ends = (self.hB, self.hA) if back else (self.hA, self.hB)
        self.streams.append(NumberedStream(*ends, lab.host(1 if back else 2, flow), rate, size))
        return self.streams[-1]

    def end_streams(self) -> None:
        """Those of a test that failed: their packets would go on asking for SAs."""
        for one in self.streams:
            one.sender.end()
            one.receiver.end()
        self.streams.clear()

    @contextlib.contextmanager
    def lost(self, where: Namespace, *rules: str):
        """Packets that match one of these nft rules are dropped on their way into `where` while the context lasts."""
        body = "".join(f" {rule} counter drop;" for rule in rules)
        where.run("nft", "-f", "-", input=f"table inet lost {{ chain in {{ type filter hook input priority 0;{body} }}; }}")
        try:
            yield lambda: sum(int(one) for one in re.findall(r"packets (\d+)", where.run("nft", "list", "table", "inet", "lost").stdout))
        finally:
            where.run("nft", "delete", "table", "inet", "lost")

    def swan(self, side: int, label: str | None = None, **options) -> StrongSwan:
        where = self.n1 if side == 1 else self.n2
        # Its routes come before the main table and are as wide as its selectors, which may be 0.0.0.0/0.
        networks = [one.replace(".0.1/", ".0.0/").replace("::1/", "::/") for one in lab.inside_addresses(side)]
        networks += ["192.0.2.0/24", "2001:db8:ff::/64", "10.99.0.0/24"]
        for family in (4, 6):
            where.ip_batch(*(f"rule add to {one} lookup main pref 100" for one in networks if (":" in one) == (family == 6)), family=family)
        far = tuple(inside(3 - side, flow) for flow in ("map4", "map6", "tunnel4", "tunnel6"))
        return StrongSwan(self, where, label or f"swan{side}", reach=far, **options)

    def connection(self, side: int, name: str = "net", flow: str = "map4", family: int = 4, **options) -> Connection:
        """strongSwan's view of the flow, at gateway `side`."""
        other = 3 - side
        local = self.own4(side) if family == 4 else OUT6[side]
        options = {"psk": PSK, "local_ts": [inside(side, flow)], "remote_ts": [inside(other, flow)],
                   "local_id": self.outer(side, family), "remote_id": self.outer(other, family), **options}
        return Connection(name, local, self.outer(other, family), **options)


class SwanPair(IkeLab):
    """strongSwan on both sides: proves the lab and its oracles without Postern, and is what the benchmark compares with."""

    def __init__(self, scratch: pathlib.Path, nat: str | None = None, start: bool = True, left: dict | None = None,
                 right: dict | None = None, **options):
        super().__init__(scratch, nat, **options)
        try:
            self.n1.ip("route", "del", "10.2.0.0/16", check=False)
            self.n1.ip6("route", "del", "2001:db8:2::/64", check=False)
            self.left, self.right = self.swan(1, **(left or {})), self.swan(2, **(right or {}))
            if start:
                self.left.start()
                self.right.start()
        except BaseException:
            self.close()
            raise


class NumberedStream:
    """A numbered UDP stream at a fixed rate until `finish()`, by bin/numbered_udp."""

    def __init__(self, source: Namespace, destination: Namespace, address: str, rate: int = 20000, size: int = 200, port: int = 9300):
        program = PROGRAMS / "numbered_udp"
        self.receiver: Process = destination.spawn(program, "receive", address, port, name="numbered-receive")
        wait_until(lambda: "READY" in self.receiver.log() or not self.receiver.running(), 10, "the receiver listens")
        assert self.receiver.running(), self.receiver.log()
        self._udp = destination
        self.sender: Process = source.spawn(program, "send", address, port, 1 << 31, rate, size, name="numbered-send")

    def finish(self) -> dict:
        """What the receiver says, with "sent" and "lost" added."""
        self.sender.signal(15)
        self.sender.wait(10)
        sent = json.loads(self.sender.log().splitlines()[-1])
        self._drained()
        self.receiver.signal(15)
        self.receiver.wait(10)
        got = json.loads(self.receiver.log().splitlines()[-1])
        return {**got, "sent": sent["sent"], "send_seconds": sent["seconds"], "lost": sent["sent"] - got["distinct"]}

    def _received(self) -> int:
        """Datagrams that the receiving namespace's sockets took, of both families."""
        both = self._udp.run("cat", "/proc/net/snmp", "/proc/net/snmp6").stdout
        return int(re.search(r"^Udp: (\d+)", both, re.M)[1]) + int(re.search(r"^Udp6InDatagrams\s+(\d+)", both, re.M)[1])

    def more(self, count: int, seconds: float = 10) -> None:
        """Waits until so many more packets have arrived."""
        goal = self._received() + count
        wait_until(lambda: self._received() >= goal, seconds, f"{count} more packets of the stream")

    def _drained(self) -> None:
        """Until the receiving side's counter stands still: what was on its way has arrived or never will."""
        last = [-1, 0]

        def still() -> bool:
            now = self._received()
            last[1] = last[1] + 1 if now == last[0] else 0
            last[0] = now
            return last[1] >= 10

        wait_until(still, 10, "the stream's last packets arrived", 0.02)


__all__ = ["Connection", "IkeLab", "Node", "NumberedStream", "PSK", "StrongSwan", "SwanPair", "inside"]
