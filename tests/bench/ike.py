#!/usr/bin/env python3
"""IKEv2 set-ups per CPU-second of the responder: Postern's and strongSwan's, with the same strongSwan initiator and algorithms.

A set-up is IKE_SA_INIT, IKE_AUTH with a pre-shared key and one child SA, installed and deleted again. What counts is the CPU
time of every process of the responder (for Postern posternd, postern-ike and postern-worker), read from the scheduler, so the
initiator's speed and other load on the machine do not. The two take turns; figures are medians of 3.
"""
import json
import pathlib
import statistics
import sys
import tempfile

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "lib"), str(pathlib.Path(__file__).resolve().parent)]

from ike_lab import SwanPair
from ike_pairs import SwanLab, ike_pid
from path import ROUNDS, progress, spread
from strongswan import StrongSwan

SETUPS = 150
IKE, ESP = "aes128gcm16-prfsha256-x25519", "aes128gcm16"
QUIET = {"log": {"default": -1}}


def cpu_seconds(pids: list[int]) -> float:
    """What the scheduler has given to all threads that live; none of these programs ends threads while it serves."""
    tasks = [path for pid in pids for path in pathlib.Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


class Responder:
    """One responder with its initiator."""

    def __init__(self, name: str, initiator: StrongSwan, pids):
        self.name, self._initiator, self._pids = name, initiator, pids
        self.rates: list[float] = []
        self.set_up(5)  # allocations and first contacts of the caches are not what is measured

    def set_up(self, count: int) -> None:
        for _ in range(count):
            self._initiator.initiate("net")
            self._initiator.terminate(ike="net")

    def measure(self) -> None:
        before = cpu_seconds(self._pids())
        self.set_up(SETUPS)
        self.rates.append(SETUPS / (cpu_seconds(self._pids()) - before))
        progress(f"{self.name}: {self.rates[-1]:.0f} set-ups a CPU-second")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="postern-bench-") as scratch:
        home = pathlib.Path(scratch)
        with SwanLab(home / "postern", right=QUIET, flows=("map4",), ike=IKE, esp=ESP) as ours, \
             SwanPair(home / "strongswan", left=QUIET, right=QUIET) as theirs:
            ours.peer.load(ours.connection(2, proposals=[IKE], esp_proposals=[ESP]))
            for swan, side in ((theirs.left, 1), (theirs.right, 2)):
                swan.load(theirs.connection(side, proposals=[IKE], esp_proposals=[ESP]))
            node = ours.left
            responders = [Responder("postern", ours.peer, lambda: [node.process.pid, node.worker_pid(), ike_pid(node)]),
                          Responder("strongswan", theirs.right, lambda: [theirs.left.process.pid])]
            for _ in range(ROUNDS):
                for responder in responders:
                    responder.measure()
    base = statistics.median(responders[1].rates)
    print(json.dumps([{"name": f"ike set-ups {one.name}", "value": round(statistics.median(one.rates)), "unit": "set-ups/CPU-s", "vs": "strongswan",
                       "ratio": round(statistics.median(one.rates) / base, 2), "spread": spread(one.rates)} for one in responders]))


if __name__ == "__main__":
    main()
