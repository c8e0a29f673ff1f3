#!/usr/bin/env python3
"""What one TCP stream from hA to hB carries through two Postern nodes, two strongSwan nodes and two wireguard-go nodes.

The labs stand at the same time and take turns; figures are medians of 3. Same rules for all: AES-128-GCM (wireguard has
ChaCha20-Poly1305 alone), packets of 1400 bytes inside, logging off, strongSwan with its openssl plugin and deep queues.

A weak strongSwan would flatter us. Where plain kernel forwarding with offloads off carries 6.5 Gb/s, strongSwan carries at least
0.4, or the machine was busy or strongSwan is misconfigured. A slower machine is held to the same share of what its kernel
forwards in the same run. Below that the run is void, and says so by its exit status.
"""
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "lib"), str(pathlib.Path(__file__).resolve().parent)]

import lab
from ike_lab import IkeLab, SwanPair
from ike_pairs import PosternPair
from netns import wait_until
from path import ROUNDS, Way, plain_forwarding, spread

MTU = 1400
LEAST_STRONGSWAN, WHERE_KERNEL = 0.4, 6.5  # Gb/s
IKE, ESP = "aes128gcm16-prfsha256-x25519", "aes128gcm16"


class WireguardPair(IkeLab):
    """wireguard-go on both gateways; the interface is the route."""

    def __init__(self, scratch: pathlib.Path):
        super().__init__(scratch)
        try:
            keys = {side: self._key() for side in (1, 2)}
            for side, where in ((1, self.n1), (2, self.n2)):
                self._gateway(side, where, keys)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _key() -> tuple[str, str]:
        private = subprocess.run(["wg", "genkey"], check=True, capture_output=True, text=True).stdout
        return private, subprocess.run(["wg", "pubkey"], check=True, capture_output=True, text=True, input=private).stdout.strip()

    def _gateway(self, side: int, where, keys: dict) -> None:
        other = 3 - side
        # Its control socket is found by the interface's name, in a directory that all namespaces share.
        name = f"wg{os.getpid() % 10**7}{'ab'[side - 1]}"
        control = pathlib.Path(f"/var/run/wireguard/{name}.sock")
        self.callback(control.unlink, missing_ok=True)
        process = where.spawn("wireguard-go", "-f", name, name=f"wireguard-{side}", env={**os.environ, "LOG_LEVEL": "error"})
        wait_until(lambda: control.exists() or not process.running(), 10, "wireguard-go is up")
        private = self.scratch / f"wg{side}.key"
        private.touch(0o600)
        private.write_text(keys[side][0])
        where.run("wg", "set", name, "listen-port", 51820, "private-key", private, "peer", keys[other][1],
                  "endpoint", f"{lab.OUT4[other]}:51820", "allowed-ips", f"10.{other}.0.0/16")
        where.ip("link", "set", name, "mtu", MTU, "up")
        where.ip("route", "replace", f"10.{other}.0.0/16", "dev", name)


def strongswan(scratch: pathlib.Path) -> SwanPair:
    quiet = {"log": {"default": -1}}
    made = SwanPair(scratch, left=quiet, right=quiet)
    for swan, side in ((made.left, 1), (made.right, 2)):
        swan.load(made.connection(side, proposals=[IKE], esp_proposals=[ESP]))
    made.left.initiate("net")
    # On a machine that is short of time its own queues overflow first, and TCP then halves; so it gets the best it can have.
    for swan in (made.left, made.right):
        swan.deep_buffers()
    return made


def postern(scratch: pathlib.Path) -> PosternPair:
    # By the TAP: hA sends super-packets, as it does to the other two, whose inside is the kernel's as well.
    return PosternPair(scratch, plain_side="tap", ike=IKE, esp=ESP)


def measure(ways: list[Way], rounds: int = ROUNDS) -> dict[str, list[float]]:
    for _ in range(rounds):
        for way in ways:
            way.measure_tcp()
    return {way.name: way.tcp for way in ways}


def least_strongswan(kernel: float) -> float:
    return min(LEAST_STRONGSWAN, LEAST_STRONGSWAN / WHERE_KERNEL * kernel)


def rows(measured: dict[str, list[float]]) -> list[dict]:
    ours = statistics.median(measured["postern"])
    made = [{"name": "peers tcp postern", "value": round(ours, 2), "unit": "Gb/s", "vs": "itself", "ratio": 1.0,
             "spread": spread(measured["postern"])}]
    for name in ("strongswan", "wireguard-go", "kernel"):
        theirs = statistics.median(measured[name])
        made.append({"name": f"peers tcp {name}", "value": round(theirs, 2), "unit": "Gb/s", "vs": "postern", "ratio": round(ours / theirs, 2),
                     "spread": spread(measured[name])})
    return made


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="postern-bench-") as scratch:
        home = pathlib.Path(scratch)
        with postern(home / "postern") as ours, strongswan(home / "strongswan") as swan, WireguardPair(home / "wireguard") as wire, \
                plain_forwarding(home / "kernel") as plain:
            labs = {"postern": ours, "strongswan": swan, "wireguard-go": wire, "kernel": plain}
            for made in labs.values():
                for host in (made.hA, made.hB):
                    host.ip("link", "set", "eth0", "mtu", MTU)
            measured = measure([Way(name, made, "map4", 5201) for name, made in labs.items()])
    reference, least = statistics.median(measured["strongswan"]), least_strongswan(statistics.median(measured["kernel"]))
    if reference < least:
        print(f"peers: strongSwan carried {reference:.2f} Gb/s, under {least:.2f}: the run is void", file=sys.stderr)
        return 1
    print(json.dumps(rows(measured)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
