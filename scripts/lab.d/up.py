#!/usr/bin/env python3
"""Makes the lab that stays: see scripts/up. Uses the labs of tests/lib with fixed names and without their clean-up."""
import os
import pathlib
import secrets
import shlex
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests/lib"))

import down
import ike_documents
import lab
import traffic
from netns import CommandFailed
from node import PROGRAMS, RUN

HOME = down.HOME
IPERF_SECONDS = int(os.environ.get("POSTERN_LAB_SECONDS", 5))


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def refuse_if_others() -> None:
    """The lab's node names may be taken by nodes that are not the lab's."""
    for name in down.NODES:
        if (RUN / name).exists():
            sys.exit(f"up: a node called {name} runs here, and it is not the lab's; stop it first")


def negotiated_document(side: int, key: str) -> dict:
    """IKEv2: the maps' IKE SA knows its peer by address, the tunnels' by name, so that both can live between two addresses."""
    document = ike_documents.gateway_document(
        side, ike=["aes256gcm16-prfsha384-ecp384", "aes256-sha256-ecp256"], esp=["aes256gcm16", "aes256-sha256"], psk=key,
        flows=("map4", "map6", "tunnel4", "tunnel6"), remote_id=[lab.OUT4[3 - side], lab.OUT6[3 - side]], plain_side="auto")
    maps = document["ikev2"]["profiles"][0]
    document["ikev2"]["profiles"].append({
        **maps, "name": "TUNNELS", "identity_local": {"fqdn": f"tunnels.n{side}.example"},
        "match": {"identity_remote": [{"fqdn": f"tunnels.n{3 - side}.example"}]}})
    document["ipsec"]["profiles"][0]["ikev2_profile"] = "TUNNELS"
    return document


def build(manual: bool) -> tuple[lab.Gateways, list]:
    flows, key = lab.fresh_flows(), secrets.token_hex(24)
    made = lab.Gateways(HOME, prefix=down.PREFIX)
    try:
        documents = [lab.gateway_document(side, flows, plain_side="auto") if manual else negotiated_document(side, key) for side in (1, 2)]
        nodes = [made.node(side, document, name=down.NODES[side - 1], detached=True) for side, document in enumerate(documents, 1)]
        for node in nodes:
            node.start(30)
            (HOME / f"{node.name}.pid").write_text(f"{node.process.pid}\n")
            say(f"{node.name} is ready")
    except BaseException:
        made.close()
        raise
    return made, nodes


def check_ping(made: lab.Gateways) -> None:
    for flow, through in (("map4", "crypto map, IPv4"), ("map6", "crypto map, IPv6"), ("tunnel4", "Tunnel0, IPv4"), ("tunnel6", "Tunnel1, IPv6")):
        traffic.ping_until(made.hA, lab.host(2, flow), source=lab.host(1, flow))
        answered = traffic.ping(made.hA, lab.host(2, flow), count=5, source=lab.host(1, flow))
        say(f"ping hA -> hB through {through}: {answered} of 5 answered")
        if answered < 5:
            raise CommandFailed(f"ping through {through} lost packets")


def measure(made: lab.Gateways) -> dict[str, float]:
    """Gb/s by flow; the servers end here, so that the lab that stays has none."""
    figures = {}
    for flow in ("map4", "tunnel4"):
        server = traffic.Iperf(made.hB, lab.host(2, flow))
        say(f"iperf3 hA -> hB, one TCP stream, {IPERF_SECONDS} s, {'crypto map' if flow == 'map4' else 'Tunnel0'}")
        figures[flow] = server.tcp_gbps(made.hA, IPERF_SECONDS, "-B", lab.host(1, flow))
        server.server.end()
    return figures


def main() -> None:
    down.remove()
    refuse_if_others()
    HOME.mkdir(mode=0o700, parents=True, exist_ok=True)
    manual = sys.argv[1:] == ["--manual"]
    say(f"namespaces hA - N1 - W - N2 - hB, nodes, {'manual keys' if manual else 'keys by IKEv2'}")
    made, nodes = build(manual)
    try:
        check_ping(made)
        figures = measure(made)
        for node in nodes:
            say(f"postern --node {node.name} show crypto session")
            print(node.postern("show", "crypto", "session").stdout)
    except BaseException:
        for node in nodes:
            print(f"--- {node.name} ---\n{node.process.log()[-3000:]}", file=sys.stderr)
        made.close()
        raise
    made.keep()  # scripts/down knows it by its names
    say(f"result: crypto map {figures['map4']:.2f} Gb/s, tunnel {figures['tunnel4']:.2f} Gb/s, both nodes on this machine")
    postern = shlex.quote(str(PROGRAMS / "postern"))
    print(f"""Try next (as root):
  {postern} --node {down.NODES[0]} show crypto ipsec sa
  {postern} --node {down.NODES[0]} show crypto ikev2 sa          # empty with --manual
  {postern} --node {down.NODES[0]} show dataplane
  ip netns exec {down.PREFIX}W tcpdump -ni w1 -c 5 &  ip netns exec {down.PREFIX}hA ping -c 5 {lab.host(2, 'map4')}     # ESP on the wire
  ./scripts/down                                            # removes all of it""")


if __name__ == "__main__":
    try:
        main()
    except (CommandFailed, AssertionError) as error:
        sys.exit(f"up: {error}")
