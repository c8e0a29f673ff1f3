"""Packets balance: in = out + held + sum of drops, kernel side included. Read from `show dataplane --json`, added up here.

Six equations, each over the whole life of the node:
  worker   rx + split + made = tx + merged + held + drops            (maps/counters.hpp)
  XDP      verdicts `to_worker` = received by AF_XDP sockets, what the kernel dropped at their rings included
  TC       verdicts `to_steer` = read from the steer TAP + what the TAP's queue dropped
  TUN      what the kernel says was read from the tunnel interfaces = read by the worker
  steer    written to the steer TAP by the worker = verdicts of TC ingress there, delivered and dropped
  tunnel   written to the tunnel interfaces by the worker = received on them, as the kernel says
What a write is refused for is a drop of the worker's. What the kernel drops in front of a tunnel interface it never offered to anybody: see tunnel_fate().
"""
import collections
import pathlib
import re
import time

import safety
from netns import wait_until
from node import Node

ABI = pathlib.Path(__file__).resolve().parents[2] / "maps/abi.h"
REASONS = re.findall(r"^  X\((\w+),", ABI.read_text().split("#define POSTERN_DROPS(X)")[1].split("enum postern_drop")[0], re.M)

STAYS = 2  # seconds: so long the same difference is no packet on its way


def _drops(view: dict) -> collections.Counter:
    return collections.Counter({row["reason"]: row["kernel"] + row["worker"] for row in view["drops"]})


def drops(node: Node) -> collections.Counter:
    """Packets by drop reason, kernel side and worker together."""
    return _drops(node.dataplane())


def _queues(view: dict, *roles: str) -> list[dict]:
    return [queue for device in view["devices"] if not roles or device["role"] in roles for queue in device["queues"]]


def _verdicts(view: dict, hook: str, verdict: str, but: str = "") -> int:
    return sum(device["verdicts"][hook][verdict] for device in view["devices"] if device["role"] != but)


def _since(tunnels: list[dict], counter: str, before: dict[str, dict]) -> int:
    return sum(one["kernel"][counter] - before.get(one["name"], {}).get(counter, 0) for one in tunnels)


def equations(view: dict, before: dict[str, dict] | None = None) -> dict[str, tuple[int, int]]:
    """Name to (left side, right side). `before`: the kernel's counters of the tunnel interfaces at the end of an earlier life of the node, which outlive
    a stop, and the node's do not (Node.counted_before)."""
    given, before = view["balance"], before or {}
    worker_in = sum(queue["rx_packets"] for queue in _queues(view)) + given["split"] + given["made"]
    worker_out = sum(queue["tx_packets"] for queue in _queues(view)) + given["merged"] + given["held"]
    xsk = _queues(view, "outside", "inside")
    steer, tunnels = ([device for device in view["devices"] if device["role"] == role] for role in ("steer", "tunnel"))
    return {
        "worker": (worker_in, worker_out + sum(row["worker"] for row in view["drops"])),
        "XDP": (_verdicts(view, "xdp_ingress", "to_worker", but="gone"),
                sum(queue["rx_packets"] for queue in xsk)),
        "TC": (_verdicts(view, "tc_egress", "to_steer"),
               sum(queue["rx_packets"] for queue in _queues(view, "steer")) + sum(one["kernel"]["tx_dropped"] for one in steer)),
        "TUN": (_since(tunnels, "tx_packets", before), sum(queue["rx_packets"] for queue in _queues(view, "tunnel"))),
        "steer": (sum(queue["tx_packets"] for queue in _queues(view, "steer")),
                  _verdicts(view, "tc_ingress", "delivered") + _verdicts(view, "tc_ingress", "drop")),
        "tunnel": (sum(queue["tx_packets"] for queue in _queues(view, "tunnel")), _since(tunnels, "rx_packets", before)),
    }


def tunnel_fate(view: dict, name: str) -> collections.Counter:
    """What became of the packets that were routed into a tunnel interface: their sum is what was offered."""
    device = next(one for one in view["devices"] if one["name"] == name)
    return collections.Counter(read=sum(queue["rx_packets"] for queue in device["queues"]), ring=device["kernel"]["tx_dropped"],
                               qdisc=device["kernel"]["qdisc_drops"])


def wrong(view: dict, before: dict[str, dict] | None = None) -> dict[str, tuple[int, int]]:
    return {name: sides for name, sides in equations(view, before).items() if sides[0] != sides[1]}


def excess(node: Node) -> dict[str, int]:
    """Left side minus right side of each equation."""
    return {name: left - right for name, (left, right) in equations(node.dataplane(), node.counted_before).items()}


def settled_excess(node: Node) -> dict[str, int]:
    """excess() once nothing is on its way: zero, or what it stays at. An idle worker takes back what AF_XDP has sent once a
    second, and holds packets for as long."""
    try:
        wait_until(lambda: not any(excess(node).values()), 4, "settles", patience=1)
    except AssertionError:
        pass
    return excess(node)


def assert_balanced(*nodes: Node, since: dict[str, int] | None = None, seconds: float = 3) -> None:
    """A packet in flight is on one side only for a moment, so the equations are asked for until they hold. `since`: what
    settled_excess() said before; an earlier test's imbalance is then not this one's. Packets that went nowhere are a fault whenever they do: Unsafe.
    Where the two sides still move after the wait, traffic goes on, and nothing is proven."""
    for node in nodes:
        reads: list[tuple[float, dict[str, int]]] = []

        def holds() -> bool:
            now = excess(node)
            if not reads or reads[-1][1] != now:
                reads.append((time.monotonic(), now))
            return now == since or not any(now.values())

        try:
            wait_until(holds, seconds, "balance")
        except AssertionError:
            view, stays = node.dataplane(), time.monotonic() - reads[-1][0] >= STAYS
            raise (safety.Unsafe if stays else AssertionError)(
                f"{node.name}: packets do not balance: {wrong(view, node.counted_before)}; before {since}; drops {dict(_drops(view))}; "
                f"{view['balance']}") from None


class DropWatch:
    """`with DropWatch(node, "bad_icv", 3): ...` : inside, exactly that many packets are dropped for that reason, and for no other."""

    def __init__(self, node: Node, reason: str, count: int = 1, seconds: float = 5):
        assert reason in REASONS, f"maps/abi.h has no drop reason {reason}"
        self.node, self.reason, self.count, self.seconds = node, reason, count, seconds

    def __enter__(self) -> "DropWatch":
        self.before = drops(self.node)
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is not None:
            return
        now = collections.Counter()

        def counted() -> bool:
            now.clear()
            now.update(drops(self.node))
            return now[self.reason] - self.before[self.reason] >= self.count

        try:
            wait_until(counted, self.seconds, self.reason)
        except AssertionError:
            pass
        changed = {name: now[name] - self.before[name] for name in now if now[name] != self.before[name]}
        assert changed == {self.reason: self.count}, f"dropped: {changed}, expected {self.count} for {self.reason}"
