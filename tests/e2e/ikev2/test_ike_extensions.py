"""Extensions of IKEv2 with strongSwan, in both roles: fragments over a narrow path (RFC 7383), MOBIKE (RFC 4555), windows."""
import contextlib

import ike_wire
import pytest
from scapy.layers.inet import IP

from ike_documents import ike_sas
from ike_pairs import SwanLab
from ike_wire import AUTH
from lab import OUT4
from mobile import Mobile
from netns import wait_until

# What fills packets: identities, and more proposals than anybody needs, which make strongSwan's request longer than the path.
OUR_ID, THEIR_ID = "o" * 240, "t" * 240
MANY = [f"{cipher}-{hash}" for cipher in ("aes128", "aes192", "aes256", "aes128ctr", "aes192ctr", "aes256ctr") for hash in ("sha256", "sha384", "sha512", "sha1")]
SMALL = 576


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch, flows=("map4",), right={"options": {"fragment_size": 1280}}) as made:
        yield made


def large(world, **document):
    """Both sides afresh, with identities that make IKE_AUTH long."""
    profile = {"identity_local": {"key_id": OUR_ID}, "match": {"identity_remote": [{"key_id": THEIR_ID}]}}
    world.configure(ike="aes128-sha256-x25519", esp="aes128-sha256", profile=profile, **document,
                    swan={"local_id": f"keyid:{THEIR_ID}", "remote_id": f"keyid:{OUR_ID}", "esp_proposals": [*MANY, "aes128-sha256"]})


def sizes(wire, source: str) -> list[int]:
    """Of IKE_AUTH's datagrams from there, as IP packets."""
    return [len(message.data) + 28 + 4 for message in wire.ike if message.exchange == AUTH and message.source == source]


def narrow(world, mtu: int):
    """To neither gateway comes an IKE message in a longer packet, nor one in IP fragments."""
    stack = contextlib.ExitStack()
    for where, source in ((world.n1, OUT4[2]), (world.n2, OUT4[1])):
        stack.enter_context(world.lost(where, f"ip saddr {source} udp dport 4500 meta length > {mtu}", f"ip saddr {source} ip frag-off & 0x3fff != 0"))
    return stack


@pytest.mark.parametrize("by", ("postern", "strongswan"))
def test_large_messages_over_a_path_of_1280_bytes(world, by):
    """IKE-44: with fragments they pass, in both directions; strongSwan reassembles ours and we its."""
    large(world, fragmentation_mtu=SMALL)
    with narrow(world, 1280), world.capture("udp port 4500") as capture:
        world.up(by)
        world.ping_both()
        wire = ike_wire.read(capture.frames())
    assert ike_sas(world.left)[0]["fragmentation"]
    theirs, ours = sizes(wire, OUT4[2]), sizes(wire, OUT4[1])
    assert max(theirs) <= 1280 and max(ours) <= SMALL, (theirs, ours)
    assert len(ours if by == "postern" else theirs) > 1
    world.down()


@pytest.mark.parametrize("by", ("postern", "strongswan"))
def test_a_lost_fragment_is_sent_again(world, by):
    """RFC 7383 2.5.3: the whole message, fragments and all, is retransmitted."""
    large(world, fragmentation_mtu=SMALL)
    with world.lost(world.n1, f"ip saddr {OUT4[2]} udp dport 4500 meta length 1000-1400 limit rate 1/hour burst 1 packets"):
        if by == "postern":
            world.ping(count=1, wait=8)
        else:
            world.peer.initiate("net", seconds=15)
        world.peer.wait_child(1, seconds=15)
    world.ping_both()
    world.down()


@pytest.fixture
def short_link(world):
    """What strongSwan's IKE does not cut, its kernel cuts."""
    world.n2.ip("link", "set", "out0", "mtu", 1280)
    yield
    world.n2.ip("link", "set", "out0", "mtu", 1500)


def ip_fragments(capture) -> int:
    return sum(1 for frame in capture.frames() if IP in frame and frame[IP].src == OUT4[2] and (frame[IP].flags.MF or frame[IP].frag))


def test_without_fragments_the_same_messages_do_not_pass(world, short_link):
    """IKE-44: they leave in IP fragments, which the path does not let pass; where it does, the IKE SA comes up all the same."""
    large(world, fragmentation_mtu=0)
    with narrow(world, 1280), world.capture("udp port 4500 or ip[6:2] & 0x3fff != 0") as capture:
        assert not world.peer.initiate("net", seconds=5, check=False)
        assert not ike_sas(world.left)
        assert ip_fragments(capture) >= 2
        world.down()
    with world.capture("udp port 4500 or ip[6:2] & 0x3fff != 0") as capture:
        assert world.peer.initiate("net")
        assert ip_fragments(capture) >= 2
    assert not ike_sas(world.left)[0]["fragmentation"]
    world.down()


def test_with_fragments_there_are_none_of_ip(world, short_link):
    large(world, fragmentation_mtu=SMALL)
    with world.capture("udp port 4500 or ip[6:2] & 0x3fff != 0") as capture:
        assert world.peer.initiate("net")
        assert ip_fragments(capture) == 0
    assert ike_sas(world.left)[0]["fragmentation"]
    world.down()


def test_windows_are_told(world):
    """IKE-45: strongSwan says nothing, which is a window of one; ours is as configured."""
    large(world, window=7)
    world.up("postern")
    assert ike_sas(world.left)[0]["window"] == {"local": 7, "remote": 1}
    world.down()


@pytest.mark.parametrize("family, mobike", ((4, True), (4, False), (6, True)))
def test_strongswan_moves_under_ping(world, family, mobike):
    """RFC 4555: its SAs go on at the new address, without a new negotiation; without MOBIKE they do not."""
    flow, away = f"map{family}", Mobile.AWAY[family]
    world.configure(ike="aes128-sha256-x25519", esp="aes128-sha256", mobike=mobike, flows=(flow,),
                    swan={"flow": flow, "family": family, "more": {"mobike": "yes", "local_addrs": [world.outer(2, family), away]}})
    with Mobile(world, family) as mobile:
        world.up("strongswan")
        world.ping_both(flow)
        before = ike_sas(world.left)[0]
        assert before["mobike"] is mobike
        mobile.leave()
        if mobike:
            wait_until(lambda: ike_sas(world.left) and ike_sas(world.left)[0]["remote"] == away, 15, "Postern follows")
            wait_until(lambda: world.ping(flow, 1) == 1, 10, "packets reach the new place")
            world.ping_both(flow)
            after = ike_sas(world.left)[0]
            assert (after["local_spi"], after["remote_spi"]) == (before["local_spi"], before["remote_spi"])
        else:
            assert world.ping(flow, 2, wait=1) == 0
    world.down()
