"""EAP-TLS (RFC 5216) against strongSwan in both roles, beside a certificate in IKE and alone (RFC 5998); and what must not be believed."""
import pytest

import pki
from certificate_lab import CERTIFICATES, OURS, THEIRS, CertificateLab, refused
from ike_documents import ike_sas
from strongswan import PLUGINS

ALONE = pytest.mark.parametrize("alone", [False, True], ids=["beside-a-certificate", "alone"])


class EapTlsLab(CertificateLab):
    def __init__(self, scratch):
        super().__init__(scratch, right={"plugins": f"{CERTIFICATES} eap-identity eap-tls {PLUGINS}"})

    def user_comes(self, theirs: pki.Credential, alone: bool = False, name: str = THEIRS, query: bool = True) -> None:
        swan = self.swan_ends(theirs)
        swan["more"]["local"] |= {"auth": "eap-tls", "eap_id": name}
        if alone:
            swan["more"]["remote"]["auth"] = "eap-tls"
        local = {"method": "eap", "eap": {"methods": ["tls"], "identity": OURS}} if alone else {"method": "signature"}
        self.configure(swan=swan, profile={"authentication": {
            "local": local, "remote": {"method": "eap", "eap": {"methods": ["tls"], "query_identity": query}}}})

    def we_come(self, theirs: pki.Credential, alone: bool = False, **document) -> None:
        swan = self.swan_ends(theirs)
        swan["more"]["remote"] |= {"auth": "eap-tls", "eap_id": "%any"}
        if alone:
            swan["more"]["local"]["auth"] = "eap-tls"
        remote = {"method": "eap", "eap": {"methods": ["tls"]}} if alone else {"method": "signature"}
        self.configure(swan=swan, profile={"authentication": {
            "local": {"method": "eap", "eap": {"methods": ["tls"], "identity": OURS}}, "remote": remote}}, **document)


@pytest.fixture(scope="module")
def world(module_scratch):
    with EapTlsLab(module_scratch) as made:
        yield made


def methods(world) -> tuple[str, str, str]:
    sa = ike_sas(world.left)[0]
    return sa["auth_sign"], sa["auth_verify"], sa["eap_identity"]


@ALONE
def test_a_user_comes(world, alone):
    world.user_comes(world.ca.issue("right", [THEIRS]), alone)
    world.up("strongswan")
    world.ping_both()
    assert methods(world) == ("EAP-TLS" if alone else "ECDSA with SHA-256", "EAP-TLS", THEIRS)


@ALONE
def test_we_are_the_user(world, alone):
    world.we_come(world.ca.issue("right", [THEIRS]), alone)
    world.up("postern")
    world.ping_both()
    assert methods(world) == ("EAP-TLS", "EAP-TLS" if alone else "ECDSA with SHA-256", OURS)


def test_a_user_whose_certificate_names_another(world):
    world.user_comes(world.ca.issue("right", [THEIRS]), name="somebody@example.org")
    assert world.peer.initiate("net", check=False) is False
    refused(world, "strongswan", "certificate")


def test_a_user_of_another_ca(world):
    world.user_comes(pki.Authority("Another CA").issue("right", [THEIRS]))
    row = refused(world, "strongswan", "certificate")
    assert "right" in row["summary"]


def test_a_server_of_another_ca_alone(world):
    """Nothing but EAP proves the server."""
    other = pki.Authority("Another CA")
    world.we_come(other.issue("right", [THEIRS]), alone=True)
    row = refused(world, "postern", "certificate")
    assert "right" in row["summary"]


def test_a_server_that_is_another_alone(world):
    world.we_come(world.ca.issue("right", ["somebody.example.org"]), alone=True)
    refused(world, "postern", "certificate")
