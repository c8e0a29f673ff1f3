"""Crypto maps and the interfaces under them: applied and taken away, renamed, behind NAT; and what the shows count."""
import copy
import json
import time

import pytest
from scapy.layers.inet import IP, UDP

import lab
import safety
import traffic
from balance import assert_balanced, settled_excess
from capture import Capture
from netns import wait_until
from node import PINS
from oracle import Oracle


@pytest.fixture(scope="module")
def pair(module_scratch):
    with lab.Pairing(module_scratch) as made:
        traffic.ping_until(made.hA, lab.host(2, "map4"))
        yield made


def programs(pair) -> set[str]:
    """Names of the BPF programs on N1's out0, as the kernel tells them."""
    said = json.loads(pair.n1.run("bpftool", "-j", "net").stdout)[0]
    found = {hook for hook in ("xdp", "tc") for one in said[hook] if one.get("devname") == "out0"}
    return found


def test_a_map_comes_and_goes_with_its_programs(pair, scratch):
    """IF-01: applied, the map governs what leaves and enters; without it the interface is a plain one, and nothing of ours is left there."""
    assert programs(pair) == {"xdp", "tc"}
    bare = copy.deepcopy(pair.left.document)
    del bare["interfaces"][0]["crypto_map"], bare["interfaces"][0]["ipv6_crypto_map"]
    bare["tunnels"] = []
    pair.left.apply(bare)
    assert programs(pair) == set()
    with Capture(pair.w, "w1", scratch / "bare.pcap", "icmp") as capture:
        traffic.ping(pair.hA, lab.host(2, "map4"), count=1, wait=1)
        assert [one for one in capture.frames() if one[IP].dst == lab.host(2, "map4")], "in clear"
    refused = pair.left.postern("show", "crypto", "map", "interface", "out0", check=False)
    assert refused.returncode == 1 and "no crypto map on that interface" in refused.stderr
    pair.left.apply(pair.left.document)
    assert programs(pair) == {"xdp", "tc"}
    with Capture(pair.w, "w1", scratch / "map.pcap") as capture:
        assert traffic.ping(pair.hA, lab.host(2, "map4")) == 3
        Oracle(pair.flows.all()).examine(capture.frames()).assert_protected()


def test_show_crypto_map_by_interface_and_tag(pair):
    """IF-18, CM-24: the filters are joined by AND, and a name that is not there is an error."""
    text = pair.left.postern("sh", "cry", "map", "int", "out0").stdout
    assert text.count("Interfaces using crypto map") == 2 and "Interfaces using crypto map M4:\n  out0\n" in text
    maps = pair.left.show("crypto", "map", "tag", "M4", "interface", "out0")["maps"]
    assert [one["name"] for one in maps] == ["M4"] and maps[0]["interfaces"] == ["out0"]
    for words in (("tag", "NONE"), ("interface", "none0"), ("tag", "M4", "interface", "Tunnel0")):
        refused = pair.left.postern("show", "crypto", "map", *words, check=False)
        assert refused.returncode == 1 and not refused.stdout, words


@pytest.fixture
def still_balanced(pair):
    """What was on its way to a socket when a change took that away is no test's that comes later."""
    before = {node: settled_excess(node) for node in (pair.left, pair.right)}

    def check() -> None:
        for node, excess in before.items():
            assert_balanced(node, since=excess)

    return check


def test_nat_comes_before_ipsec(pair, scratch, still_balanced):
    """IF-15: nftables translates first, and the access list sees what comes out of it; the answers find their way back."""
    near, shown, far = lab.host(1, "tunnel4"), "10.1.99.1", lab.host(2, "map4")
    pair.hA.ip("route", "add", f"{far}/32", "via", "10.3.0.1", "src", near)
    pair.n1.run("nft", "-f", "-", input=f"table ip before {{ chain post {{ type nat hook postrouting priority srcnat; "
                                       f"oifname out0 ip saddr {near} snat to {shown}; }}; }}")
    try:
        with Capture(pair.w, "w1", scratch / "nat.pcap") as capture:
            assert traffic.ping(pair.hA, far, source=near) == 3
            found = Oracle(pair.flows.all()).examine(capture.frames())
        found.assert_protected()
        assert {(one.inner.src, one.inner.dst) for one in found.opened if isinstance(one.inner, IP)} == {(shown, far), (far, shown)}
        assert "10.1.0.0/255.255.0.0" in pair.left.postern("show", "crypto", "ipsec", "sa", "map", "M4").stdout
    finally:
        pair.n1.run("nft", "delete", "table", "ip", "before")
        pair.hA.ip("route", "del", f"{far}/32")
    still_balanced()


def test_an_interface_is_renamed_and_comes_back(pair, scratch):
    """IF-20: under another name it is the document's for the grace, with what protects it; nothing leaves in clear, before the name is back or after."""
    with Capture(pair.w, "w1", scratch / "renamed.pcap") as capture:
        pair.n1.run("sh", "-c", "ip link set out0 down && ip link set out0 name away0 && ip link set away0 up")
        wait_until(lambda: "out0 has another name now: away0" in pair.left.dataplane()["state"], 5, "the node follows it")
        pair.n1.run("sh", "-c", "ip link set away0 down && ip link set away0 name out0 && ip link set out0 up")
        wait_until(lambda: pair.left.dataplane()["state"] == "running", 5, "and has it again")
        pair.n1.ip("route", "replace", "10.2.0.0/16", "via", lab.OUT4[2])
        pair.n1.ip6("route", "replace", "2001:db8:2::/64", "via", lab.OUT6[2])
        for flow in ("map4", "map6", "tunnel4"):
            traffic.ping_until(pair.hA, lab.host(2, flow), source=lab.host(1, flow))
        found = Oracle(pair.flows.all()).examine(capture.frames())
    safety.never([one for one in found.clear if one.haslayer("IP") and one["IP"].dst.startswith("10.")], "clear packets")
    safety.never(found.repeated, "sequence numbers used twice")


def kernel_count(pair, verdict: int) -> int:
    """Of N1's `verdicts` map, by bpftool: packets of TC egress with this verdict, all interfaces and CPUs."""
    rows = json.loads(pair.n1.run("bpftool", "-j", "map", "dump", "pinned", PINS / pair.left.name / "verdicts").stdout)
    return sum(cpu["value"]["packets"] for row in rows for cpu in row["formatted"]["values"]
               if row["formatted"]["key"]["hook"] == 1 and row["formatted"]["key"]["verdict"] == verdict)


def encaps(pair) -> int:
    return next(block["flows"][0]["counters"]["encaps"] for block in pair.left.show("crypto", "ipsec", "sa")["interfaces"] if block["map"] == "M4")


def test_show_bpftool_and_capture_count_the_same(pair, scratch, still_balanced):
    """SH-30, SH-31: 10,000 packets by three counts, while `show` is asked all the time; none of them waits for it."""
    to_steer = 2  # POSTERN_VERDICT_to_steer
    before = encaps(pair), kernel_count(pair, to_steer)
    with Capture(pair.w, "w1", scratch / "count.pcap", "ip proto 50 and src host 192.0.2.1") as capture:
        stream = traffic.Stream(pair.hA, pair.hB, lab.host(2, "map4"), count=10000, rate=2500, quiet=3)
        shows, slowest = 0, 0.0
        while stream.sender.running():
            began = time.monotonic()
            flow = next(block["flows"][0] for block in pair.left.show("crypto", "ipsec", "sa")["interfaces"] if block["map"] == "M4")
            slowest, shows = max(slowest, time.monotonic() - began), shows + 1
            assert flow["counters"]["encaps"] == flow["counters"]["encrypt"] == flow["counters"]["digest"], "SH-33: of one moment"
        sent, received = stream.finish()
        found = Oracle(pair.flows.all()).examine(capture.frames())
    assert sent["sent"] == received["distinct"] == 10000 and shows >= 3, (sent, received, shows, slowest)
    streamed = [one for one in found.opened if one.spi == pair.flows.map4.to_right.spi]
    assert len([one for one in streamed if one.inner.haslayer(UDP)]) == 10000
    assert (encaps(pair) - before[0], kernel_count(pair, to_steer) - before[1]) == (len(streamed), len(streamed))
    still_balanced()
