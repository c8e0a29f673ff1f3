"""TS-01, TS-03, TS-04: what each word of an access rule takes, one packet that matches beside one that differs in that word alone; and
what the data plane has counted of it."""
import copy
import datetime
import json
import time

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Raw
from scapy.utils import PcapReader

import documents
import lab
import traffic
from balance import assert_balanced
from capture import Capture
from netns import wait_until
from oracle import Oracle

FAR = "10.2.0.2"
ANY = {"action": "permit", "protocol": "ip", "source": "10.1.0.0/16", "destination": "10.2.0.0/16"}


@pytest.fixture(scope="module")
def pair(module_scratch):
    with lab.Pairing(module_scratch) as made:
        traffic.ping_until(made.hA, FAR)
        yield made


def rules(pair, *wanted: dict, **top) -> dict:
    document = copy.deepcopy(pair.left.document)
    document["acls"][0]["rules"] = [{**ANY, **one} for one in wanted]
    document.update(top)
    pair.left.apply(document)
    return document


def sealed(pair, *packets) -> list[bool]:
    """Whether hA's packets cross W as ESP. Each has a size of its own, by which it is known again."""
    made = [packet / Raw(b"\xa5" * (100 + 2 * number - len(bytes(packet)))) for number, packet in enumerate(packets)]
    lengths = {len(bytes(packet)): number for number, packet in enumerate(made)}
    with Capture(pair.w, "w1", pair.scratch / "acl.pcap") as capture:
        pair.hA.run("python3", "-c", SEND, input=json.dumps([bytes(IP(bytes(packet))).hex() for packet in made]))
        seen: dict[int, bool] = {}

        def all_seen() -> bool:
            with PcapReader(str(capture.path)) as reader:
                found = Oracle(pair.flows.all()).examine(list(reader))
            for one in found.opened:
                if len(bytes(one.inner)) in lengths:
                    seen[lengths[len(bytes(one.inner))]] = True
            for one in found.clear:
                if one.haslayer(IP) and one[IP].len in lengths and one[IP].dst.startswith("10.2."):
                    seen[lengths[one[IP].len]] = False
            return len(seen) == len(made)

        wait_until(all_seen, 5, "every packet is on W")
    return [seen[number] for number in range(len(made))]


SEND = """
import json, socket, sys
out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
for text in json.load(sys.stdin):
    packet = bytes.fromhex(text)
    out.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))
"""


def ip(**fields) -> IP:
    return IP(src="10.1.0.2", dst=FAR, **fields)


def tcp(flags: str) -> IP:
    return ip() / TCP(sport=1000, dport=80, flags=flags)


UDP1000 = UDP(sport=1000, dport=1000)
ROWS = {
    "dscp": ({"dscp": "ef"}, [ip(tos=46 << 2) / UDP1000, ip(tos=46 << 2 | 2) / UDP1000], [ip(tos=45 << 2) / UDP1000, ip() / UDP1000]),
    "precedence": ({"precedence": "critical"}, [ip(tos=0xa0) / UDP1000, ip(tos=0xb8) / UDP1000], [ip(tos=0x80) / UDP1000]),
    "tos": ({"tos": "min-delay"}, [ip(tos=0x10) / UDP1000, ip(tos=0xb0) / UDP1000], [ip(tos=0x18) / UDP1000, ip() / UDP1000]),
    "icmp type": ({"protocol": "icmp", "icmp_type": "echo"}, [ip() / ICMP(type=8)], [ip() / ICMP(type=0), ip() / ICMP(type=13), ip() / UDP1000]),
    "icmp code": ({"protocol": "icmp", "icmp_type": 8, "icmp_code": 1}, [ip() / ICMP(type=8, code=1)], [ip() / ICMP(type=8, code=0)]),
    "established": ({"protocol": "tcp", "established": True}, [tcp("A"), tcp("SA"), tcp("R")], [tcp("S"), tcp("F")]),
    "all flags": ({"protocol": "tcp", "tcp_flags": {"set": ["syn"], "clear": ["ack"]}}, [tcp("S"), tcp("SP")], [tcp("SA"), tcp("P")]),
    "any flag": ({"protocol": "tcp", "tcp_flags": {"match": "any", "set": ["urg", "psh"]}}, [tcp("U"), tcp("PA")], [tcp("A"), tcp("S")]),
    "port range": ({"protocol": "udp", "destination_ports": "range 1000 1003"}, [ip() / UDP(dport=1000), ip() / UDP(dport=1003)],
                   [ip() / UDP(dport=999), ip() / UDP(dport=1004), ip() / TCP(dport=1000)]),
    "not a port": ({"protocol": "udp", "source_ports": "neq 53"}, [ip() / UDP(sport=52), ip() / UDP(sport=54)], [ip() / UDP(sport=53)]),
    "less": ({"protocol": "tcp", "destination_ports": "lt 1024"}, [ip() / TCP(dport=1023)], [ip() / TCP(dport=1024)]),
    "more": ({"protocol": "tcp", "destination_ports": "gt 1023"}, [ip() / TCP(dport=1024)], [ip() / TCP(dport=1023)]),
    "host": ({"source": "host 10.1.0.2", "destination": "host 10.2.0.2"}, [ip() / UDP1000], [IP(src="10.1.0.2", dst="10.2.0.3") / UDP1000]),
    "wildcard": ({"destination": "10.2.0.2 0.0.0.1"}, [IP(src="10.1.0.2", dst="10.2.0.3") / UDP1000], [IP(src="10.1.0.2", dst="10.2.0.4") / UDP1000]),
}


@pytest.mark.parametrize("row", ROWS)
def test_each_word_takes_what_it_says(pair, row):
    rule, match, differ = ROWS[row]
    rules(pair, rule)
    assert sealed(pair, *match, *differ) == [True] * len(match) + [False] * len(differ)
    assert_balanced(pair.left)


def test_a_deny_with_options_leaves_the_rest(pair):
    rules(pair, {"action": "deny", "dscp": "cs1"}, {"action": "deny", "protocol": "tcp", "established": True}, {})
    assert sealed(pair, ip(tos=8 << 2) / UDP1000, tcp("A"), tcp("S"), ip() / UDP1000) == [False, False, True, True]


def moment(seconds: int) -> str:
    return (datetime.datetime.now() + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def test_a_time_range_opens_and_closes(pair):
    """However long a step takes, it ends in one state: of what lies ahead, of a window that opens, and of one that closes."""
    def during(start: int, end: int) -> None:
        rules(pair, {"action": "deny", "protocol": "tcp"}, {"time_range": "SOON"}, time_ranges=[{"name": "SOON", "start": moment(start), "end": moment(end)}])

    def active() -> bool:
        return pair.left.show("access-lists", "101")["access_lists"][0]["rules"][1]["active"]

    during(3600, 7200)
    assert not active() and sealed(pair, ip() / UDP1000, tcp("S")) == [False, False]
    during(3, 3600)
    wait_until(active, 8, "the window opens")
    assert sealed(pair, ip() / UDP1000, tcp("S")) == [True, False]
    assert "time-range SOON (active)" in pair.left.postern("show", "access-lists").stdout
    during(-60, 3)
    wait_until(lambda: not active(), 8, "the window closes")
    assert sealed(pair, ip() / UDP1000, tcp("S")) == [False, False]


def matches(pair, name: str = "101") -> list[int]:
    return [rule["matches"] for rule in pair.left.show("access-lists", name)["access_lists"][0]["rules"]]


def test_rules_count_what_they_decided(pair):
    """A permit what it protects, a deny what it takes out; counts of rules that stay outlive an edit of others."""
    rules(pair, {"protocol": "tcp"})  # what other tests have counted is forgotten with their rules
    document = rules(pair, {"action": "deny", "protocol": "tcp", "destination_ports": "eq 22"},
                     {"action": "deny", "protocol": "udp", "log": True, "log_tag": "WEB"}, {})
    sealed(pair, *[ip() / TCP(dport=22)] * 3, *[ip() / UDP1000] * 5, *[ip() / TCP(dport=80)] * 2)
    assert matches(pair) == [3, 5, 2]
    text = pair.left.postern("show", "access-lists", "101").stdout
    assert "Extended IP access list 101\n" in text
    assert "    10 deny 6 10.1.0.0 0.0.255.255 10.2.0.0 0.0.255.255 eq 22 (3 matches)\n" in text, text
    assert "(5 matches)" in pair.left.postern("show", "crypto", "map", "tag", "M4").stdout
    wait_until(lambda: any("access list 101 rule 20" in line and line.endswith("[WEB]") for line in pair.left.process.log().splitlines()), 5, "a tagged record")
    document["acls"][0]["rules"].insert(2, {**ANY, "action": "deny", "dscp": "cs1"})
    pair.left.apply(document)
    assert matches(pair) == [3, 5, 0, 2], "what stays keeps its count"
    pair.left.kill_daemon()
    pair.left.start()
    sealed(pair, ip() / UDP1000)
    assert matches(pair) == [3, 6, 0, 2], "also over a restart"
    assert pair.left.show("access-lists", "V6")["access_lists"][0]["family"] == "ipv6"
    assert pair.left.postern("show", "access-lists", "NONE", check=False).returncode == 1


def test_deny_goes_on_to_later_entries(pair):
    """TS-03: the entry that denies is left, the next one is asked; what no entry wants goes in clear."""
    document = copy.deepcopy(pair.left.document)
    document["acls"][0]["rules"] = [{**ANY, "action": "deny", "destination": "10.2.0.3/32"}, {**ANY, "action": "deny", "destination": "10.2.0.4/32"}, ANY]
    keys = documents.fresh_pair(0x7301)
    other = documents.permit("OTHER", "10.1.0.0/16", "10.2.0.3/32")
    documents.map_entry(document, "M4", 20, other, lab.OUT4[2], keys.session_key(True), lab.TRANSFORMS)
    pair.left.apply(document)
    with Capture(pair.w, "w1", pair.scratch / "deny.pcap", "ip") as capture:
        for last in (2, 3, 4):
            pair.hA.run("ping", "-c", 1, "-W", 1, f"10.2.0.{last}", check=False)
        found = Oracle([*pair.flows.all(), keys.to_right, keys.to_left]).examine(capture.frames())
    by_spi = {one.inner[IP].dst: one.spi for one in found.opened if one.inner[IP].src == "10.1.0.2"}
    assert by_spi == {"10.2.0.2": pair.flows.map4.to_right.spi, "10.2.0.3": keys.to_right.spi}
    assert {one[IP].dst for one in found.clear if one.haslayer(IP) and one[IP].src == "10.1.0.2"} == {"10.2.0.4"}


def large(document: dict) -> dict:
    """64 entries and 4,000 rules, all with ports; the lab's own entry is the last of them. They are all that the interface has."""
    made = copy.deepcopy(document)
    del made["interfaces"][0]["ipv6_crypto_map"]
    own = made["crypto_maps"][0]["entries"][0]
    made["crypto_maps"][0]["entries"] = []
    for number in range(63):
        acl = {"name": f"A{number}", "rules": [
            {"action": "deny" if i else "permit", "protocol": "tcp" if i % 2 else "udp", "source": f"10.{100 + number}.{i}.0/24",
             "destination": f"10.{200 + number % 50}.{i}.0/24", "destination_ports": f"range {1000 + i} {1100 + 3 * i}"} for i in range(63)]}
        documents.map_entry(made, "M4", number + 1, acl, f"192.0.2.{100 + number}", documents.fresh_pair(0x10000 + 2 * number).session_key(True), lab.TRANSFORMS)
    made["crypto_maps"][0]["entries"].append({**own, "sequence": 100})
    made["acls"][0]["rules"] = [{**ANY, "action": "deny", "protocol": "tcp", "destination_ports": f"eq {5000 + i}"} for i in range(30)] + [ANY]
    return made


def test_a_map_set_of_64_entries_and_4000_rules(pair):
    document = large(pair.left.document)
    count = sum(len(acl["rules"]) for acl in document["acls"]) - 1  # V6 is another map's
    assert 3990 < count <= 4096 and len(document["crypto_maps"][0]["entries"]) == 64
    began = time.monotonic()
    pair.left.apply(document)
    took = time.monotonic() - began
    assert took < 20, f"applied in {took:.1f} s"
    assert sealed(pair, ip() / UDP1000, ip() / TCP(dport=5029), ip() / TCP(dport=5030)) == [True, False, True]
    shown = pair.left.show("access-lists")["access_lists"]
    assert sum(len(acl["rules"]) for acl in shown) == count + 1 and matches(pair)[-1] >= 2
    document["crypto_maps"][0]["entries"].insert(0, {**document["crypto_maps"][0]["entries"][0], "sequence": 99})
    refused = pair.left.apply(document, check=False)
    assert refused.returncode == 1 and "64" in refused.stderr, refused.stderr
    pair.left.apply(pair.left.document)


REFUSED = {
    "icmp_type of udp": ({"protocol": "udp", "icmp_type": 8}, "icmp_type"),
    "unknown icmp_type": ({"protocol": "icmp", "icmp_type": "hello"}, "icmp_type"),
    "code without type": ({"protocol": "icmp", "icmp_code": 1}, "icmp_code"),
    "dscp too large": ({"dscp": 64}, "dscp"),
    "dscp and tos": ({"dscp": 1, "tos": 1}, "tos"),
    "established of udp": ({"protocol": "udp", "established": True}, "established"),
    "no flag": ({"protocol": "tcp", "tcp_flags": {}}, "tcp_flags"),
    "set and clear": ({"protocol": "tcp", "tcp_flags": {"set": ["syn"], "clear": ["syn"]}}, "tcp_flags"),
    "fragments with flags": ({"protocol": "tcp", "established": True, "fragments": True}, "established"),
    "no such time range": ({"time_range": "NEVER"}, "time_range"),
    "tag without log": ({"log_tag": "WEB"}, "log_tag"),
    "dynamic": ({"dynamic": "LOCK", "timeout": 5}, "dynamic"),
    "discontiguous": ({"source": "10.1.0.0 0.255.0.255"}, "source"),
}


@pytest.mark.parametrize("row", REFUSED)
def test_refused(pair, row):
    rule, key = REFUSED[row]
    document = copy.deepcopy(pair.left.document)
    document["acls"][0]["rules"] = [{**ANY, **rule}]
    before = pair.left.postern("config", "show").stdout
    refused = pair.left.apply(document, check=False)
    assert refused.returncode == 1 and f"/acls/0/rules/0/{key}" in refused.stderr, refused.stderr
    assert pair.left.postern("config", "show").stdout == before
