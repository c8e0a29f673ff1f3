"""Signatures with a scripted peer: what we sign by where it takes one hash alone (RFC 7427 4), and issuers that are no CAs, whose
certificates strongSwan would not send."""
import pytest

import pki
from certificate_lab import OURS, THEIRS
from ike_documents import children, diagnosis, gateway_document, ike_sas
from ike_lab import IkeLab, PSK
from ike_script import AUTH_PAYLOAD, ESP, TSI, TSR, body, notifies, proposal, selectors
from ike_signature_script import CERT, SigningInitiator, SigningResponder, hashes_said, verified
from lab import OUT4
from netns import wait_until

SUITE = {"flows": ("map4",), "ike": "aes128-sha256-x25519", "esp": "aes128gcm16"}
NAME = b"\x02\0\0\0" + THEIRS.encode()
AUTHENTICATION_FAILED = 24
NETWORKS = selectors(("10.2.0.0", "10.2.255.255")), selectors(("10.1.0.0", "10.1.255.255"))
CHILD = [proposal(ESP, b"\1\2\3\4", [(1, 20, 128), (5, 0, 0)]), (TSI, NETWORKS[0]), (TSR, NETWORKS[1])]


class SignatureLab(IkeLab):
    def __init__(self, scratch):
        super().__init__(scratch)
        self.ca, self.files, self.count = pki.Authority("Test CA"), scratch / "pki", 0
        self.files.mkdir()
        self.ours = {kind: self.ca.issue("left", [OURS], kind) for kind in ("rsa", "ecdsa256")}
        try:
            self.left = self.node(1, self.document("rsa"))
            self.left.start()
        except BaseException:
            self.close()
            raise

    def document(self, kind: str, remote: str = "pre-share", **profile) -> dict:
        """We sign by the key of that kind; the peer proves itself by `remote`."""
        self.count += 1
        certificate, key = self.ours[kind].write(self.files, f"left{self.count}")
        made = gateway_document(1, **SUITE, local_id=OURS, profile={
            "pki_trustpoints": ["TP"], "authentication": {"local": {"method": "signature"}, "remote": {"method": remote}}, **profile})
        made["pki"] = {"trustpoints": [{"name": "TP", "ca_certificates": [self.ca.write(self.files, f"ca{self.count}")[0]], "certificate": certificate,
                                        "key": {"file": key}}]}
        return made

    def fresh(self, *words, **options) -> None:
        self.left.postern("clear", "crypto", "session")
        self.left.apply(self.document(*words, **options))


@pytest.fixture(scope="module")
def world(module_scratch):
    with SignatureLab(module_scratch) as made:
        yield made


@pytest.mark.parametrize("number", [3, 4], ids=["SHA-384", "SHA-512"])
@pytest.mark.parametrize("kind,algorithm", [("rsa", "pss"), ("rsa", "rsa"), ("ecdsa256", "ecdsa")], ids=["PSS", "PKCS1", "ECDSA"])
def test_we_sign_by_the_one_hash_that_the_peer_takes(world, kind, algorithm, number):
    world.fresh(kind, **({"rsa_padding": "pkcs1"} if algorithm == "rsa" else {}))
    with SigningInitiator(world.n2, OUT4[2], OUT4[1], PSK) as peer:
        peer.begin([hashes_said(number)])
        said = peer.exchange(peer.proof(*NETWORKS))
        verified(body(said, CERT)[1:], body(said, AUTH_PAYLOAD), algorithm, number, peer.node_signed(said))
    words = {"pss": "RSA-PSS", "rsa": "RSA", "ecdsa": "ECDSA"}[algorithm] + (" with SHA-384" if number == 3 else " with SHA-512")
    assert ike_sas(world.left)[0]["auth_sign"] == words


def test_we_sign_by_no_hash_that_the_peer_does_not_take(world):
    """SHA-1 alone: the peer is told that it is not to be, and the diagnosis names what it takes."""
    world.fresh("rsa")
    with SigningInitiator(world.n2, OUT4[2], OUT4[1], PSK) as peer:
        peer.begin([hashes_said(1)])
        assert AUTHENTICATION_FAILED in notifies(peer.exchange(peer.proof(*NETWORKS)))
    wait_until(lambda: any("accepts no hash that we sign with" in row["summary"] for row in diagnosis(world.left, OUT4[2])), 8, "the diagnosis")
    assert not ike_sas(world.left)


# -- RFC 5280 4.2.1.9, 6.1.4 (k)

def not_believed(world, role: str) -> None:
    wait_until(lambda: [row for row in diagnosis(world.left, OUT4[2]) if row["failure"] == "certificate" and row["role"] == role], 8, "the diagnosis")
    row = next(row for row in diagnosis(world.left, OUT4[2]) if row["failure"] == "certificate" and row["role"] == role)
    assert "CN=No CA" in row["summary"] and "may not issue certificates here" in row["summary"] and "invalid CA" in row["differs"], row
    assert not ike_sas(world.left) and not children(world.left)


@pytest.mark.parametrize("believed", [True, False], ids=["a CA", "no CA"])
def test_an_issuer_that_is_no_ca_as_responder(world, believed):
    between = pki.Authority("A CA" if believed else "No CA", world.ca, ca=believed)
    world.fresh("ecdsa256", "signature")
    with SigningInitiator(world.n2, OUT4[2], OUT4[1]) as peer:
        peer.begin([hashes_said(2)])
        said = peer.prove(NAME, between.issue("right", [THEIRS]), [between], CHILD)
        if believed:
            assert body(said, CERT) and len(ike_sas(world.left)) == 1
            return
        assert list(notifies(said)) == [AUTHENTICATION_FAILED]
    not_believed(world, "responder")


def test_an_issuer_that_is_no_ca_as_initiator(world):
    between = pki.Authority("No CA", world.ca, ca=False)
    world.fresh("ecdsa256", "signature")
    with SigningResponder(world.n2, OUT4[2], PSK) as peer:
        world.ping("map4", 1, wait=0.2)
        peer.answer_init([hashes_said(2)])
        peer.prove(NAME, between.issue("right", [THEIRS]), [between])
        assert list(notifies(peer.told())) == [AUTHENTICATION_FAILED]
    not_believed(world, "initiator")
