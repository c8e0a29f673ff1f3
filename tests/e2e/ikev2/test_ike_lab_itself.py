"""The lab of the IKEv2 tests proves itself: strongSwan against strongSwan, so that a later failure is Postern's."""
import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

import ike_wire
import lab
from ike_lab import SwanPair
from ike_wire import AUTH, CREATE_CHILD, INFORMATIONAL, SA_INIT
from netns import wait_until
from vici import ViciRefused
from wire import Wire


@pytest.fixture(scope="module")
def pair(module_scratch):
    with SwanPair(module_scratch, right={"log": {"ike": 4}}) as made:
        yield made


@pytest.fixture(autouse=True)
def quiet(pair):
    yield
    for sa in pair.left.sas():
        pair.left.terminate(ike_id=sa["uniqueid"])
    pair.right.wait_none()


def both(pair, **options) -> None:
    for swan, side in ((pair.left, 1), (pair.right, 2)):
        swan.load(pair.connection(side, **options))


@pytest.mark.parametrize("flow, family", [("map4", 4), ("map6", 6), ("tunnel6", 4)])
def test_flows_are_protected(pair, flow, family):
    both(pair, flow=flow, family=family)
    with pair.capture() as capture:
        assert pair.ping(flow, wait=1, count=1) == 0, "nothing passes before there is an SA"
        pair.left.initiate("net")
        pair.ping_both(flow)
        wire = ike_wire.read(capture.frames())
    wire.assert_protected(8)
    assert [one.exchange for one in wire.ike] == [SA_INIT, SA_INIT, AUTH, AUTH]
    child = pair.left.children()[0]
    assert wire.spis() == {int(child["spi-in"], 16), int(child["spi-out"], 16)}


def test_a_planted_clear_packet_is_detected(pair):
    both(pair)
    pair.left.initiate("net")
    with pair.capture() as capture:
        pair.ping_both()
        with Wire(pair.w, "w2", "02:00:00:00:00:01", "02:00:00:00:00:02") as plant:
            plant.send(IP(src=lab.host(1, "map4"), dst=lab.host(2, "map4")) / UDP(sport=4501, dport=4501) / Raw(b"planted in clear"))
        wire = ike_wire.read(capture.frames())
    with pytest.raises(AssertionError, match="1 clear packets"):
        wire.assert_protected()


def test_messages_are_decrypted(pair):
    both(pair)
    since = pair.right.mark()
    with pair.capture() as capture:
        pair.left.initiate("net")
        sa = pair.right.sas()[0]
        keys = ike_wire.secrets_of(pair.right.log()[since:])
        pair.left.terminate(ike="net")
        capture.stop()
    seen = ike_wire.decrypted(capture.path, sa, keys[0])
    assert [one["exchange"] for one in seen] == [SA_INIT, SA_INIT, AUTH, AUTH, INFORMATIONAL, INFORMATIONAL]
    assert ike_wire.INITIAL_CONTACT in seen[2]["notifies"]
    assert ike_wire.PAYLOAD_DELETE in seen[4]["payloads"]


def test_refusals_are_seen(pair):
    both(pair)
    pair.right.load(pair.connection(2, psk="another key"))
    since = pair.right.mark()
    with pytest.raises(ViciRefused):
        pair.left.initiate("net")
    pair.right.said("tried 1 shared key for .* but MAC mismatched", since)


@pytest.mark.alone
def test_stream_while_rekeying(pair):
    both(pair)
    pair.left.initiate("net")
    pair.left.deep_buffers()
    pair.right.deep_buffers()
    with pair.capture("udp port 4500 and udp[8:4] = 0") as capture, pair.right.watching("child-rekey", "ike-rekey") as events:
        stream = pair.stream()
        stream.more(5000)
        pair.left.rekey(child="c")
        assert events.next_event(5)[0] == "child-rekey"
        stream.more(5000)
        pair.left.rekey(ike="net")
        assert events.next_event(5)[0] == "ike-rekey"
        stream.more(10000)
        got = stream.finish()
        wire = ike_wire.read(capture.frames())
    assert len(wire.exchanges(CREATE_CHILD)) == 2
    assert got["send_seconds"] * 20000 < got["sent"] * 1.05, "the rate was held"
    assert got["lost"] == got["wrong"] == got["duplicate"] == 0 and got["sent"] > 20000


def test_a_stream_that_loses_says_so(pair):
    """The same stream over an SA that is taken away for a while."""
    both(pair)
    pair.left.initiate("net")
    stream = pair.stream(rate=2000)
    stream.more(100)
    with pair.lost(pair.n2, "udp dport 4500 udp length > 150") as dropped:
        wait_until(lambda: dropped() >= 20, 5, "packets are dropped")
    stream.more(100)
    got = stream.finish()
    assert got["lost"] == got["missing_between"] >= 20 and got["missing_runs"] == 1


@pytest.mark.parametrize("nat", ["left", "right"])
def test_nat_is_between(nat, scratch):
    with SwanPair(scratch, nat=nat) as made:
        both(made)
        inner, outer = (made.left, made.right) if nat == "left" else (made.right, made.left)
        with made.capture() as capture:
            inner.initiate("net")
            made.ping_both()
            wire = ike_wire.read(capture.frames())
        wire.assert_protected(8)
        assert outer.sas()[0]["remote-port"] != "4500", "the NAT moves ports"
