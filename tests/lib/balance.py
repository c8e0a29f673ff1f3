"""Packets balance: what the worker took in equals what it gave out, holds and dropped. Read from `show dataplane --json`."""
from netns import wait_until
from node import Node


def drops(node: Node) -> dict[str, int]:
    """Packets by drop reason, kernel side and worker together."""
    return {name: count for name, count in _drops(node.dataplane()).items()}


def _drops(view: dict) -> dict[str, int]:
    return {row["reason"]: row["kernel"] + row["worker"] for row in view["drops"]}


def sides(view: dict) -> tuple[int, int]:
    """(in, out) of the equation of maps/counters.hpp: rx + split + made = tx + merged + held + sum of the worker's drops."""
    worker = view["worker"]
    queues = [queue for device in view["devices"] for queue in device["queues"]]
    into = sum(queue["rx_packets"] for queue in queues) + worker["split"] + worker["made"]
    out = sum(queue["tx_packets"] for queue in queues) + worker["merged"] + worker["held"]
    return into, out + sum(row["worker"] for row in view["drops"])


def assert_balanced(*nodes: Node, seconds: float = 3) -> None:
    """A packet in flight is on one side only for a moment, so the equation is asked for until it holds."""
    for node in nodes:
        def balanced() -> bool:
            into, out = sides(node.dataplane())
            return into == out
        try:
            wait_until(balanced, seconds, "balance")
        except AssertionError:
            view = node.dataplane()
            raise AssertionError(f"{node.name}: packets do not balance: in {sides(view)[0]}, out {sides(view)[1]}; "
                                 f"drops { {k: v for k, v in _drops(view).items() if v} }; worker {view['worker']}") from None


class DropWatch:
    """`with DropWatch(node, "bad_icv", 3): ...` : inside, exactly that many packets are dropped for that reason, and for no other."""

    def __init__(self, node: Node, reason: str, count: int = 1, seconds: float = 5):
        self.node, self.reason, self.count, self.seconds = node, reason, count, seconds

    def __enter__(self) -> "DropWatch":
        self.before = drops(self.node)
        assert self.reason in self.before, f"no such drop reason: {self.reason}"
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is not None:
            return
        now: dict[str, int] = {}

        def counted() -> bool:
            now.update(drops(self.node))
            return now[self.reason] - self.before[self.reason] >= self.count

        try:
            wait_until(counted, self.seconds, self.reason)
        except AssertionError:
            pass
        changed = {name: now[name] - self.before[name] for name in now if now[name] != self.before[name]}
        assert changed == {self.reason: self.count}, f"dropped: {changed}, expected {self.count} for {self.reason}"
