"""Quick crash detection (RFC 6290). strongSwan knows nothing of it, but reads and logs what it is told: a node's token, which the node
shows again after its restart. The other half, a node whose peer has lost the IKE SA, has a peer made of the RFC (ike_script.py)."""
import pytest

import ike_wire
from ike_documents import children, gateway_document, ike_sas, wait_up
from ike_lab import PSK, IkeLab
from ike_pairs import SwanLab, ike_pid
from ike_script import CREATE_CHILD, INFORMATIONAL, INVALID_IKE_SPI, QCD_TOKEN, ScriptedResponder, notifies, notify, opened
from lab import OUT4
from netns import wait_until

SUITE = {"ike": "aes128-sha256-x25519", "esp": "aes128gcm16"}


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch, flows=("map4",), right={"log": {"ike": 4}}) as made:
        yield made


def token_told(world, capture) -> bytes | None:
    """That strongSwan was told in IKE_AUTH, opened by the keys that its log has."""
    keys = {name: bytes.fromhex(value) for name, value in ike_wire.secrets_of(world.peer.log())[-1].items()}
    (answer,) = ike_wire.read(capture.frames()).exchanges(ike_wire.AUTH, response=True)
    return notifies(opened(answer.data, keys["er"], keys["ar"])).get(QCD_TOKEN)


@pytest.mark.parametrize("what", ("postern-ike", "the whole node"))
def test_a_restarted_node_shows_the_token_that_it_gave(world, what):
    world.configure(**SUITE, swan={"more": {"unique": "never"}})  # it keeps the old IKE SA beside a new one
    with world.capture() as capture:
        sa = world.up("strongswan")
        told = token_told(world, capture)
    assert told and len(told) == 32
    with world.capture() as capture:
        mark = world.peer.mark()
        if what != "postern-ike":
            world.left.kill_daemon()
        killed = world.kill_ike()
        assert world.peer.rekey(**{"ike-id": sa["uniqueid"]}) == 1, "strongSwan asks something, until it is answered"
        if what != "postern-ike":
            world.left.start()
        wait_until(lambda: ike_pid(world.left) != killed, 10, "it is back")
        world.peer.said("NOTIFY was not encrypted", mark, 10)  # the answer has come: strongSwan does not believe it
        answers = [one for one in ike_wire.read(capture.frames()).ike if INVALID_IKE_SPI in one.notifies()]
    assert answers and all(one.response and one.notifies()[QCD_TOKEN] == told for one in answers)
    assert {one.exchange for one in answers} <= {CREATE_CHILD, INFORMATIONAL}


def test_a_node_that_shall_not_gives_and_shows_none(world):
    world.configure(**SUITE, quick_crash_detection=False, swan={"more": {"unique": "never"}})
    with world.capture() as capture:
        sa = world.up("strongswan")
        assert token_told(world, capture) is None
    with world.capture() as capture:
        mark = world.peer.mark()
        world.kill_ike()
        assert world.peer.rekey(**{"ike-id": sa["uniqueid"]}) == 1
        world.peer.said("NOTIFY was not encrypted", mark, 10)
        answers = [one for one in ike_wire.read(capture.frames()).ike if INVALID_IKE_SPI in one.notifies()]
    assert answers and not any(QCD_TOKEN in one.notifies() for one in answers)


# -- the peer has lost it

@pytest.fixture(scope="module")
def scripted(module_scratch):
    with IkeLab(module_scratch / "scripted") as made:
        made.left = made.node(1, gateway_document(1, flows=("map4",), **SUITE, profile={"dpd": {"mode": "periodic", "interval": 10, "retry": 2}}))
        made.left.start()
        yield made


@pytest.mark.parametrize("shown, believed", (("right", True), ("wrong", False), ("none", False), ("without INVALID_IKE_SPI", False)))
def test_a_peer_that_shows_its_token_is_believed(scripted, shown, believed):
    token = bytes(range(40))
    with ScriptedResponder(scripted.n2, OUT4[2], PSK) as peer:
        scripted.ping("map4", 1, wait=0.2)
        peer.answer_init()
        said = peer.answer_auth([notify(QCD_TOKEN, token)])
        assert 16 <= len(notifies(said)[QCD_TOKEN]) <= 128
        wait_up(scripted.left)
        scripted.left.postern("crypto", "session", "rekey")
        request = peer.receive(CREATE_CHILD)
        answer = {"right": [notify(INVALID_IKE_SPI), notify(QCD_TOKEN, token)], "none": [notify(INVALID_IKE_SPI)],
                  "wrong": [notify(INVALID_IKE_SPI), notify(QCD_TOKEN, token[::-1])], "without INVALID_IKE_SPI": [notify(QCD_TOKEN, token)]}
        message_id = int.from_bytes(request[20:24], "big")
        peer.send(peer.plain(CREATE_CHILD, message_id, answer[shown]))
        if not believed:
            assert peer.receive(CREATE_CHILD) == request, "it still waits for an answer"
            assert len(children(scripted.left)) == 1
            peer.send(peer.plain(CREATE_CHILD, message_id, answer["right"]))
        wait_until(lambda: not ike_sas(scripted.left), 2, "the node knows that the IKE SA is gone")
