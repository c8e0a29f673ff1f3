"""A CA for tests: certificates of every kind that IKE meets, good and bad, by python3-cryptography."""
import dataclasses
import datetime
import ipaddress
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID



def now() -> datetime.datetime:
    return datetime.datetime.utcnow().replace(microsecond=0)


NOW = now()
DAY, SECOND = datetime.timedelta(days=1), datetime.timedelta(seconds=1)
IPSEC_IKE = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.17")
CODE_SIGNING = ExtendedKeyUsageOID.CODE_SIGNING


def make_key(kind: str):
    """"rsa", "rsa4096", "ecdsa256", "ecdsa384", "ecdsa521", "ed25519"."""
    if kind.startswith("rsa"):
        return rsa.generate_private_key(public_exponent=65537, key_size=int(kind[3:] or 2048))
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key({"256": ec.SECP256R1(), "384": ec.SECP384R1(), "521": ec.SECP521R1()}[kind.removeprefix("ecdsa")])


def name_of(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Postern Test"), x509.NameAttribute(NameOID.COMMON_NAME, common)])


def alternative(text: str) -> x509.GeneralName:
    if "@" in text:
        return x509.RFC822Name(text)
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


@dataclasses.dataclass
class Credential:
    """A certificate with its key."""
    certificate: x509.Certificate
    key: object

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()

    @property
    def subject(self) -> str:
        return self.certificate.subject.rfc4514_string()

    def write(self, directory: pathlib.Path, label: str) -> tuple[str, str]:
        """Files of certificate and key, the key's readable by its owner alone."""
        certificate, key = directory / f"{label}.pem", directory / f"{label}.key"
        certificate.write_text(self.pem)
        key.touch(mode=0o600)
        key.write_text(self.key_pem)
        return str(certificate), str(key)


class Authority(Credential):
    """A CA; under `issuer` an intermediate one. `permitted`: DNS names that it may give away. What a CA must be it is unless a test says
    otherwise: `ca` and `path_length` are its basic constraints, `usages` its key usage, `hash` what its issuer signs it by."""

    def __init__(self, common: str, issuer: "Authority | None" = None, permitted: list[str] | None = None, kind: str = "ecdsa256", *,
                 ca: bool = True, path_length: int | None = None, usages: tuple[str, ...] = ("key_cert_sign", "crl_sign"), hash=hashes.SHA256,
                 start: datetime.datetime | None = None, end: datetime.datetime | None = None):
        key, start, end = make_key(kind), start or NOW - DAY, end or NOW + 365 * DAY
        builder = _builder(name_of(common), issuer.certificate.subject if issuer else name_of(common), key, start, end)
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length), True)
        builder = builder.add_extension(key_usage(*usages), True)
        if permitted:
            builder = builder.add_extension(x509.NameConstraints([x509.DNSName(one) for one in permitted], None), True)
        super().__init__(builder.sign(issuer.key if issuer else key, hash()), key)

    def issue(self, common: str, names: list[str], kind: str = "ecdsa256", purposes: list | None = None,
              start: datetime.datetime | None = None, end: datetime.datetime | None = None, key=None,
              usages: tuple[str, ...] = ("digital_signature",), hash=hashes.SHA256) -> Credential:
        key, start, end = key or make_key(kind), start or NOW - DAY, end or NOW + 90 * DAY
        return Credential(_leaf(common, self.certificate.subject, names, key, start, end, purposes, usages).sign(self.key, hash()), key)


def self_signed(common: str, names: list[str], kind: str = "ecdsa256") -> Credential:
    """An end's certificate that no CA has issued."""
    key = make_key(kind)
    made = _leaf(common, name_of(common), names, key, NOW - DAY, NOW + 90 * DAY, None, ("digital_signature",))
    return Credential(made.sign(key, hashes.SHA256()), key)


def key_usage(*named: str) -> x509.KeyUsage:
    every = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
             "encipher_only", "decipher_only")
    assert set(named) <= set(every), named
    return x509.KeyUsage(**{one: one in named for one in every})


def _leaf(common: str, issuer: x509.Name, names: list[str], key, start, end, purposes: list | None,
          usages: tuple[str, ...]) -> x509.CertificateBuilder:
    builder = _builder(name_of(common), issuer, key, start, end)
    builder = builder.add_extension(x509.BasicConstraints(False, None), True)
    builder = builder.add_extension(key_usage(*usages), True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([alternative(one) for one in names]), False)
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), False)
    return builder


def _builder(subject: x509.Name, issuer: x509.Name, key, start, end) -> x509.CertificateBuilder:
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(end))
