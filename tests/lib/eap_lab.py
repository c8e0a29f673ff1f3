"""Labs in which one end comes by EAP: by a password (EapLab) or by TLS (EapTlsLab) with strongSwan, by TLS 1.3 with a script (Tls13Lab)."""
import pytest

import pki
from certificate_lab import CERTIFICATES, OURS, THEIRS, CertificateLab
from ike_documents import children, diagnosis, gateway_document, ike_sas
from ike_eap_script import EapTlsInitiator, EapTlsResponder, TlsEnd
from ike_lab import IkeLab, inside
from lab import OUT4
from netns import wait_until
from strongswan import PLUGINS

EAP_TLS_ALONE = {"local": {"method": "eap", "eap": {"methods": ["tls"], "identity": OURS}},
                 "remote": {"method": "eap", "eap": {"methods": ["tls"]}}}
ALICE, PASSWORD = "alice@example.org", "Grün und 8 Wörter"
EAP = "eap-identity eap-md5 eap-mschapv2"


def with_profile(document: dict, authentication: dict) -> dict:
    return {**document, "profile": {"authentication": authentication, **document.get("profile", {})}}


class EapLab(CertificateLab):
    def __init__(self, scratch):
        super().__init__(scratch, right={"plugins": f"{CERTIFICATES} {EAP} {PLUGINS}"})

    def document(self, dynamic: bool = False, **options) -> dict:
        document = super().document(**options)
        if dynamic:
            document["dynamic_maps"] = [{"name": "D1", "entries": [{"sequence": 10, "transform_sets": ["T0"], "ikev2_profile": "PEER"}]}]
            document["crypto_maps"][0]["family"] = "ipv4"
            document["crypto_maps"][0]["entries"] = [{"sequence": 1000, "type": "ipsec-isakmp", "dynamic": "D1"}]
        return document

    def secret(self, name: str = ALICE, password: str = PASSWORD) -> None:
        """strongSwan's one secret for EAP."""
        self.peer._vici.request("load-shared", {"id": "eap", "type": "EAP", "data": password, "owners": [name]})

    def user_comes(self, swan_methods: str = "eap-mschapv2", ours: list[str] | None = None, query: bool = True, users: dict | None = None,
                   name: str = ALICE, password: str = PASSWORD, document: dict | None = None, more: dict | None = None,
                   pools: list[str] | None = None) -> None:
        """strongSwan is the user, we have the certificate. `more`: of its connection. With `pools` it asks for an address."""
        self.secret(name, password)
        document = {**(document or {}), **({"profile": {"configuration": {"pools": pools}}} if pools else {})}
        users = {ALICE: PASSWORD, "bob": "another one"} if users is None else users
        swan = {"local_id": THEIRS, "remote_id": OURS, "more": {
            "local": {"auth": swan_methods, "id": THEIRS, "eap_id": name}, "remote": {"auth": "pubkey", "id": OURS, "cacerts": [self.ca.pem]},
            **({"vips": ["0.0.0.0"]} if pools else {}), **(more or {})}, **({"local_ts": ["dynamic"]} if pools else {})}
        authentication = {"local": {"method": "signature"},
                          "remote": {"method": "eap", "eap": {"methods": ours or ["mschapv2", "md5"], "query_identity": query}}}
        document = with_profile(document, authentication)
        self.configure(swan=swan, eap_users=[{"name": each, "password": secret} for each, secret in users.items()], **document)

    def we_come(self, swan_method: str = "eap-mschapv2", ours: list[str] | None = None, name: str = ALICE, password: str = PASSWORD,
                document: dict | None = None, more: dict | None = None) -> None:
        """We are the user, strongSwan has the certificate."""
        self.secret()
        theirs = self.ca.issue("right", [THEIRS])
        swan = self.swan_ends(theirs)
        swan["more"] |= {"remote": {"auth": swan_method, "id": OURS, "eap_id": "%any"}, **(more or {})}
        authentication = {"local": {"method": "eap", "eap": {"methods": ours or ["mschapv2", "md5"], "identity": name, "password": password}},
                          "remote": {"method": "signature"}}
        self.configure(swan=swan, **with_profile(document or {}, authentication))


class EapTlsLab(CertificateLab):
    def __init__(self, scratch):
        # Of 300 bytes: a flight takes a dozen fragments.
        super().__init__(scratch, right={"plugins": f"{CERTIFICATES} eap-identity eap-tls {PLUGINS}", "log": {"tls": 2},
                                         "options": {"plugins": {"eap-tls": {"fragment_size": 300, "max_message_count": 0}}}})

    def fresh(self) -> None:
        """strongSwan has no credential of an earlier test: it would take whichever fits. Its EAP-TLS believes every CA that it has."""
        self.peer._vici.request("clear-creds", {})
        self.peer._vici.request("load-cert", {"type": "X509", "flag": "CA", "data": self.ca.pem})

    def user_comes(self, theirs: pki.Credential, alone: bool = False, name: str = THEIRS, query: bool = True, more: dict | None = None,
                   **document) -> None:
        """strongSwan is the user."""
        self.fresh()
        swan = self.swan_ends(theirs)
        swan["more"] |= more or {}
        swan["more"]["local"] |= {"auth": "eap-tls", "eap_id": name}
        if alone:
            swan["more"]["remote"] = {"auth": "eap-tls", "id": OURS}
        local = {"method": "eap", "eap": {"methods": ["tls"], "identity": OURS}} if alone else {"method": "signature"}
        self.configure(swan=swan, **with_profile(document, {
            "local": local, "remote": {"method": "eap", "eap": {"methods": ["tls"], "query_identity": query}}}))

    def we_come(self, theirs: pki.Credential, alone: bool = False, name: str = OURS, more: dict | None = None, **document) -> None:
        """We are the user."""
        self.fresh()
        swan = self.swan_ends(theirs)
        swan["more"] |= {"remote": {"auth": "eap-tls", "id": OURS, "eap_id": "%any"}, **(more or {})}
        if alone:
            swan["more"]["local"]["auth"] = "eap-tls"
        remote = {"method": "eap", "eap": {"methods": ["tls"]}} if alone else {"method": "signature"}
        self.configure(swan=swan, **with_profile(document, {
            "local": {"method": "eap", "eap": {"methods": ["tls"], "identity": name}}, "remote": remote}))


# Of methods that make a key and of those that make none, of EAP beside a certificate and of EAP alone one each; the others with --full.
WAYS = ("md5", pytest.param("mschapv2", marks=pytest.mark.slow), pytest.param("tls", marks=pytest.mark.slow), "tls-alone")


def lab_of(way: str, scratch) -> EapLab | EapTlsLab:
    scratch = scratch / f"eap-{way}"
    scratch.mkdir()
    made = EapTlsLab(scratch) if way.startswith("tls") else EapLab(scratch)
    made.way = way
    return made


def comes(world: EapLab | EapTlsLab, by: str, more: dict | None = None, **document) -> None:
    """`by` is the user, by the way of a `lab_of`; nothing of earlier tests is left."""
    world.peer._vici.request("clear-creds", {})
    come = world.we_come if by == "postern" else world.user_comes
    if world.way.startswith("tls"):
        come(world.ca.issue("right", [THEIRS]), alone=world.way == "tls-alone", more=more, **document)
    else:
        come(f"eap-{world.way}", more=more, document=document)


class Tls13Lab(IkeLab):
    """The other end is a script, by EAP-TLS with TLS 1.3 alone. `section` goes into "ikev2"."""

    def __init__(self, scratch, **section):
        super().__init__(scratch)
        self.ca, self.other = pki.Authority("Test CA"), pki.Authority("Another CA")
        self.files = scratch / "pki"
        self.files.mkdir()
        self.ca_file = self.ca.write(self.files, "ca")[0]
        certificate, key = self.ca.issue("left", [OURS, OUT4[1]], "rsa").write(self.files, "left")
        document = gateway_document(1, flows=("map4",), ike="aes128-sha256-x25519", esp="aes128gcm16", local_id=OURS,
                                    profile={"pki_trustpoints": ["TP"], "authentication": EAP_TLS_ALONE}, **section)
        document["pki"] = {"trustpoints": [{"name": "TP", "ca_certificates": [self.ca_file], "certificate": certificate, "key": {"file": key}}]}
        try:
            self.left = self.node(1, document)
            self.left.start()
        except BaseException:
            self.close()
            raise

    def end(self, server: bool, issuer: pki.Authority | None = None, names: tuple[str, ...] = (THEIRS, OUT4[2])) -> TlsEnd:
        own = (issuer or self.ca).issue("right", list(names), "ecdsa384").write(self.files, "right")
        return TlsEnd(self.scratch, own, self.ca_file, server)

    def responder(self, extra: list = (), **options) -> EapTlsResponder:
        """Which has been asked by the node already, and says `extra` in IKE_SA_INIT."""
        self.left.postern("clear", "crypto", "session")
        peer = EapTlsResponder(self.n2, OUT4[2], self.end(True, **options))
        self.ping("map4", 1, wait=0.2)
        peer.begin(extra)
        return peer

    def initiator(self, **options) -> EapTlsInitiator:
        self.left.postern("clear", "crypto", "session")
        return EapTlsInitiator(self.n2, OUT4[2], OUT4[1], THEIRS, (inside(2), inside(1)), self.end(False, **options))

    def refused(self, failure: str, words: str) -> None:
        wait_until(lambda: any(row["failure"] == failure and words in row["summary"] for row in diagnosis(self.left, OUT4[2])), 8,
                   f"{failure}, {words}")
        assert not ike_sas(self.left) and not children(self.left)
