"""Certificates by hash and URL (RFC 7296 3.6) with strongSwan, in both roles and both ways; bundles, which strongSwan does not know, with a
peer made of the RFC and Python's cryptography. The web server is Python's; its log says who fetched what."""
import hashlib
import pathlib
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

import ike_script
import lab
import pki
from certificate_lab import CERTIFICATES, OURS, THEIRS, CertificateLab
from ike_documents import diagnosis, ike_sas
from ike_script import NOTIFY, ScriptedInitiator, notifies, notify, prf, selectors
from lab import OUT4
from netns import wait_until
from strongswan import PLUGINS
from web_server import WebServer

CERT, CERTREQ, HTTP_CERT_LOOKUP_SUPPORTED, AUTHENTICATION_FAILED = 37, 38, 16392, 24
BOTH = pytest.mark.parametrize("by", ["postern", "strongswan"])
SUITE = {"ike": "aes128-sha256-x25519", "esp": "aes128gcm16"}


def der(one: pki.Credential) -> bytes:
    return one.certificate.public_bytes(serialization.Encoding.DER)


class LookupLab(CertificateLab):
    """strongSwan sends URLs to whoever looks them up, and looks up itself. The server is at its gateway."""

    def __init__(self, scratch: pathlib.Path, **options):
        right = {"plugins": f"{CERTIFICATES} curl {PLUGINS}", "options": {"hash_and_url": "yes"}}
        super().__init__(scratch, right=right, **options)
        self.web = WebServer(self.n2, OUT4[2])

    def certificates(self, urls: dict | None = None, lookup: list | None = None, issuer: pki.Authority | None = None, **options) -> pki.Credential:
        """Both ends afresh: the peer's certificate, which is on the server by its hash. `urls`: of our trustpoint."""
        self.web.clear()
        theirs = (issuer or self.ca).issue("right", [THEIRS])
        self.put(theirs)
        self._urls, before = urls or {}, len(self.web.requests())
        self.peer._vici.request("load-authority", {"net": {"cacert": self.ca.pem, "cert_uri_base": self.web.base + "theirs/"}})
        self.configure(http_cert_lookup=[self.web.base] if lookup is None else lookup, swan=self.swan_ends(theirs), **options)
        assert len(self.web.requests()) == before
        self._before = before
        return theirs

    def document(self, **options) -> dict:
        document = super().document(**options)
        document["pki"]["trustpoints"][0] |= getattr(self, "_urls", {})
        return document

    def put(self, theirs: pki.Credential, content: bytes | None = None) -> str:
        return self.web.put("theirs/" + hashlib.sha1(der(theirs)).hexdigest(), der(theirs) if content is None else content)

    def fetched(self, client: int) -> list[str]:
        """By that gateway since certificates()."""
        return [path for who, path, code in self.web.requests()[self._before:] if who == OUT4[client]]

    def turned_down(self, by: str) -> dict:
        """One attempt, which fails; its row of the diagnosis."""
        known = {(row["summary"], row["role"]): row["count"] for row in diagnosis(self.left)}
        if by == "postern":
            assert self.ping(count=1, wait=0.2) == 0
        else:
            self.peer.initiate_soon("net")

        def told() -> list[dict]:
            return [row for row in diagnosis(self.left) if row["failure"] == "certificate" and row["count"] > known.get((row["summary"], row["role"]), 0)]

        row = wait_until(told, 15, "the attempt fails")[0]
        assert not ike_sas(self.left) and row["remedy"], row
        self.left.postern("clear", "crypto", "session")
        return row


@pytest.fixture(scope="module")
def world(module_scratch):
    with LookupLab(module_scratch) as made:
        yield made


@BOTH
def test_we_fetch_the_peers_certificate(world, by):
    theirs = world.certificates()
    mark = world.peer.mark()
    world.up(by)
    world.ping_both()
    assert world.fetched(1) == ["/theirs/" + hashlib.sha1(der(theirs)).hexdigest()]
    world.peer.said("hash-and-url", mark)
    assert ike_sas(world.left)[0]["auth_verify"] == "ECDSA with SHA-256"
    # It is the same by its hash: who comes again costs no fetch.
    world.down()
    world.up(by)
    assert len(world.fetched(1)) == 1


@BOTH
def test_the_peer_fetches_ours(world, by):
    ours = world.ca.issue("left", [OURS])  # strongSwan fetches none that it knows
    world.certificates(urls={"certificate_url": world.web.base + "left.der"}, lookup=[], own=ours)
    world.web.put("left.der", der(ours))
    mark = world.peer.mark()
    world.up(by)
    world.ping_both()
    assert world.fetched(2) == ["/left.der"] and not world.fetched(1)
    world.peer.said(r"fetched certificate|fetching 'http://192\.0\.2\.2:8080/left\.der'|received hash-and-url", mark)


@BOTH
def test_off_and_without_a_url_everybody_sends_certificates(world, by):
    world.certificates(lookup=[])
    world.up(by)
    world.ping_both()
    assert not world.fetched(1) and not world.fetched(2)


def test_what_leads_to_the_ca_goes_beside_the_url(world):
    between = pki.Authority("Between", world.ca)
    ours = between.issue("left", [OURS])
    world.certificates(urls={"certificate_url": world.web.base + "below.der"}, own=ours, chain=[between])
    world.web.put("below.der", der(ours))
    world.up("postern")
    world.ping_both()
    assert world.fetched(2) == ["/below.der"]


REFUSALS = [  # what is wrong, the document's word, what is there, words of the summary
    ("missing", None, None, "the server answers 404"),
    ("another", None, b"not what was meant", "is not the certificate that the peer means"),
    ("not-allowed", ["http://192.0.2.2:8080/others/"], b"", "where nothing is fetched from"),
]


@pytest.mark.parametrize("by,what,lookup,content,words", [("strongswan", *row) for row in REFUSALS] + [("postern", *REFUSALS[1])],
                         ids=[row[0] for row in REFUSALS] + ["another-of-the-responder"])
def test_what_is_not_there_is_not_believed(world, by, what, lookup, content, words):
    theirs = world.certificates(lookup=lookup)
    if content is None:
        world.web.clear()
    elif content:
        world.put(theirs, content)
    row = world.turned_down(by)
    assert words in row["summary"] and world.web.base in row["summary"], row
    assert world.fetched(1) == [] if what == "not-allowed" else len(world.fetched(1)) == 1


@pytest.mark.slow
def test_a_web_server_that_hangs_delays_its_own_peer_alone(world):
    world.certificates()
    world.web.put("hang", b"")
    world.peer._vici.request("unload-authority", {"name": "net"})
    world.peer._vici.request("load-authority", {"net": {"cacert": world.ca.pem, "cert_uri_base": world.web.base + "theirs/hang?"}})
    began = time.monotonic()
    row = world.turned_down("strongswan")
    assert "does not answer in time" in row["summary"] and time.monotonic() - began < 12, row


# -- bundles: an end made of the RFC

def tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def parts(data: bytes) -> list[tuple[int, bytes]]:
    """The elements of DER content."""
    found = []
    while data:
        tag, size, at = data[0], data[1], 2
        if size & 0x80:
            at += size & 0x7F
            size = int.from_bytes(data[2:at], "big")
        found.append((tag, data[at:at + size]))
        data = data[at + size:]
    return found


def bundle(*certificates: bytes, crls: tuple = ()) -> bytes:
    """RFC 7296 3.6, in a module of explicit tags."""
    return tlv(0x30, b"".join(tlv(0xA0, one) for one in certificates) + b"".join(tlv(0xA1, one) for one in crls))


class CertificateInitiator(ScriptedInitiator):
    def authenticate_by(self, own: pki.Credential, certificates: list[bytes], extra: list | None = None) -> list[tuple[int, bytes]]:
        """IKE_AUTH by ECDSA on P-256 (RFC 4754), with these bodies of CERT payloads."""
        identity = b"\x02\0\0\0" + THEIRS.encode()
        signed = self.init + self.nonce_r + prf(self.pi, identity)
        signature = b"".join(one.to_bytes(32, "big") for one in decode_dss_signature(own.key.sign(signed, ec.ECDSA(hashes.SHA256()))))
        return self.exchange([(ike_script.IDI, identity), *((CERT, one) for one in certificates),
                              (ike_script.AUTH_PAYLOAD, b"\x09\0\0\0" + signature), *(extra or []),
                              ike_script.proposal(ike_script.ESP, bytes.fromhex("c0ffee01"), [(1, 20, 128), (5, 0, 0)]),
                              (ike_script.TSI, selectors(("10.2.0.0", "10.2.255.255"))), (ike_script.TSR, selectors(("10.1.0.0", "10.1.255.255")))])


def at_url(encoding: int, content: bytes, url: str) -> bytes:
    return bytes([encoding]) + hashlib.sha1(content).digest() + url.encode()


@pytest.fixture(scope="module")
def scripted(module_scratch):
    with LookupLab(module_scratch / "scripted", start=False, **SUITE) as made:
        made.between = pki.Authority("Between", made.ca)
        made.theirs = made.between.issue("right", [THEIRS])
        made.own = made.between.issue("left", [OURS])
        made._urls = {"bundle_url": made.web.base + "left.bundle"}
        made.left.start()
        made.left.apply(made.document(own=made.own, chain=[made.between], http_cert_lookup=[made.web.base]))
        yield made


def test_a_peers_bundle(scripted):
    crl = (x509.CertificateRevocationListBuilder().issuer_name(scripted.ca.certificate.subject).last_update(pki.NOW)
           .next_update(pki.NOW + pki.DAY).sign(scripted.ca.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER))
    content = bundle(der(scripted.theirs), der(scripted.between), crls=(crl,))
    url = scripted.web.put("right.bundle", content)
    with CertificateInitiator(scripted.n2, OUT4[2], OUT4[1]) as peer:
        assert HTTP_CERT_LOOKUP_SUPPORTED in notifies(peer.begin())
        said = peer.authenticate_by(scripted.theirs, [at_url(13, content, url)])
        assert any(kind == ike_script.IDR for kind, _ in said), notifies(said)
        # It has not said that it fetches: whole certificates.
        assert [body[0] for kind, body in said if kind == CERT] == [4, 4]
        assert ike_sas(scripted.left)
        peer.exchange([(ike_script.DELETE, b"\x01\0\0\0")], ike_script.INFORMATIONAL)


@pytest.mark.parametrize("content", [b"0\x80\xa0\x00\x00\x00", bundle(*[b"0\x00"] * 13), b"no DER at all"], ids=["indefinite", "too-many", "no-der"])
def test_what_is_no_bundle(scripted, content):
    url = scripted.web.put("bad.bundle", content)
    with CertificateInitiator(scripted.n2, OUT4[2], OUT4[1]) as peer:
        peer.begin()
        said = peer.authenticate_by(scripted.theirs, [at_url(13, content, url)])
        assert AUTHENTICATION_FAILED in notifies(said) and [kind for kind, _ in said] == [NOTIFY]
    assert "bundle of certificates cannot be read" in diagnosis(scripted.left)[0]["summary"]


def test_our_bundle(scripted):
    """The command writes it, Python reads it, and it is what the hash that we send is of."""
    file = scripted.scratch / "left.bundle"
    shown = scripted.left.postern("crypto", "pki", "bundle", "tp", str(file)).stdout
    content = file.read_bytes()
    assert "2 certificates of trustpoint TP" in shown
    (tag, inside), = parts(content)
    assert tag == 0x30 and [one for one, _ in parts(inside)] == [0xA0, 0xA0]
    assert [x509.load_der_x509_certificate(one) for _, one in parts(inside)] == [scripted.own.certificate, scripted.between.certificate]
    with CertificateInitiator(scripted.n2, OUT4[2], OUT4[1]) as peer:
        peer.begin()
        said = peer.authenticate_by(scripted.theirs, [b"\x04" + der(scripted.theirs), b"\x04" + der(scripted.between)],
                                    [notify(HTTP_CERT_LOOKUP_SUPPORTED)])
        assert [body for kind, body in said if kind == CERT] == [at_url(13, content, scripted.web.base + "left.bundle")]
        peer.exchange([(ike_script.DELETE, b"\x01\0\0\0")], ike_script.INFORMATIONAL)


def test_a_trustpoint_that_is_not_there_has_no_bundle(scripted):
    refused = scripted.left.postern("crypto", "pki", "bundle", "nobody", str(scripted.scratch / "none"), check=False)
    assert refused.returncode == 1 and "no such trustpoint" in refused.stderr and not (scripted.scratch / "none").exists()
