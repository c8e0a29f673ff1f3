"""A SwanLab in which both gateways have certificates, and what is said of an attempt that is refused."""
import pathlib

import lab
import pki
from ike_pairs import SwanLab
from refusal import one_refused
from strongswan import PLUGINS

CERTIFICATES = "pem pkcs1 pkcs8 x509 constraints pubkey revocation"
OURS, THEIRS = "left.example.org", "right.example.org"


class CertificateLab(SwanLab):
    """Both gateways have a certificate of one CA, unless a test says otherwise."""

    def __init__(self, scratch: pathlib.Path, right: dict | None = None, **document):
        self.ca = pki.Authority("Test CA")
        self.files = scratch / "pki"
        self.files.mkdir(parents=True)
        self.ours, self.count = {}, 0
        super().__init__(scratch, flows=("map4",), right={"plugins": f"{CERTIFICATES} {PLUGINS}", **(right or {})}, **document)

    def document(self, own: pki.Credential | None = None, authorities: list | None = None, chain: list | None = None, maps: list | None = None,
                 beside: list | None = None, method: str = "signature", remote_method: str | None = None, **options) -> dict:
        profile = {"pki_trustpoints": ["TP"], **options.pop("profile", {})}
        profile.setdefault("authentication", {"local": {"method": method}, "remote": {"method": remote_method or method}})
        options = {"local_id": OURS, "remote_id": THEIRS, **options}
        document = super().document(profile=profile, **options)
        document["pki"] = {"trustpoints": [self.trustpoint(own or self.credential("ecdsa256"), authorities or [self.ca], chain or []), *(beside or [])],
                           "certificate_maps": maps or []}
        return document

    def credential(self, kind: str) -> pki.Credential:
        if kind not in self.ours:
            self.ours[kind] = self.ca.issue("left", [OURS, "left@example.org", lab.OUT4[1]], kind)
        return self.ours[kind]

    def trustpoint(self, own: pki.Credential, authorities: list, chain: list) -> dict:
        self.count += 1
        certificate, key = own.write(self.files, f"own{self.count}")
        cas = [one.write(self.files, f"ca{self.count}-{i}")[0] for i, one in enumerate(authorities)]
        between = [one.write(self.files, f"chain{self.count}-{i}")[0] for i, one in enumerate(chain)]
        return {"name": "TP", "ca_certificates": cas, "certificate": certificate, "key": {"file": key}, **({"chain": between} if between else {})}

    def swan_ends(self, theirs: pki.Credential, auth: str = "pubkey", local_id: str = THEIRS, remote_id: str = OURS, authority=None,
                  remote_auth: str = "pubkey") -> dict:
        self.peer._vici.request("load-key", {"type": "any", "data": theirs.key_pem})
        return {"local_id": local_id, "remote_id": remote_id, "more": {
            "send_cert": "always",
            "local": {"auth": auth, "id": local_id, **({"certs": [theirs.pem]} if auth != "psk" else {})},
            "remote": {"auth": remote_auth, "id": remote_id, **({"cacerts": [(authority or self.ca).pem]} if remote_auth != "psk" else {})}}}


def refused(world, by: str, failure: str) -> dict:
    """One attempt by that side, and its row of the diagnosis; the next attempt owes no back-off."""
    row = one_refused(world, by, failure)[0]
    world.left.postern("clear", "crypto", "session")
    return row
