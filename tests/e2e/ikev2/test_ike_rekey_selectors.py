"""IKE-48, RFC 7296 2.9.2: a rekey is for the selectors that the SA has. A peer that asks for others, or answers with less, is made of the RFC
(ike_script.py), because strongSwan does neither. Whatever it does, the SA that there is goes on."""
import os
import struct

import pytest

import ike_script
import lab
from ike_documents import children, diagnosis, gateway_document, wait_up
from ike_lab import PSK, IkeLab
from ike_script import (CREATE_CHILD, DELETE, ESP, INFORMATIONAL, NONCE, SA, TS_UNACCEPTABLE, TSI, TSR, ScriptedResponder, notifies, proposal,
                        rekey_of, selectors)
from ike_wire import read
from netns import wait_until

SUITE = {"ike": "aes128-sha256-x25519", "esp": "aes128gcm16"}
NEAR, FAR = ("10.1.0.0", "10.1.255.255"), ("10.2.0.0", "10.2.255.255")
LESS = ("10.2.0.0", "10.2.127.255")
OTHERS = {"a part": (LESS, NEAR), "another network": (("10.9.0.0", "10.9.255.255"), NEAR), "less of ours": (FAR, ("10.1.0.0", "10.1.0.255"))}


@pytest.fixture
def scripted(tmp_path):
    """The volume lifetime is over after 2.5 MB; the SA is rekeyed before."""
    with IkeLab(tmp_path) as made:
        made.left = made.node(1, gateway_document(1, flows=("map4",), association={"lifetime_kilobytes": 2560}, **SUITE))
        made.left.start()
        yield made


def established(scripted, peer) -> dict:
    scripted.ping("map4", 1, wait=0.2)
    peer.answer_init()
    peer.answer_auth()
    return wait_up(scripted.left)[0]


def used(scripted) -> set[int]:
    """SPIs that packets leave in."""
    with scripted.capture("esp") as capture:
        scripted.ping("map4", 2, wait=0.2)
        return {spi for source, _, spi, _ in read(capture.frames()).esp if source == lab.OUT4[1]}


@pytest.mark.parametrize("asked", OTHERS)
def test_a_rekey_for_other_selectors_is_refused(scripted, asked):
    with ScriptedResponder(scripted.n2, lab.OUT4[2], PSK) as peer:
        old = established(scripted, peer)

        def rekey(theirs: tuple, ours: tuple) -> list:
            return peer.ask(CREATE_CHILD, [rekey_of(old["esp_spi_out"]), proposal(ESP, os.urandom(4), [(1, 20, 128), (5, 0, 0)]),
                                           (NONCE, os.urandom(32)), (TSI, selectors(theirs)), (TSR, selectors(ours))])

        assert notifies(rekey(*OTHERS[asked])) == {TS_UNACCEPTABLE: b""}
        assert [one["esp_spi_in"] for one in children(scripted.left, lingering=True)] == [old["esp_spi_in"]]
        assert [one["failure"] for one in diagnosis(scripted.left)] == ["selectors"]
        assert used(scripted) == {int(old["esp_spi_out"], 16)}
        assert SA in [kind for kind, _ in rekey(FAR, NEAR)], "the same is taken"


def our_rekey(scripted, peer, **answer) -> list[tuple[int, bytes]]:
    """Traffic until the volume asks for it; what it said."""
    scripted.stream(rate=500, size=1200)
    said = peer.answer_child(seconds=20, **answer)
    scripted.end_streams()
    return said


def test_our_rekey_is_for_the_same_and_refused(scripted):
    with ScriptedResponder(scripted.n2, lab.OUT4[2], PSK) as peer:
        old = established(scripted, peer)
        said = our_rekey(scripted, peer, refused=TS_UNACCEPTABLE)
        assert rekey_of(old["esp_spi_in"]) in said
        assert [ike_script.ranges_of(ike_script.body(said, one)) for one in (TSI, TSR)] == [[NEAR], [FAR]]
        wait_until(lambda: [one["failure"] for one in diagnosis(scripted.left)] == ["selectors"], 3, "the diagnosis")
        assert [one["esp_spi_in"] for one in children(scripted.left)] == [old["esp_spi_in"]]
        assert used(scripted) == {int(old["esp_spi_out"], 16)}
        again = peer.answer_child(seconds=20)
        assert rekey_of(old["esp_spi_in"]) in again, "it is tried again later, and then taken"
        wait_until(lambda: [int(one["esp_spi_in"], 16) for one in children(scripted.left)] == [int.from_bytes(spi_of(again), "big")], 3, "the new SA")


def spi_of(said: list[tuple[int, bytes]]) -> bytes:
    return ike_script.body(said, SA)[8:12]


def test_an_answer_with_less_is_given_back(scripted):
    """The peer has an SA then: it is deleted, and packets never went into it."""
    with ScriptedResponder(scripted.n2, lab.OUT4[2], PSK) as peer:
        old = established(scripted, peer)
        said = our_rekey(scripted, peer, tsr=selectors(LESS))
        request = peer.receive(INFORMATIONAL)
        assert (DELETE, struct.pack("!BBH", ESP, 4, 1) + spi_of(said)) in peer.open(request)
        peer.send(peer.seal(INFORMATIONAL, int.from_bytes(request[20:24], "big"), []))
        assert [one["esp_spi_in"] for one in children(scripted.left)] == [old["esp_spi_in"]]
        assert [one["failure"] for one in diagnosis(scripted.left)] == ["selectors"]
        assert used(scripted) == {int(old["esp_spi_out"], 16)}
