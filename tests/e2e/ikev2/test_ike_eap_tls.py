"""EAP-TLS (RFC 5216) against strongSwan in both roles, beside a certificate in IKE and alone (RFC 5998); and what must not be believed.
strongSwan's is TLS 1.2; for TLS 1.3 (RFC 9190) see test_ike_eap_tls13.py."""
import re

import pytest

import pki
from certificate_lab import OURS, THEIRS, refused
from eap_lab import EapTlsLab
from ike_documents import diagnosis, gateway_document, ike_sas
from ike_pairs import PosternPair
from lab import OUT4, host
from traffic import ping_until

ALONE = pytest.mark.parametrize("alone", [False, True], ids=["beside-a-certificate", "alone"])
KINDS = pytest.mark.parametrize("kind", ["rsa", "ecdsa384"])


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
    mark = world.peer.mark()
    world.up("strongswan")
    world.ping_both()
    assert methods(world) == ("EAP-TLS" if alone else "ECDSA with SHA-256", "EAP-TLS", THEIRS)
    assert "CN=right" in ike_sas(world.left)[0]["remote_subject"]
    assert f"Remote EAP id: {THEIRS}" in world.left.postern("show", "crypto", "ikev2", "session", "detail").stdout
    assert "EAP_TLS" in world.peer.log()[mark:]


@ALONE
def test_we_are_the_user(world, alone):
    world.we_come(world.ca.issue("right", [THEIRS]), alone)
    world.up("postern")
    world.ping_both()
    assert methods(world) == ("EAP-TLS", "EAP-TLS" if alone else "ECDSA with SHA-256", OURS)


@KINDS
@pytest.mark.parametrize("by", ["postern", "strongswan"])
def test_keys_of_other_kinds_and_fragmented_messages(world, by, kind):
    """IKE's own fragments as well: what EAP leaves whole is larger than they may be."""
    theirs, ours = world.ca.issue("right", [THEIRS], kind), world.credential(kind)
    (world.we_come if by == "postern" else world.user_comes)(theirs, own=ours, fragmentation_mtu=576)
    world.up(by)
    world.ping_both()


def test_without_a_question_the_ike_identity_names_the_user(world):
    world.user_comes(world.ca.issue("right", [THEIRS]), query=False)
    world.up("strongswan")
    assert methods(world)[2] == THEIRS


def test_both_ends_rekey(world):
    world.user_comes(world.ca.issue("right", [THEIRS]), alone=True)
    world.up("strongswan")
    before = ike_sas(world.left)[0]["local_spi"]
    with world.peer.watching("ike-rekey") as events:
        assert world.peer.rekey(ike="net") == 1
        events.next_event(8)
    world.ping_both()
    sa = ike_sas(world.left)[0]
    assert sa["local_spi"] != before and sa["eap_identity"] == THEIRS


# -- refused

@ALONE
def test_a_user_whose_certificate_names_another(world, alone):
    """strongSwan takes its EAP identity for a pattern when it looks for its certificate. For us it is a name, which the certificate has not."""
    world.user_comes(world.ca.issue("right", [THEIRS]), alone, name="*.example.org")
    row = refused(world, "strongswan", "certificate")
    assert "does not name" in row["summary"] and row["said_by"] == "us"


@ALONE
def test_a_user_of_another_ca(world, alone):
    world.user_comes(pki.Authority("Another CA").issue("right", [THEIRS]), alone)
    row = refused(world, "strongswan", "certificate")
    assert "CN=right" in row["summary"] and row["said_by"] == "us"


def test_a_user_whose_certificate_has_expired(world):
    world.user_comes(world.ca.issue("right", [THEIRS], end=pki.NOW - pki.SECOND * 60))
    row = refused(world, "strongswan", "certificate")
    assert "CN=right" in row["summary"] and "expired" in row["summary"]


def test_a_user_whose_certificate_is_for_something_else(world):
    world.user_comes(world.ca.issue("right", [THEIRS], purposes=[pki.CODE_SIGNING]))
    assert "TLS" in refused(world, "strongswan", "certificate")["summary"]


def test_a_user_without_a_certificate(world):
    """strongSwan sends an empty list then, as TLS 1.2 lets it (RFC 5246 section 7.4.6)."""
    world.user_comes(world.ca.issue("right", [THEIRS]))
    swan = world.swan_ends(world.ca.issue("right", [THEIRS]))
    world.fresh()
    del swan["more"]["local"]["certs"]
    swan["more"]["local"] |= {"auth": "eap-tls", "eap_id": THEIRS}
    world.peer.load(world.connection(2, **swan))
    assert "did not return a certificate" in refused(world, "strongswan", "certificate")["summary"]


def test_the_server_refuses_us(world):
    """Our certificate is of a CA that strongSwan does not know."""
    world.we_come(world.ca.issue("right", [THEIRS]), own=pki.Authority("Another CA").issue("left", [OURS]))
    row = refused(world, "postern", "refused")
    assert row["said_by"] == "peer"


def test_a_server_of_another_ca_alone(world):
    """Nothing but EAP proves the server."""
    world.we_come(pki.Authority("Another CA").issue("right", [THEIRS]), alone=True)
    row = refused(world, "postern", "certificate")
    assert "CN=right" in row["summary"]


def test_a_server_whose_certificate_has_expired_alone(world):
    world.we_come(world.ca.issue("right", [THEIRS], end=pki.NOW - pki.SECOND * 60), alone=True)
    assert "expired" in refused(world, "postern", "certificate")["summary"]


def test_a_certificate_of_ours_that_has_expired(world):
    """It is not shown to anybody, and the diagnosis says whose fault it is."""
    world.we_come(world.ca.issue("right", [THEIRS]), own=world.ca.issue("left", [OURS], end=pki.NOW - pki.SECOND * 60))
    assert "valid from" in refused(world, "postern", "credential")["summary"]


def test_a_password_where_a_certificate_is_demanded(world):
    """strongSwan has no other method than EAP-TLS here; we take MSCHAPv2 alone."""
    world.user_comes(world.ca.issue("right", [THEIRS]))
    world.apply(eap_users=[{"name": THEIRS, "password": "a password"}], profile={"authentication": {
        "local": {"method": "signature"}, "remote": {"method": "eap", "eap": {"methods": ["mschapv2"], "query_identity": True}}}})
    refused(world, "strongswan", "eap_method")


def test_no_key_of_a_handshake_is_in_a_log(world):
    world.user_comes(world.ca.issue("right", [THEIRS]))
    world.up("strongswan")
    shown = world.left.process.log() + str(diagnosis(world.left)) + world.left.postern("show", "crypto", "ikev2", "session", "detail").stdout
    assert not re.search(r"\b[0-9a-f]{64,}\b", shown)


def test_between_two_nodes(scratch):
    """TLS 1.3 (RFC 9190), and nothing but EAP at either end."""
    ca = pki.Authority("Test CA")
    profile = {"pki_trustpoints": ["TP"], "authentication": {
        "local": {"method": "eap", "eap": {"methods": ["tls"], "identity": OURS}},
        "remote": {"method": "eap", "eap": {"methods": ["tls"], "query_identity": True}}}}
    with PosternPair(scratch, start=False) as pair:
        for side, node in ((2, pair.right), (1, pair.left)):
            certificate, key = ca.issue("both", [OURS, OUT4[side]]).write(scratch, f"own{side}")
            document = gateway_document(side, flows=("map4",), profile=profile)
            document["pki"] = {"trustpoints": [{"name": "TP", "ca_certificates": [ca.write(scratch, "ca")[0]], "certificate": certificate,
                                                "key": {"file": key}}]}
            node.start()
            node.apply(document)
        ping_until(pair.hA, host(2, "map4"), source=host(1, "map4"))
        for node in (pair.left, pair.right):
            sa = ike_sas(node)[0]
            assert (sa["auth_sign"], sa["auth_verify"], sa["eap_identity"]) == ("EAP-TLS", "EAP-TLS", OURS)
