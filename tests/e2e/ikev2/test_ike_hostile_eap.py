"""EAP with a scripted peer that knows the method and breaks it: what a user replays, with the right password and without, and what a server with
a good certificate may try with a user. Each time the exact answer, and nothing of the IKE SA is left."""
import pytest

import pki
from certificate_lab import OURS, THEIRS
from ike_documents import children, diagnosis, gateway_document, ike_sas
from ike_eap_script import EAP, FAILURE, REQUEST, RESPONSE, SUCCESS
from ike_lab import IkeLab
from ike_mschap_script import ANSWER, CHALLENGE, FAILED, IDENTITY, MD5, MSCHAPV2, NAK, SUCCEEDED, ServerScript, UserScript, mschap, packet
from ike_script import AUTH_PAYLOAD, body, notifies, selectors
from lab import OUT4
from netns import wait_until

ALICE, PASSWORD = "alice@example.org", "Grün und 8 Wörter"
NETWORKS = selectors(("10.2.0.0", "10.2.255.255")), selectors(("10.1.0.0", "10.1.255.255"))
NAME = b"\x02\0\0\0" + THEIRS.encode()
AUTHENTICATION_FAILED, GTC, ROUNDS = 24, 6, 100
SERVER = {"local": {"method": "signature"}, "remote": {"method": "eap", "eap": {"methods": ["mschapv2"], "query_identity": True}}}
USER = {"local": {"method": "eap", "eap": {"methods": ["mschapv2"], "identity": ALICE, "password": PASSWORD}}, "remote": {"method": "signature"}}


class HostileLab(IkeLab):
    def __init__(self, scratch):
        super().__init__(scratch)
        self.ca, files = pki.Authority("Test CA"), scratch / "pki"
        files.mkdir()
        self.theirs = self.ca.issue("right", [THEIRS])
        certificate, key = self.ca.issue("left", [OURS]).write(files, "left")
        self.pki = {"trustpoints": [{"name": "TP", "ca_certificates": [self.ca.write(files, "ca")[0]], "certificate": certificate, "key": {"file": key}}]}
        try:
            self.left = self.node(1, self.document(SERVER, eap_users=[{"name": ALICE, "password": PASSWORD}]))
            self.left.start()
        except BaseException:
            self.close()
            raise

    def document(self, authentication: dict, **section) -> dict:
        made = gateway_document(1, flows=("map4",), ike="aes128-sha256-x25519", esp="aes128gcm16", local_id=OURS,
                                profile={"pki_trustpoints": ["TP"], "authentication": authentication}, **section)
        return {**made, "pki": self.pki}

    def told(self, role: str, failure: str, words: str) -> None:
        """The diagnosis says it, and nothing is left."""
        wait_until(lambda: any((row["role"], row["failure"]) == (role, failure) and words in row["summary"] for row in diagnosis(self.left, OUT4[2])), 8,
                   f"{failure}, {words}: {diagnosis(self.left, OUT4[2])}")
        assert not ike_sas(self.left) and not children(self.left)


@pytest.fixture(scope="module")
def server(module_scratch):
    with HostileLab(module_scratch) as made:
        yield made


@pytest.fixture(scope="module")
def user(server):
    server.left.apply(server.document(USER))
    return server


@pytest.fixture
def peer(server):
    server.left.postern("clear", "crypto", "session")
    with UserScript(server.n2, OUT4[2], OUT4[1]) as made:
        yield made


# -- the node is the server

def refused(said: bytes) -> bool:
    return said[0] == FAILURE and len(said) == 4


def test_a_good_answer_said_twice(server, peer):
    """The same message again, which is a retransmission: the same answer. The method goes on behind it."""
    asked = peer.challenged(NAME, NETWORKS, ALICE)
    message = peer.sealer().seal([packet(RESPONSE, asked[1], MSCHAPV2, peer.answer(asked, ALICE, PASSWORD))])
    first = peer.asked(message)
    assert peer.asked(message) == first
    said = body(peer.open(first), EAP)
    assert said[0] == REQUEST and said[4:6] == bytes([MSCHAPV2, SUCCEEDED])
    assert peer.says(said[1], MSCHAPV2, bytes([SUCCEEDED]))[0] == SUCCESS
    assert not ike_sas(server.left), "AUTH is still to come"


@pytest.mark.parametrize("fitted", [False, True], ids=["as it was", "with the new number"])
def test_a_good_answer_replayed_in_the_same_ike_sa(server, peer, fitted):
    """Under a new message ID, where the node awaits what follows: an EAP Failure, and what comes behind is for nobody."""
    asked = peer.challenged(NAME, NETWORKS, ALICE)
    answer = peer.answer(asked, ALICE, PASSWORD)
    said = peer.says(asked[1], MSCHAPV2, answer)
    assert said[4:6] == bytes([MSCHAPV2, SUCCEEDED])
    assert refused(peer.says(said[1] if fitted else asked[1], MSCHAPV2, answer))
    server.told("responder", "invalid_syntax", "out of its turn" if fitted else "answers no request of ours")


def test_a_good_answer_replayed_after_success(server, peer):
    asked = peer.challenged(NAME, NETWORKS, ALICE)
    answer = peer.answer(asked, ALICE, PASSWORD)
    said = peer.says(asked[1], MSCHAPV2, answer)
    said = peer.says(said[1], MSCHAPV2, bytes([SUCCEEDED]))
    assert said[0] == SUCCESS
    assert list(notifies(peer.exchange([packet(RESPONSE, asked[1], MSCHAPV2, answer)]))) == [AUTHENTICATION_FAILED]
    server.told("responder", "invalid_syntax", "does not end EAP by AUTH")


def test_a_good_answer_replayed_in_another_ike_sa(server, peer):
    """With numbers that fit: it is of another challenge, and so it is a wrong password."""
    answer = peer.answer(peer.challenged(NAME, NETWORKS, ALICE), ALICE, PASSWORD)
    peer.next_id = 0
    asked = peer.challenged(NAME, NETWORKS, ALICE)
    said = peer.says(asked[1], MSCHAPV2, answer[:1] + asked[6:7] + answer[2:])
    assert said[4:6] == bytes([MSCHAPV2, FAILED]) and b"E=691 R=0" in said
    assert refused(peer.says(said[1], MSCHAPV2, bytes([FAILED])))
    server.told("responder", "wrong_password", ALICE)


def test_a_challenge_answered_by_another_users_name(server, peer):
    asked = peer.challenged(NAME, NETWORKS, "bob")
    assert refused(peer.says(asked[1], MSCHAPV2, peer.answer(asked, ALICE, PASSWORD)))
    server.told("responder", "invalid_syntax", "names in EAP-Identity and EAP-MSCHAPv2 differ")


# -- the node is the user

class Server(ServerScript):
    def __init__(self, world, *first):
        """Which begins by that EAP packet, behind AUTH by its certificate."""
        world.left.postern("clear", "crypto", "session")
        super().__init__(world.n2, OUT4[2], "")
        world.ping("map4", 1, wait=0.2)
        self.begins(NAME, world.theirs, *first)


def given_up(world, peer: Server, failure: str, words: str) -> None:
    """The node tells the server, once, and says nothing more."""
    assert list(notifies(peer.told())) == [AUTHENTICATION_FAILED]
    world.told("initiator", failure, words)


@pytest.mark.parametrize("after", [0, 1, 2], ids=["before anything", "after the identity", "after the challenge"])
def test_success_before_authentication(user, after):
    """A server with a good certificate that would do without the password: no AUTH of ours."""
    with Server(user, *((SUCCESS, 1) if after == 0 else (REQUEST, 1, IDENTITY))) as peer:
        if after:
            assert peer.heard()[5:] == ALICE.encode()
        if after == 2:
            peer.says(REQUEST, 2, MSCHAPV2, mschap(CHALLENGE, 2, b"\x10" + bytes(16) + b"server"))
            assert peer.heard()[4:6] == bytes([MSCHAPV2, ANSWER])
        if after:
            peer.says(SUCCESS, after)
        given_up(user, peer, "wrong_password", "Success before the method was through")


def test_a_server_that_does_not_know_the_password(user):
    with Server(user, REQUEST, 1, MSCHAPV2, mschap(CHALLENGE, 1, b"\x10" + bytes(16) + b"server")) as peer:
        assert peer.heard()[4:6] == bytes([MSCHAPV2, ANSWER])
        peer.says(REQUEST, 2, MSCHAPV2, mschap(SUCCEEDED, 1, b"S=" + b"0" * 40 + b" M=OK"))
        given_up(user, peer, "wrong_password", "does not know the password")


@pytest.mark.parametrize("kind,data", [(MD5, b"\x10" + bytes(16)), (GTC, b"Password: "), (13, b"\x20")], ids=["MD5", "GTC", "TLS"])
def test_a_method_that_nobody_asked_for(user, kind, data):
    """A Nak that names ours, however often, and no word of the password; a Success then is nobody's word either."""
    with Server(user, REQUEST, 1, kind, data) as peer:
        for number in (1, 2, 3):
            assert peer.heard() == bytes([RESPONSE, number, 0, 6, NAK, MSCHAPV2])
            if number < 3:
                peer.says(REQUEST, number + 1, kind, data)
        peer.says(SUCCESS, 3)
        given_up(user, peer, "wrong_password", "Success before the method was through")


def test_a_method_beside_the_one_that_began(user):
    with Server(user, REQUEST, 1, MSCHAPV2, mschap(CHALLENGE, 1, b"\x10" + bytes(16) + b"server")) as peer:
        peer.heard()
        peer.says(REQUEST, 2, MD5, b"\x10" + bytes(16))
        given_up(user, peer, "invalid_syntax", "a request of EAP-MD5")


def test_the_same_request_under_a_new_message_id(user):
    with Server(user, REQUEST, 1, MSCHAPV2, mschap(CHALLENGE, 1, b"\x10" + bytes(16) + b"server")) as peer:
        peer.heard()
        peer.says(REQUEST, 1, MSCHAPV2, mschap(CHALLENGE, 1, b"\x10" + bytes(16) + b"server"))
        given_up(user, peer, "invalid_syntax", "the same EAP request again")


def test_an_identity_asked_for_without_an_end(user):
    """A hundred times it is told; then it is enough."""
    with Server(user, REQUEST, 0, IDENTITY) as peer:
        for number in range(1, ROUNDS):
            assert peer.heard()[4:] == bytes([IDENTITY]) + ALICE.encode()
            peer.says(REQUEST, number, IDENTITY)
        assert peer.heard()[1] == ROUNDS - 1
        peer.says(REQUEST, ROUNDS, IDENTITY)
        given_up(user, peer, "invalid_syntax", "too many rounds")


def test_auth_instead_of_the_rest_of_eap(user):
    """IKE's AUTH, made of SK_pr as where a method makes no key: without EAP behind it, it proves nothing."""
    with Server(user, REQUEST, 1, IDENTITY) as peer:
        peer.heard()
        peer.reply([(AUTH_PAYLOAD, b"\x02\0\0\0" + bytes(32))])
        assert list(notifies(peer.told())) == [AUTHENTICATION_FAILED]
    assert not ike_sas(user.left) and not children(user.left)
