"""The network and the document change under a running node: what is protected stays protected, what need not stop does not."""
import copy
import os
import signal

import pytest

import documents
import lab
import traffic
from balance import assert_balanced, drops
from capture import Capture
from netns import wait_until
from node import PROGRAMS, gone
from oracle import Oracle, inner_payload
from udp_stream import number_of

pytestmark = pytest.mark.long

FLOWS = ("map4", "map6", "tunnel4", "tunnel6")


def with_spare(document: dict) -> dict:
    """One more AF_XDP interface, which carries none of the lab's traffic."""
    made = copy.deepcopy(document)
    documents.interface(made, "spare0", ["10.77.0.1/24"], inside=True)
    return made


@pytest.fixture(scope="module")
def pair(module_scratch):
    with lab.Pairing(module_scratch, start=False, plain_side="af_xdp") as made:
        made.veth(made.n1, "spare0", made.hA, "spare1")
        made.left.document = with_spare(made.left.document)
        documents.write(made.left.document, made.left.config)
        made.left.start()
        made.right.start()
        for flow in FLOWS:
            traffic.ping_until(made.hA, lab.host(2, flow), source=lab.host(1, flow))
        yield made


def device(node, name: str) -> dict:
    return next(one for one in node.dataplane()["devices"] if one["name"] == name)


def routes(made, target: str) -> list[str]:
    return made.n1.ip("route", "show", target).splitlines()


def test_a_changed_interface_leaves_the_others_alone(pair):
    """Its AF_XDP sockets are made anew; those of the interfaces that carry the stream go on. A packet that finds no socket on an
    inside interface goes to the kernel (`pass`), one for an outside interface without a ring is `tx_failed`: there are none."""
    def elsewhere() -> int:
        return device(pair.left, "in0")["verdicts"]["xdp_ingress"]["pass"] + drops(pair.left)["tx_failed"]

    before = elsewhere()
    stream = traffic.Stream(pair.hA, pair.hB, lab.host(2, "map4"), count=60000, rate=2000, quiet=2)
    wait_until(lambda: device(pair.left, "in0")["queues"][0]["rx_packets"] > 500, 10, "the stream runs")
    for mtu in (1400, 1300, 1500):
        pair.n1.ip("link", "set", "spare0", "mtu", mtu)
        wait_until(lambda: device(pair.left, "spare0")["mtu"] == mtu, 5, f"spare0 has {mtu}")
    assert stream.sender.running(), "the changes came while the stream ran"
    stream.sender.signal(signal.SIGTERM)
    sent, received = stream.finish()
    assert elsewhere() - before < 10, "the stream's packets found a socket all the time"
    assert received["distinct"] > 0.9 * sent["sent"]
    assert_balanced(pair.left)


def test_failed_apply_is_taken_back(pair):
    """The kernel refuses the last of several changes: the error names its place, and the old policy never stopped."""
    pair.n1.ip("link", "add", "Tunnel7", "type", "veth", "peer", "name", "foreign7")
    document = copy.deepcopy(pair.left.document)
    document["acls"][0]["rules"][0]["destination"] = "10.2.128.0/17"
    document["tunnels"].append({**copy.deepcopy(document["tunnels"][0]), "number": 7, "addresses": ["172.16.7.1/30"], "routes": ["10.9.0.0/16"]})
    keys = documents.fresh_pair(0x7001).session_key(True)
    document["tunnels"][-1]["protection"]["session_key"] = keys
    stream = traffic.Stream(pair.hA, pair.hB, lab.host(2, "map4"), count=2000, rate=1000, quiet=2)
    refused = pair.left.apply(document, check=False)
    sent, received = stream.finish()
    pair.n1.ip("link", "delete", "Tunnel7")
    assert refused.returncode == 1 and f"/tunnels/{len(document['tunnels']) - 1}" in refused.stderr + refused.stdout, refused
    assert "10.2.128.0/17" not in pair.left.postern("config", "show").stdout
    assert received["distinct"] > 0.98 * sent["sent"]
    assert not routes(pair, "10.9.0.0/16")


def test_routes_come_back_with_their_tunnel(pair):
    """The kernel takes the routes of a device that goes down; the unreachable twin holds until they are back."""
    pair.n1.ip("link", "set", "Tunnel0", "down")
    wait_until(lambda: device(pair.left, "Tunnel0")["admin"] == "down", 5, "the node has seen it")
    left = routes(pair, "10.4.0.0/16")
    assert len(left) == 1 and left[0].startswith("unreachable"), left
    assert "state DOWN" in pair.n1.ip("link", "show", "Tunnel0"), "an operator's word counts"
    pair.n1.ip("link", "set", "Tunnel0", "up")
    wait_until(lambda: any("dev Tunnel0" in line for line in routes(pair, "10.4.0.0/16")), 5, "the route is back")
    traffic.ping_until(pair.hA, lab.host(2, "tunnel4"), source=lab.host(1, "tunnel4"))
    # Both at once: one look at the links would see no difference.
    pair.n1.run("sh", "-c", "ip link set Tunnel0 down && ip link set Tunnel0 up")
    wait_until(lambda: any("dev Tunnel0" in line for line in routes(pair, "10.4.0.0/16")), 5, "and again")


def test_a_route_deleted_by_hand_stays_away(pair):
    pair.n1.ip("route", "delete", "10.4.0.0/16", "dev", "Tunnel0")
    for mtu in (1450, 1500):  # changes that make the node plan again
        pair.n1.ip("link", "set", "spare0", "mtu", mtu)
        wait_until(lambda: device(pair.left, "spare0")["mtu"] == mtu, 5, "the node planned again")
    assert not any("dev Tunnel0" in line for line in routes(pair, "10.4.0.0/16"))
    pair.left.apply(pair.left.document)
    assert any("dev Tunnel0" in line for line in routes(pair, "10.4.0.0/16")), "who asks for the document gets all of it"


def test_interface_vanishes_and_returns(pair, scratch):
    """Under load: nothing leaves in clear before it is blocked, and the flow goes on by the new device."""
    with Capture(pair.w, "w2", scratch / "w2.pcap") as capture:
        stream = traffic.Stream(pair.hA, pair.hB, lab.host(2, "map4"), count=2000, rate=250, quiet=6)
        wait_until(lambda: capture.bytes_captured() > 50_000, 10, "the stream is on the wire")
        pair.n1.ip("link", "delete", "out0")
        wait_until(lambda: "out0 does not exist" in pair.left.dataplane()["state"], 5, "the node misses it")
        pair.veth(pair.n1, "out0", pair.w, "w1")
        wait_until(lambda: "192.0.2.1/24" in pair.n1.ip("address", "show", "out0"), 5, "the node gave it its address")
        pair.n1.ip("route", "add", "10.2.0.0/16", "via", lab.OUT4[2])
        pair.n1.ip6("route", "add", "2001:db8:2::/64", "via", lab.OUT6[2])
        pair.w.ip("link", "set", "w1", "master", "br0")
        stream.finish()
        found = Oracle(pair.flows.all()).examine(capture.frames())
    found.assert_nothing_clear()
    numbers = [number for one in found.opened if (number := number_of(inner_payload(one.inner))) is not None]
    assert max(numbers) == 1999 and len(numbers) > 500, "it came back while the stream ran"
    for flow in FLOWS:
        traffic.ping_until(pair.hA, lab.host(2, flow), source=lab.host(1, flow))


@pytest.mark.unbalanced("what the worker had read and not sent dies with it")
def test_hung_worker_is_replaced(pair, scratch):
    """It lives and does nothing: found out, replaced, nothing in clear meanwhile, and no sequence number used twice."""
    hung = pair.left.worker_pid()
    with Capture(pair.w, "w1", scratch / "w1.pcap") as capture:
        stream = traffic.Stream(pair.hA, pair.hB, lab.host(2, "map4"), count=15000, rate=300, quiet=30)
        wait_until(lambda: capture.bytes_captured() > 50_000, 10, "the stream is on the wire")
        os.kill(hung, signal.SIGSTOP)
        wait_until(lambda: gone(hung), 14, "the hung worker is ended")
        wait_until(lambda: traffic.ping(pair.hA, lab.host(2, "map4"), count=1, wait=1), 5, "another one serves")
        stream.sender.end()
        stream.finish()
        found = Oracle(pair.flows.all()).examine(capture.frames())
    found.assert_protected()
    sequence = [one.sequence for one in found.opened if one.spi == pair.flows.map4.to_right.spi]
    assert len(set(sequence)) == len(sequence) > 100
    assert pair.left.worker_pid() != hung


def test_jumbo_links_show_what_they_carry(scratch):
    """A frame of the worker holds less than a link of 9000 bytes: every MTU shown says so, and that many bytes pass."""
    with lab.Pairing(scratch, start=False) as made:
        for namespace, devices in ((made.hA, ["eth0"]), (made.hB, ["eth0"]), (made.n1, ["in0", "out0"]), (made.n2, ["in0", "out0"]),
                                   (made.w, ["w1", "w2", "br0"])):
            for name in devices:
                namespace.ip("link", "set", name, "mtu", 9000)
        made.left.start()
        made.right.start()
        shown = {(block["name"], block["map"]): block["flows"][0] for block in made.left.show("crypto", "ipsec", "sa")["interfaces"]}
        for flow, interface in (("map4", ("out0", "M4")), ("tunnel4", ("Tunnel0", "Tunnel0-head-0"))):
            traffic.ping_until(made.hA, lab.host(2, flow), source=lab.host(1, flow))
            mtu = shown[interface]["mtu"]["plaintext"]
            assert 3700 < mtu < 3822
            if flow == "tunnel4":
                assert f"mtu {mtu} " in made.n1.ip("link", "show", "Tunnel0")
            for size, answered in ((mtu - 28, 3), (mtu - 27, 0), (8000, 0)):
                got = traffic.ping(made.hA, lab.host(2, flow), size=size, dont_fragment=True, source=lab.host(1, flow), wait=1)
                assert got == answered, f"{flow}: {got} of 3 answered with {size} bytes, plaintext MTU {mtu}"
            cached = made.hA.ip("route", "get", lab.host(2, flow), "from", lab.host(1, flow))
            assert f"mtu {mtu}" in cached, cached
            assert traffic.ping(made.hA, lab.host(2, flow), size=8000, source=lab.host(1, flow)) == 3, "cut where that is allowed"
            done = traffic.transfer(made.hA, made.hB, lab.host(2, flow), 2_000_000, near=lab.host(1, flow))
            assert done["received"] == 2_000_000 and done["right"], done
        assert_balanced(made.left, made.right)


def test_boot_guard_waits_for_an_interface(scratch):
    """It does not exist at boot: the guard stays, blocks it when it comes, and is done; posternd then serves it."""
    with lab.Pairing(scratch, start=False) as made:
        assert traffic.ping(made.hA, lab.host(2, "map4")) == 3, "two routers without a node forward in clear"
        made.n1.ip("link", "set", "out0", "down")
        made.n1.ip("link", "set", "out0", "name", "later0")
        guard = made.spawn([PROGRAMS / "posternd", "--name", made.left.name, "--config", made.left.config, "--netns", made.n1.name, "--guard"], "guard")
        wait_until(lambda: "interface out0 does not exist" in guard.log() or not guard.running(), 10, "the guard has looked")
        assert guard.running(), guard.log()
        made.n1.ip("link", "set", "later0", "name", "out0")
        assert guard.wait(10) == 0, guard.log()
        with Capture(made.w, "w1", scratch / "w1.pcap", "icmp or icmp6") as capture:
            made.n1.ip("link", "set", "out0", "up")
            made.n1.ip("route", "replace", "10.2.0.0/16", "via", lab.OUT4[2])
            assert traffic.ping(made.hA, lab.host(2, "map4"), wait=1) == 0
            assert traffic.ping(made.hB, lab.host(1, "map4"), wait=1) == 0, "and nothing comes in"
            frames = capture.frames()
        assert not [one for one in frames if one.src == made.n1.mac("out0") and "10.1.0.2" in one.summary()], "out0 sent what it protects"
        made.left.start()
        made.right.start()
        traffic.ping_until(made.hA, lab.host(2, "map4"))
        assert_balanced(made.left, made.right)
