"""The command line: layouts of the guide, one structure for text and JSON, documented exit codes, capture, apply."""
import json
import os
import pathlib
import re
import shutil
import tempfile

import pytest

import documents
import lab
import traffic
from balance import assert_balanced
from capture import Capture
from netns import run, wait_until
from node import PROGRAMS
from oracle import Oracle

OK, REFUSED, USAGE, NOT_RUNNING, NOT_PERMITTED = range(5)


@pytest.fixture(scope="module")
def pair(module_scratch):
    with lab.Pairing(module_scratch) as made:
        for flow in ("map4", "map6", "tunnel4", "tunnel6"):
            traffic.ping_until(made.hA, lab.host(2, flow), source=lab.host(1, flow))
            traffic.ping(made.hA, lab.host(2, flow), count=10, source=lab.host(1, flow))
        yield made


def in_order(text: str, *patterns: str) -> None:
    """Each pattern matches at the beginning of a line (after blanks), in this order."""
    position = 0
    for pattern in patterns:
        found = re.compile(r"^\s*" + pattern, re.M).search(text, position)
        assert found, f"no {pattern!r} after:\n{text[:position][-300:]}\n--- in ---\n{text[position:][:1500]}"
        position = found.end()


def test_show_crypto_session(pair):
    text = pair.left.postern("show", "crypto", "session").stdout
    in_order(text, "Crypto session current status", "Interface: ", "Session status: UP-", r"Peer: 192\.0\.2\.2 port \d+",
             r"IPSEC FLOW: permit ip 10\.1\.0\.0/255\.255\.0\.0 10\.2\.0\.0/255\.255\.0\.0", r"Active SAs: 2, origin: crypto map")
    sessions = pair.left.show("crypto", "session")["sessions"]
    assert {session["interface"] for session in sessions} == {"out0", "Tunnel0", "Tunnel1"}
    assert all(session["status"].startswith("UP") for session in sessions)
    assert all(flow["active_sas"] == 2 for session in sessions for flow in session["flows"])


def test_show_crypto_ipsec_sa(pair):
    text = pair.left.postern("show", "crypto", "ipsec", "sa").stdout
    keys = pair.flows.map4
    in_order(text, "interface: out0", r"Crypto map tag: M4, local addr 192\.0\.2\.1",
             r"protected vrf: \(none\)", r"local  ident \(addr/mask/prot/port\): \(10\.1\.0\.0/255\.255\.0\.0/0/0\)",
             r"remote ident \(addr/mask/prot/port\): \(10\.2\.0\.0/255\.255\.0\.0/0/0\)", r"current_peer 192\.0\.2\.2 port \d+",
             r"PERMIT, flags=\{origin_is_acl,\}", r"#pkts encaps: [1-9]\d*, #pkts encrypt: \d+, #pkts digest: \d+",
             r"#pkts decaps: [1-9]\d*, #pkts decrypt: \d+, #pkts verify: \d+", r"#send errors \d+, #recv errors 0",
             r"local crypto endpt\.: 192\.0\.2\.1, remote crypto endpt\.: 192\.0\.2\.2", r"plaintext mtu 1438, path mtu 1500",
             rf"current outbound spi: 0x{keys.to_right.spi:X}\({keys.to_right.spi}\)", "inbound esp sas:",
             rf"spi: 0x{keys.to_left.spi:X}\({keys.to_left.spi}\)", r"replay detection support: N", "inbound ah sas:", "inbound pcp sas:",
             "outbound esp sas:", "outbound ah sas:", "outbound pcp sas:")
    counters = [flow["counters"] for interface in pair.left.show("crypto", "ipsec", "sa")["interfaces"] for flow in interface["flows"]]
    assert len(counters) == 4 and all(one["encaps"] > 0 and one["decaps"] > 0 and one["recv_errors"] == 0 for one in counters)


def test_show_crypto_map(pair):
    text = pair.left.postern("show", "crypto", "map").stdout
    in_order(text, 'Crypto Map: "M4"', r'Crypto Map IPv4 "M4" 10 ipsec-manual', r"Peer = 192\.0\.2\.2", "Extended IP access list",
             r"Current peer: 192\.0\.2\.2", "Interfaces using crypto map M4:", "out0")
    maps = {one["name"]: one for one in pair.left.show("crypto", "map")["maps"]}
    assert {"M4", "M6", "Tunnel0-head-0", "Tunnel1-head-0"} <= set(maps)
    assert maps["M6"]["family"] == "ipv6" and maps["M4"]["interfaces"] == ["out0"]


def test_show_interface_tunnel(pair):
    text = pair.left.postern("show", "interface", "tunnel", "0").stdout
    in_order(text, "Tunnel0 is up, line protocol is up", "Hardware is Tunnel", r"Internet address is 172\.16\.0\.1/30", r"MTU \d+ bytes",
             "Encapsulation TUNNEL", r"Tunnel source 192\.0\.2\.1, destination 192\.0\.2\.2", "Tunnel protocol/transport ipsec/ip",
             "Tunnel TTL 255", r'Tunnel protection via IPsec \(profile "[^"]+"\)', r"Last input ", r"\d+ packets input, \d+ bytes",
             r"\d+ packets output, \d+ bytes")
    shown = pair.left.show("interface", "tunnel", "0")
    assert shown["counters"]["in_packets"] > 0 and shown["counters"]["out_packets"] > 0
    assert pair.left.postern("show", "interface", "tunnel", "77", check=False).returncode == REFUSED


def test_show_dataplane(pair):
    view = pair.left.dataplane()
    assert view["state"] == "running" and view["worker"]["running"]
    assert {device["role"] for device in view["devices"]} >= {"outside", "tunnel", "steer"}
    text = pair.left.postern("show", "dataplane").stdout
    for device in view["devices"]:
        assert device["name"] in text
    assert_balanced(pair.left)


def test_text_and_json_tell_the_same(pair):
    for words in (("crypto", "map"), ("crypto", "session"), ("crypto", "ipsec", "sa")):
        text = pair.left.postern("show", *words).stdout
        for name in re.findall(r"(?:M4|M6|Tunnel\d)", json.dumps(pair.left.show(*words))):
            assert name in text


def test_exit_codes(pair):
    assert pair.left.postern("show", "dataplane", check=False).returncode == OK
    assert pair.left.postern("show", "interface", "tunnel", "77", check=False).returncode == REFUSED
    for words in (("show",), ("show", "nonsense"), ("--nonsense",), ("config",), ("show", "interface", "tunnel", "x")):
        assert pair.left.postern(*words, check=False).returncode == USAGE, words
    nobody = run([PROGRAMS / "postern", "--node", "no-such-node", "show", "dataplane"], check=False)
    assert nobody.returncode == NOT_RUNNING and "no-such-node" in nobody.stderr
    with tempfile.TemporaryDirectory(prefix="postern-cli-") as public:  # the tree may lie where nobody else can read
        pathlib.Path(public).chmod(0o755)
        program = shutil.copy(PROGRAMS / "postern", public)
        as_nobody = run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", program, "--node", pair.left.name,
                         "clear", "crypto", "sa"], check=False)
    assert as_nobody.returncode == NOT_PERMITTED
    assert traffic.ping(pair.hA, lab.host(2, "map4")) == 3


def test_node_by_environment(pair):
    done = run([PROGRAMS / "postern", "--json", "show", "dataplane"], env={**os.environ, "POSTERN_NODE": pair.right.name})
    assert json.loads(done.stdout)["node"] == pair.right.name


def test_version_and_help():
    assert run([PROGRAMS / "postern", "--version"]).stdout.strip()
    assert "show" in run([PROGRAMS / "postern", "--help"]).stdout


@pytest.mark.parametrize("side", ["plain", "cipher", "both"])
def test_capture_is_read_by_tshark(pair, side, scratch):
    file = scratch / f"{side}.pcapng"
    process = pair.n1.spawn(PROGRAMS / "postern", "--node", pair.left.name, "capture", "--side", side, "-w", file)
    wait_until(lambda: traffic.ping(pair.hA, lab.host(2, "map4"), count=2) == 2 and file.exists() and file.stat().st_size > 1500, 10,
               "packets are captured")
    process.signal(2)
    process.wait(10)
    words = ["tshark", "-r", file, "-T", "fields", "-e", "frame.protocols"]
    protocols = run(words, timeout=60).stdout
    assert ("icmp" in protocols) == (side != "cipher"), protocols
    assert ("esp" in protocols) == (side != "plain"), protocols
    assert file.stat().st_mode & 0o077 == 0, "clear traffic is for its owner's eyes"


def test_clear_crypto_sa(pair, scratch):
    """MAN-11: manual SAs come back at once with the same SPIs, and their counters begin again."""
    before = {sa["spi"] for interface in pair.left.show("crypto", "ipsec", "sa")["interfaces"] for f in interface["flows"] for sa in f["sas"]}
    with Capture(pair.w, "w1", scratch / "w.pcap") as capture:
        assert traffic.ping(pair.hA, lab.host(2, "map4"), count=5) == 5
        pair.left.postern("clear", "crypto", "sa")
        interfaces = pair.left.show("crypto", "ipsec", "sa")["interfaces"]
        assert {sa["spi"] for interface in interfaces for f in interface["flows"] for sa in f["sas"]} == before
        assert traffic.ping(pair.hA, lab.host(2, "map4"), count=5) == 5
        found = Oracle(pair.flows.all()).examine(capture.frames())
    found.assert_protected()  # same keys: the numbers must not begin again
    assert_balanced(pair.left)


def test_apply_moves_policy_without_a_clear_packet(pair, scratch):
    """A wider ACL on both sides: in force at once, and the capture holds ESP alone throughout."""
    left, right = (documents.variant(node.document) for node in (pair.left, pair.right))
    with Capture(pair.w, "w1", scratch / "w.pcap") as capture:
        stream = traffic.Stream(pair.hA, pair.hB, lab.host(2, "map4"), count=3000, rate=1500)
        for document, side in ((left, 1), (right, 2)):
            document["acls"][0]["rules"][0].update(source=f"10.{side}.0.0/17", destination=f"10.{3 - side}.0.0/17")
        pair.right.apply(right)
        pair.left.apply(left)
        sent, received = stream.finish()
        found = Oracle(pair.flows.all()).examine(capture.frames())
    found.assert_protected()
    assert received["distinct"] > 0.97 * sent["sent"]
    assert "10.2.0.0/17" in pair.left.postern("config", "show").stdout
    pair.left.apply(pair.left.document)
    pair.right.apply(pair.right.document)
    assert traffic.ping(pair.hA, lab.host(2, "map4")) == 3
    assert_balanced(pair.left, pair.right)


def test_new_keys_take_effect_at_clear_alone(scratch):
    """MAN-11: an edit of a manual key waits for `clear crypto sa`."""
    with lab.Pairing(scratch) as made:
        traffic.ping_until(made.hA, lab.host(2, "map4"))
        fresh = documents.fresh_pair(0x1001)
        for node, left in ((made.left, True), (made.right, False)):
            document = documents.variant(node.document)
            document["crypto_maps"][0]["entries"][0]["session_key"] = fresh.session_key(left)
            node.apply(document)
        with Capture(made.w, "w1", scratch / "w.pcap") as capture:
            assert traffic.ping(made.hA, lab.host(2, "map4")) == 3
            Oracle(made.flows.all()).examine(capture.frames()).assert_protected()
        made.left.postern("clear", "crypto", "sa")
        made.right.postern("clear", "crypto", "sa")
        with Capture(made.w, "w1", scratch / "new.pcap") as capture:
            traffic.ping_until(made.hA, lab.host(2, "map4"))
            found = Oracle([fresh.to_left, fresh.to_right]).examine(capture.frames())
        found.assert_protected()
        assert found.opened
        assert_balanced(made.left, made.right)
