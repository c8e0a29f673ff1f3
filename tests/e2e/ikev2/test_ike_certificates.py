"""AUTH by certificates against strongSwan, in both roles: every kind of key, different methods each way, identities of every kind;
and what must not be believed, with the check that failed named by `show crypto ikev2 diagnose`."""
import pathlib

import pytest
from cryptography.hazmat.primitives import hashes

import cage
import lab
import pki
from certificate_lab import OURS, THEIRS, CertificateLab, refused
from ike_documents import ike_sas
from netns import wait_until
from show_schema import COMMANDS, violations

pytestmark = pytest.mark.long

BOTH = pytest.mark.parametrize("by", ["postern", "strongswan"])


@pytest.fixture(scope="module")
def world(module_scratch):
    with CertificateLab(module_scratch) as made:
        yield made


def methods(world) -> tuple[str, str]:
    """How we authenticated, and the peer to us, as `show crypto ikev2 session` says it."""
    sa = ike_sas(world.left)[0]
    return sa["auth_sign"], sa["auth_verify"]


PSS, CURVE = "RSA-PSS with SHA-256", "ECDSA with SHA-256"
ROWS = [  # key, strongSwan's auth, our method, what we are shown to sign by, and strongSwan
    ("rsa", "rsa/pss-sha256", "rsa-sig", PSS, PSS),
    ("rsa", "rsa/pss-sha512", "signature", PSS, "RSA-PSS with SHA-512"),
    ("rsa", "rsa-sha384", "signature", PSS, "RSA with SHA-384"),
    ("ecdsa256", "ecdsa-sha256", "ecdsa-sig", CURVE, CURVE),
    ("ecdsa384", "ecdsa-sha384", "ecdsa-sig", "ECDSA with SHA-384", "ECDSA with SHA-384"),
    ("ecdsa521", "ecdsa-sha512", "signature", "ECDSA with SHA-512", "ECDSA with SHA-512"),
    ("ecdsa256", "ecdsa-sha512", "signature", CURVE, "ECDSA with SHA-512"),  # RFC 7427 binds no hash to a curve
    ("ed25519", "pubkey", "signature", "Ed25519", "Ed25519"),
]
ALIKE = [("rsa", "rsa-sha256", "signature", PSS, "RSA with SHA-256"), ("rsa", "rsa-sha512", "signature", PSS, "RSA with SHA-512"),
         ("rsa", "rsa/pss-sha384", "signature", PSS, "RSA-PSS with SHA-384"), ("ecdsa384", "ecdsa-sha256", "signature", "ECDSA with SHA-384", CURVE)]


@BOTH
@pytest.mark.parametrize("kind,auth,method,ours,theirs", [*ROWS, *(pytest.param(*row, marks=pytest.mark.slow) for row in ALIKE)],
                         ids=[f"{row[0]}-{row[1].replace('/', '-')}" for row in [*ROWS, *ALIKE]])
def test_signatures(world, by, kind, auth, method, ours, theirs):
    world.configure(own=world.credential(kind), method=method, swan=world.swan_ends(world.ca.issue("right", [THEIRS], kind), auth))
    world.up(by)
    world.ping_both()
    assert methods(world) == (ours, theirs)


@BOTH
def test_rsa_pkcs1_of_ours(world, by):
    theirs = world.ca.issue("right", [THEIRS], "rsa")
    world.configure(own=world.credential("rsa"), method="rsa-sig", profile={"rsa_padding": "pkcs1"}, swan=world.swan_ends(theirs))
    world.up(by)
    assert methods(world)[0] == "RSA with SHA-256"


@BOTH
def test_different_methods_each_way(world, by):
    """We sign, the peer has a key; and the other way round."""
    theirs = world.ca.issue("right", [THEIRS])
    world.configure(method="ecdsa-sig", remote_method="pre-share", swan=world.swan_ends(theirs, auth="psk"))
    world.up(by)
    assert methods(world) == ("ECDSA with SHA-256", "PSK")
    world.configure(method="pre-share", remote_method="signature", swan=world.swan_ends(theirs, remote_auth="psk"))
    world.up(by)
    assert methods(world) == ("PSK", "ECDSA with SHA-256")


IDENTITIES = [  # kind, what the peer calls itself, what we take, what we call ourselves: None is the certificate's subject
    ("fqdn", THEIRS, THEIRS, OURS), ("email", "right@example.org", "right@example.org", "left@example.org"),
    ("address", lab.OUT4[2], lab.OUT4[2], lab.OUT4[1]), ("dn", "O=Postern Test, CN=right", "any", None)]


@BOTH
@pytest.mark.parametrize("kind,said,accepted,ours", IDENTITIES, ids=[row[0] for row in IDENTITIES])
def test_identities(world, by, kind, said, accepted, ours):
    """Of both ends, each proved by its certificate; strongSwan wants ours to be that and no other."""
    theirs = world.ca.issue("right", [THEIRS, "right@example.org", lab.OUT4[2]])
    world.configure(remote_id=accepted, profile={} if ours else {"identity_local": "dn"}, local_id=ours,
                    swan=world.swan_ends(theirs, local_id=said, remote_id=ours or "O=Postern Test, CN=left"))
    world.up(by)
    world.ping_both()
    assert methods(world) == ("ECDSA with SHA-256",) * 2
    assert world.peer.established()[0]["remote-id"] == (ours or "O=Postern Test, CN=left")


@BOTH
@pytest.mark.parametrize("ours", ["third@example.org", lab.OUT4[2]], ids=["email", "address"])
def test_an_identity_of_ours_that_is_not_in_our_certificate(world, by, ours):
    """strongSwan does not believe it."""
    world.configure(local_id=ours, swan=world.swan_ends(world.ca.issue("right", [THEIRS]), remote_id=ours))
    if by == "postern":
        assert world.ping(count=1, wait=2) == 0
    else:
        assert world.peer.initiate("net", check=False) is False
    wait_until(lambda: not ike_sas(world.left) and not world.peer.established(), 8, "nothing stays")
    world.left.postern("clear", "crypto", "session")


@BOTH
def test_we_ask_for_certificates_of_our_ca(world, by):
    """RFC 7296 3.7: strongSwan reads the hash of the CA's key, in our IKE_AUTH request or our IKE_SA_INIT answer; of a CA that it has not it says so."""
    asked = world.swan_ends(world.ca.issue("right", [THEIRS]))
    for authorities, words in (([world.ca], [r'received cert request for "O=Postern Test, CN=Test CA"']),
                               ([world.ca, pki.Authority(f"Unknown {by}")], [r'received cert request for "O=Postern Test, CN=Test CA"',
                                                                             r"received (1 cert requests?|cert request) for (an )?unknown ca"])):
        since = world.peer.mark()
        world.configure(authorities=authorities, swan=asked)
        world.up(by)
        for one in words:
            world.peer.said(one, since)
        assert ("unknown ca" in world.peer.log()[since:]) == (len(authorities) > 1)


@BOTH
@pytest.mark.parametrize("depth", [1, 3])
def test_intermediate_cas_are_sent_both_ways(world, by, depth):
    """RFC 7296 3.6: four certificates, of which the other end has none."""
    chain, issuer = [], world.ca
    for number in range(depth):
        issuer = pki.Authority(f"Intermediate {depth}-{number}-{by}", issuer)
        chain.insert(0, issuer)
        world.peer._vici.request("load-cert", {"type": "X509", "flag": "CA", "data": issuer.pem})
    theirs, ours = issuer.issue("right", [THEIRS]), issuer.issue("left", [OURS])
    world.configure(own=ours, chain=chain, swan=world.swan_ends(theirs))
    world.up(by)
    world.ping_both()


def test_of_several_certificates_the_one_that_is_asked_for(world):
    """RFC 7296 3.7: strongSwan trusts the CA of our second certificate alone, and asks for it; without the second it is shown the first, and refuses it."""
    second = pki.Authority("Second CA")
    theirs = world.ca.issue("right", [THEIRS])
    for others in ([{"name": "SECOND", "use": "sign"}], []):
        beside = [{**world.trustpoint(second.issue("left", [OURS]), [second], []), "name": "SECOND"}]
        world.configure(beside=beside, profile={"pki_trustpoints": ["TP", *others]}, swan=world.swan_ends(theirs, authority=second))
        if others:
            world.up("strongswan")
            world.ping_both()
        else:
            assert "AUTHENTICATION_FAILED" in refused(world, "strongswan", "wrong_key")["summary"]


@BOTH
def test_certificate_map_chooses_the_profile(world, by):
    theirs = world.ca.issue("right", [THEIRS])
    rules = [{"name": "GATEWAYS", "rules": [{"field": "subject-name", "operator": "co", "value": "cn=right"},
                                            {"field": "issuer-name", "operator": "co", "value": "test ca"}]}]
    match = {"match": {"certificate": ["GATEWAYS"]}}
    world.configure(maps=rules, profile=match, swan=world.swan_ends(theirs))
    world.up(by)
    rules[0]["rules"][1]["operator"] = "nc"
    world.configure(maps=rules, profile=match, swan=world.swan_ends(theirs))
    row = refused(world, by, "wrong_identity")
    assert "certificate map" in row["summary"] and "right" in row["differs"]


# -- what must not be believed

def other_ca(world):
    return pki.Authority("Another CA").issue("right", [THEIRS])


NEGATIVES = [  # what, the peer's certificate, failure, words of the summary, words of the detail
    ("wrong CA", other_ca, "certificate", "no trusted certificate of its issuer", "Another CA"),
    ("expired", lambda w: w.ca.issue("right", [THEIRS], start=pki.NOW - 30 * pki.DAY, end=pki.NOW - 3 * pki.DAY), "certificate",
     "has expired", "this machine's clock says"),
    ("not valid yet", lambda w: w.ca.issue("right", [THEIRS], start=pki.NOW + 5 * pki.DAY), "certificate", "is not valid yet", "earlier"),
    ("wrong EKU", lambda w: w.ca.issue("right", [THEIRS], purposes=[pki.CODE_SIGNING]), "certificate", "extended key usage", "Code Signing"),
    ("missing intermediate", lambda w: pki.Authority("Unsent", w.ca).issue("right", [THEIRS]), "certificate",
     "no trusted certificate of its issuer", "Unsent"),
]


@BOTH
@pytest.mark.parametrize("what,make,failure,summary,detail", NEGATIVES, ids=[row[0].replace(" ", "-") for row in NEGATIVES])
def test_what_is_not_believed(world, by, what, make, failure, summary, detail):
    """In either role: strongSwan does not check its own certificate before it sends it."""
    theirs = make(world)
    world.configure(swan=world.swan_ends(theirs))
    row = refused(world, by, failure)
    assert summary in row["summary"] and "right" in row["summary"] and detail in row["differs"], row
    assert row["remedy"]


def below(world, *issuers: dict) -> pki.Credential:
    """Under CAs of the peer's own, each below the one before; it sends them all."""
    issuer = world.ca
    for number, options in enumerate(issuers):
        issuer = pki.Authority(f"Between {number}", issuer, **options)
        world.peer._vici.request("load-cert", {"type": "X509", "flag": "CA", "data": issuer.pem})
    return issuer.issue("right", [THEIRS])


NO_CA, WEAK = "may not issue certificates here", "is too weak"
# What strongSwan sends of anybody: a CA that is none it does not, so that one is in test_ike_signatures.py.
PATHS = [  # what, the peer's certificate, whose certificate failed, words of the summary, words of the detail
    ("issuer without keyCertSign", lambda w: below(w, {"usages": ("crl_sign",)}), "Between 0", NO_CA, "invalid CA certificate"),
    ("path length exceeded", lambda w: below(w, {"path_length": 0}, {}), "Between 0", NO_CA, "path length constraint exceeded"),
    ("expired intermediate", lambda w: below(w, {"start": pki.NOW - 30 * pki.DAY, "end": pki.NOW - 3 * pki.DAY}), "Between 0", "has expired",
     "this machine's clock says"),
    ("RSA of 1024 bits", lambda w: w.ca.issue("right", [THEIRS], "rsa1024"), "right", WEAK, "EE certificate key too weak"),
    ("CA of RSA of 1024 bits", lambda w: below(w, {"kind": "rsa1024"}), "Between 0", WEAK, "CA certificate key too weak"),
    ("SHA-1 of an intermediate", lambda w: below(w, {"hash": hashes.SHA1}), "Between 0", WEAK, "CA signature digest algorithm too weak"),
    ("key usage without a signature", lambda w: w.ca.issue("right", [THEIRS], usages=("key_agreement",)), "right", "may not be used to sign",
     "neither digitalSignature nor nonRepudiation"),
    ("SHA-1 of the leaf", lambda w: w.ca.issue("right", [THEIRS], hash=hashes.SHA1), "right", WEAK, "CA signature digest algorithm too weak"),
    ("signed by itself", lambda w: pki.self_signed("right", [THEIRS]), "right", "is signed by itself, and is no CA of the trustpoint", None),
]


@pytest.mark.filterwarnings("ignore:SHA1 signatures are deprecated")
@pytest.mark.parametrize("by", ["strongswan", pytest.param("postern", marks=pytest.mark.slow)])
@pytest.mark.parametrize("what,make,whose,summary,detail", PATHS, ids=[row[0].replace(" ", "-") for row in PATHS])
def test_paths_that_are_not_believed(world, by, what, make, whose, summary, detail):
    """RFC 5280 6.1 and 4.2.1.3: the certificate of the path that failed, and the check that it failed, are named."""
    world.peer._vici.request("clear-creds", {})  # no CA of another row's is sent
    world.configure(swan=world.swan_ends(make(world)))
    row = refused(world, by, "certificate")
    assert summary in row["summary"] and whose in row["summary"] and (detail or "") in (row["differs"] or ""), row


@BOTH
def test_what_was_not_believed_is_without_its_fault(world, by):
    """The same lab with the cause removed."""
    world.configure(swan=world.swan_ends(world.ca.issue("right", [THEIRS])))
    world.up(by)
    world.ping_both()


@BOTH
def test_name_constraints(world, by):
    """The intermediate CA may give away names below elsewhere.example alone."""
    narrow = pki.Authority("Narrow CA", world.ca, permitted=["elsewhere.example"])
    theirs = narrow.issue("right", [THEIRS])
    world.peer._vici.request("load-cert", {"type": "X509", "flag": "CA", "data": narrow.pem})
    world.configure(swan=world.swan_ends(theirs))
    row = refused(world, by, "certificate")
    assert "name constraints" in row["summary"], row


def test_identity_that_is_not_in_the_certificate(world):
    """Our profile takes the name and our CA issued the certificate, but for another name: who holds it is not the peer."""
    theirs = world.ca.issue("right", ["third.example.org"])
    world.configure(swan=world.swan_ends(theirs))
    row = refused(world, "strongswan", "wrong_identity")
    assert "does not name the identity that the peer claims" in row["summary"], row
    assert THEIRS in row["differs"] and "third.example.org" in row["differs"], row


def test_own_certificate_has_expired(world):
    ours = world.ca.issue("left", [OURS], start=pki.NOW - 30 * pki.DAY, end=pki.NOW - pki.DAY)
    world.configure(own=ours, swan=world.swan_ends(world.ca.issue("right", [THEIRS])))
    row = refused(world, "postern", "credential")
    assert "clock says" in row["summary"] and "left" in row["summary"]


def test_keys_stay_where_they_are(world):
    """Of all processes of the node postern-pki alone has the key's bytes, and nothing shows them."""
    ours = world.credential("ecdsa256")
    world.configure(own=ours, swan=world.swan_ends(world.ca.issue("right", [THEIRS])))
    world.up("strongswan")
    text = str(world.left.show("crypto", "pki", "trustpoints")) + str(world.left.show("crypto", "pki", "certificates"))
    assert "ECDSA 256 bits" in text and ours.key_pem.splitlines()[1] not in text
    for command in (one for one in COMMANDS if "pki" in one or "ikev2" in one):
        assert not violations(command, world.left.show(*command.split()[1:]))
    shown = world.left.show("crypto", "pki", "certificates")["certificates"]
    assert {one["trustpoint"] for one in shown} == {"TP"} and {one["status"] for one in shown} == {"Available"}
    assert any("left" in one["subject"] and f"DNS:{OURS}" in one["alternative_names"] for one in shown)


def test_postern_pki_comes_back(world):
    """kill -9 of postern-pki: SAs go on, and the next authentication finds a new one."""
    import os
    import signal

    from node import child_pids, gone
    world.configure(swan=world.swan_ends(world.ca.issue("right", [THEIRS])))
    world.up("strongswan")

    def running() -> list[int]:
        return [pid for pid in child_pids(world.left.name)
                if pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].endswith(b"postern-pki")]

    first = wait_until(running, 5, "postern-pki runs")[0]
    status = pathlib.Path(f"/proc/{first}/status").read_text()
    assert "Uid:\t0" not in status and "CapEff:\t0000000000000000" in status and "Seccomp:\t2" in status
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: gone(first), 5, "postern-pki is gone")
    world.ping_both()
    wait_until(lambda: [pid for pid in running() if pid != first], 10, "another runs")
    world.down()
    wait_until(lambda: world.peer.initiate("net", check=False), 10, "it authenticates again")
    world.ping_both()


def test_without_rfc7427(module_scratch):
    """A peer that knows RFC 7296's RSA and RFC 4754's ECDSA alone: methods 1, 9, 10 and 11. SHA-1 has to be allowed."""
    with CertificateLab(module_scratch / "old", right={"options": {"signature_authentication": "no"}}) as world:
        for kind in ("ecdsa256", "ecdsa384", "ecdsa521"):
            for by in ("postern", "strongswan"):
                theirs = world.ca.issue("right", [THEIRS], kind)
                world.configure(own=world.credential(kind), method="ecdsa-sig", swan=world.swan_ends(theirs))
                world.up(by)
                world.ping_both()
        theirs = world.ca.issue("right", [THEIRS], "rsa")
        world.configure(own=world.credential("rsa"), method="rsa-sig", swan=world.swan_ends(theirs))
        row = refused(world, "strongswan", "wrong_key")
        assert "SHA-1" in row["summary"]
        for by in ("postern", "strongswan"):
            world.configure(own=world.credential("rsa"), method="rsa-sig", profile={"sha1_signatures": True}, swan=world.swan_ends(theirs))
            world.up(by)
            assert methods(world) == ("RSA with SHA-1", "RSA with SHA-1")


@pytest.mark.safety
def test_the_keeper_of_private_keys_is_caged(world):
    theirs = world.ca.issue("right", [THEIRS], "ecdsa256")
    world.configure(own=world.credential("ecdsa256"), method="ecdsa-sig", swan=world.swan_ends(theirs))
    world.up("postern")
    cage.assert_caged(world.left, "postern-pki", "postern-ike", "postern-worker")
