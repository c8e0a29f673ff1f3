#!/usr/bin/env python3
"""What a flow carries from hA to hB: through the crypto map, through Tunnel0, and, in the same run and a twin of the same
topology, through the kernel's plain forwarding with every offload switched off. Runs alternate; figures are medians of 3.

Prints rows {"name", "value", "unit", "vs", "ratio", "spread"}: spread is (largest - smallest) / median of the three. The rows "path asked" hold what a TCP
stream got of kernel forwarding against what is asked, ASKED: under it their ratio is under 1, and so is said by the exit status. With --tcp there are
no small packets (scripts/test --full).
"""
import argparse
import json
import pathlib
import statistics
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

import lab
import traffic
from balance import drops

ROUNDS, SECONDS = 3, 4
UDP_PAYLOAD = 36  # an IPv4 packet of 64 bytes
ASKED = 0.28  # of kernel forwarding, one TCP stream, for the crypto map and for the tunnel interface each
REFERENCE = "kernel forwarding, offloads off"


def progress(text: str) -> None:
    print(f"    {text}", file=sys.stderr, flush=True)


class Way:
    """One lab and one flow through it, with its iperf3 server."""

    def __init__(self, name: str, made: lab.Gateways, flow: str, port: int):
        self.name, self._source, self._near = name, made.hA, lab.host(1, flow)
        traffic.ping_until(made.hA, lab.host(2, flow), source=self._near)
        self._server = traffic.Iperf(made.hB, lab.host(2, flow), port)
        self.tcp: list[float] = []
        self.udp: list[float] = []

    def measure_tcp(self) -> None:
        self.tcp.append(self._server.tcp_gbps(self._source, SECONDS, "-B", self._near))
        progress(f"{self.name}: {self.tcp[-1]:.2f} Gb/s")

    def measure_udp(self) -> None:
        report = self._server.run(self._source, "-B", self._near, "-u", "-b", "0", "-l", UDP_PAYLOAD, seconds=SECONDS)["sum"]
        self.udp.append((report["packets"] - report["lost_packets"]) / report["seconds"])
        progress(f"{self.name}: {self.udp[-1] / 1e3:.0f} kpps")


def plain_forwarding(scratch: pathlib.Path) -> lab.Gateways:
    """The same topology without IPsec and with every offload off, so that each packet is forwarded for itself."""
    made = lab.Gateways(scratch, host_offloads=False)
    for gateway in (made.n1, made.n2):
        gateway.offloads_off("out0")
    for port in ("w1", "w2"):
        made.w.offloads_off(port)
    return made


def spread(values: list[float]) -> float:
    return round((max(values) - min(values)) / statistics.median(values), 3)


def rows(kind: str, unit: str, digits: int, reference: list[float], measured: dict[str, list[float]]) -> list[dict]:
    base = statistics.median(reference)
    made = [{"name": f"path {kind} kernel", "value": round(base, digits), "unit": unit, "vs": REFERENCE, "ratio": 1.0,
             "spread": spread(reference)}]
    for name, values in measured.items():
        value = statistics.median(values)
        made.append({"name": f"path {kind} {name}", "value": round(value, digits), "unit": unit, "vs": REFERENCE,
                     "ratio": round(value / base, 3), "spread": spread(values)})
    return made


def asked(measured: list[dict]) -> list[dict]:
    """Of the rows of the TCP streams, but for the reference's."""
    return [{"name": row["name"].replace("path tcp", "path asked"), "value": row["ratio"], "unit": f"of {REFERENCE}", "vs": f"{ASKED} asked",
             "ratio": round(row["ratio"] / ASKED, 3), "spread": row["spread"]} for row in measured[1:]]


def in_words(row: dict) -> str:
    return f"{row['name']}: {row['value']} {row['unit']}, and {row['vs']}"


def too_little(result: list[dict]) -> list[str]:
    """The rows that have less than is asked, in words."""
    return [in_words(row) for row in result if row["name"].startswith("path asked") and row["value"] < ASKED]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tcp", action="store_true")
    tcp_alone = parser.parse_args().tcp
    with tempfile.TemporaryDirectory(prefix="postern-bench-") as scratch:
        home = pathlib.Path(scratch)
        with plain_forwarding(home / "kernel") as plain, lab.Pairing(home / "postern", plain_side="auto") as pair:
            ways = [Way("kernel", plain, "map4", 5201), Way("crypto map", pair, "map4", 5201), Way("tunnel", pair, "tunnel4", 5202)]
            for _ in range(ROUNDS):
                for way in ways:
                    way.measure_tcp()
            for _ in range(0 if tcp_alone else ROUNDS):
                for way in ways:
                    way.measure_udp()
            for node in (pair.left, pair.right):
                progress(f"drops of {node.name}: {dict(drops(node))}")
    reference, *others = ways
    result = rows("tcp", "Gb/s", 2, reference.tcp, {way.name: way.tcp for way in others})
    result += asked(result)
    if not tcp_alone:
        result += rows("udp64", "packets/s", 0, reference.udp, {way.name: way.udp for way in others})
    print(json.dumps(result))
    print("\n".join(in_words(row) for row in result if row["name"].startswith("path asked")), file=sys.stderr)
    return 1 if too_little(result) else 0


if __name__ == "__main__":
    sys.exit(main())
