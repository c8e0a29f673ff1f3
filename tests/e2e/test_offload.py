"""Super-packets: TSO and USO on the plain side are segmented before ESP, and decrypted segments are put together again."""
import json

import pytest
from scapy.layers.inet import TCP

import lab
import traffic
from balance import assert_balanced
from capture import Capture
from netns import wait_until
from oracle import Oracle

BYTES = 20_000_000


@pytest.fixture(scope="module", params=["tap", "af_xdp"])
def pair(request, module_scratch):
    with lab.Pairing(module_scratch / request.param, plain_side=request.param) as made:
        for flow in ("map4", "tunnel4", "map6", "tunnel6"):
            traffic.ping_until(made.hA, lab.host(2, flow), source=lab.host(1, flow))
        yield made


@pytest.mark.parametrize("flow", ("map4", "tunnel4", "map6", "tunnel6"))
def test_tcp_with_offloads(pair, flow):
    """Every byte arrives as it was sent, whatever was segmented and put together again on the way."""
    before = pair.left.dataplane()["balance"]
    got = traffic.transfer(pair.hA, pair.hB, lab.host(2, flow), BYTES, lab.host(1, flow))
    assert got["received"] == BYTES and got["right"]
    after = pair.left.dataplane()["balance"]
    if pair.left.document["dataplane"]["plain_side"] == "tap":
        assert after["split"] > before["split"], "super-packets came and were segmented"
    assert_balanced(pair.left, pair.right)


@pytest.mark.parametrize("flow", ("map4", "tunnel4"))
def test_coalescing_on_receive(pair, flow):
    before = pair.right.dataplane()["balance"]["merged"]
    assert traffic.transfer(pair.hA, pair.hB, lab.host(2, flow), BYTES, lab.host(1, flow))["right"]
    if pair.left.document["dataplane"]["plain_side"] == "tap":  # what leaves by AF_XDP is single packets
        assert pair.right.dataplane()["balance"]["merged"] > before
    assert_balanced(pair.left, pair.right)


@pytest.mark.parametrize("flow", ("map4", "tunnel4"))
def test_every_segment_fits_the_wire(pair, flow, scratch):
    """On W no ESP packet is larger than the path, and the TCP segments inside carry right checksums."""
    with Capture(pair.w, "w1", scratch / "w.pcap") as capture:
        assert traffic.transfer(pair.hA, pair.hB, lab.host(2, flow), 1_000_000, lab.host(1, flow))["right"]
        found = Oracle(pair.flows.all()).examine(capture.frames())
    found.assert_protected()
    assert max(len(bytes(one.outer)) for one in found.opened) <= 1500
    segments = [one.inner for one in found.opened if one.inner.haslayer(TCP) and len(one.inner[TCP].payload) > 1000]
    assert len(segments) > 500
    for packet in segments[::25]:
        fresh = packet.copy()
        del fresh[TCP].chksum
        del fresh.chksum
        rebuilt = fresh.__class__(bytes(fresh))
        assert rebuilt[TCP].chksum == packet[TCP].chksum and rebuilt.chksum == packet.chksum


@pytest.mark.parametrize("flow", ("map4", "tunnel4"))
def test_udp_segmentation_offload(pair, flow):
    """A sender with UDP_SEGMENT hands 64 KB at once; the receiver gets datagrams of the size it asked for."""
    program = ("import socket, sys\n"
               "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(socket.IPPROTO_UDP, 103, 1000)\n"
               "s.bind((sys.argv[2], 0)); s.connect((sys.argv[1], 9100))\n"
               "sys.path.insert(0, sys.argv[3]); import udp_stream\n"
               "for i in range(50): s.send(b''.join(udp_stream.payload(i * 40 + k, 1000) for k in range(40)))\n")
    far = lab.host(2, flow)
    receiver = pair.hB.spawn("/usr/bin/python3", traffic.STREAM, "receive", far, 9100, 1.5)
    wait_until(lambda: "READY" in receiver.log(), 10, "the receiver listens")
    pair.hA.run("/usr/bin/python3", "-c", program, far, lab.host(1, flow), traffic.STREAM.parent)
    receiver.wait(20)
    got = json.loads(receiver.log().splitlines()[-1])
    assert got["wrong"] == 0 and got["distinct"] > 0.9 * 2000
    assert_balanced(pair.left, pair.right)
