"""EAP-TLS with TLS 1.3 (RFC 9190), alone (RFC 5998), with a peer made of the RFCs and Python's TLS, in both roles. What ends the handshake
without the server's last word is not believed, nor is another key."""
import pytest

from certificate_lab import OURS, THEIRS
from eap_lab import Tls13Lab
from ike_documents import children, ike_sas
from ike_eap_script import FAILURE
from netns import wait_until


@pytest.fixture()
def world(scratch):
    with Tls13Lab(scratch) as made:
        yield made


def stands(world, eap_identity: str) -> None:
    wait_until(lambda: children(world.left), 5, "a child SA")
    sa = ike_sas(world.left)[0]
    assert (sa["auth_sign"], sa["auth_verify"], sa["eap_identity"]) == ("EAP-TLS", "EAP-TLS", eap_identity)


def test_we_are_the_user(world):
    with world.responder() as peer:
        peer.handshake()
        assert peer.delivered(peer.tls.says(b"\0")) == b"\0"
        peer.finish()
        stands(world, OURS)


def test_a_user_comes(world):
    with world.initiator() as peer:
        peer.begin()
        assert peer.tls.hears(peer.handshake()) == b"\0"
        peer.finish()
        stands(world, THEIRS)


def test_a_success_without_the_last_word_is_not_believed(world):
    """RFC 9190 2.1.1: the server has not said that it has taken the certificate."""
    with world.responder() as peer:
        peer.handshake()
        peer.end()
        world.refused("certificate", "Success before the method was through")


@pytest.mark.parametrize("word", [b"\x01", b"\0\0"], ids=["another", "more"])
def test_another_last_word_is_not_believed(world, word):
    with world.responder() as peer:
        peer.handshake()
        peer.delivered(peer.tls.says(word))
        peer.end(FAILURE)
        world.refused("certificate", "EAP-TLS")


def test_a_key_by_the_formula_of_tls_12_is_not_believed(world):
    with world.responder() as peer:
        peer.handshake()
        assert peer.delivered(peer.tls.says(b"\0")) == b"\0"
        peer.tls.msk = lambda: peer.tls.tls.get_channel_binding("tls-unique") or bytes(64)
        with pytest.raises(AssertionError):
            peer.finish()
        assert not children(world.left)


def test_a_server_of_another_ca(world):
    with world.responder(issuer=world.other) as peer:
        with pytest.raises(Exception, match="(?i)alert|unknown ca|certificate"):
            peer.handshake()
        peer.end(FAILURE)
        world.refused("certificate", "CN=right")


def test_a_server_that_is_another(world):
    with world.responder(names=(THEIRS,)) as peer:
        with pytest.raises(Exception, match="(?i)alert|certificate"):
            peer.handshake()
        peer.end(FAILURE)
        world.refused("certificate", "does not name")


@pytest.mark.parametrize("what, options, words", [("ca", {"issuer": True}, "CN=right"), ("name", {"names": ("bob.example.org",)}, "does not name")],
                         ids=["another-ca", "another-name"])
def test_a_user_who_is_not_believed(world, what, options, words):
    """The alert comes behind the handshake, then the Failure."""
    with world.initiator(**({"issuer": world.other} if what == "ca" else options)) as peer:
        peer.begin()
        records = peer.handshake()
        with pytest.raises(Exception, match="(?i)alert"):
            peer.tls.hears(records)
        peer.swap(b"\0")
        assert peer.ended == FAILURE
        world.refused("certificate", words)
