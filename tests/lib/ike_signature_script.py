"""Either end of IKEv2 of ike_script.py, with a certificate of its own or to read the node's signature: RFC 7427, made of its appendix A."""
import struct

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding

import pki
from ike_script import AUTH, AUTH_PAYLOAD, IDI, IDR, INFORMATIONAL, ScriptedInitiator, ScriptedResponder, body, notify, prf

CERT, SIGNATURE_HASH_ALGORITHMS, SIGNATURE = 37, 16431, 14
HASHES = {2: hashes.SHA256, 3: hashes.SHA384, 4: hashes.SHA512}


def hashes_said(*numbers: int) -> tuple[int, bytes]:
    return notify(SIGNATURE_HASH_ALGORITHMS, struct.pack(f"!{len(numbers)}H", *numbers))


def identifier(kind: str, number: int) -> bytes:
    """AlgorithmIdentifier of "rsa", "pss" or "ecdsa" with that hash, as appendix A has them."""
    if kind == "ecdsa":
        return bytes.fromhex("300a06082a8648ce3d0403") + bytes([number])
    if kind == "rsa":
        return bytes.fromhex("300d06092a864886f70d0101") + bytes([9 + number]) + b"\x05\0"
    one = bytes.fromhex("300d06096086480165030402") + bytes([number - 1]) + b"\x05\0"
    return (bytes.fromhex("304106092a864886f70d01010a3034a00f") + one + bytes.fromhex("a11c301a06092a864886f70d010108") + one
            + b"\xa2\x03\x02\x01" + bytes([HASHES[number].digest_size]))


def verified(certificate: bytes, auth: bytes, kind: str, number: int, signed: bytes) -> None:
    """An AUTH payload of method 14 is by that algorithm and no other, and of the certificate's key."""
    wanted, hash = identifier(kind, number), HASHES[number]()
    assert auth[:4] == bytes([SIGNATURE, 0, 0, 0]) and auth[4] == len(wanted) and auth[5:5 + len(wanted)] == wanted, auth[:90].hex()
    key, signature = x509.load_der_x509_certificate(certificate).public_key(), auth[5 + len(wanted):]
    if kind == "ecdsa":
        key.verify(signature, signed, ec.ECDSA(hash))
    elif kind == "rsa":
        key.verify(signature, signed, padding.PKCS1v15(), hash)
    else:
        key.verify(signature, signed, padding.PSS(padding.MGF1(hash), hash.digest_size), hash)


def proof(own: pki.Credential, between: list[pki.Credential], signed: bytes) -> list[tuple[int, bytes]]:
    """CERT payloads of the end and of what stands between it and its root, and AUTH by its key of P-256."""
    sent = [(CERT, b"\x04" + one.certificate.public_bytes(Encoding.DER)) for one in (own, *between)]
    made, how = own.key.sign(signed, ec.ECDSA(hashes.SHA256())), identifier("ecdsa", 2)
    return [*sent, (AUTH_PAYLOAD, bytes([SIGNATURE, 0, 0, 0, len(how)]) + how + made)]


class SigningInitiator(ScriptedInitiator):
    def node_signed(self, said: list[tuple[int, bytes]]) -> bytes:
        """What the node's AUTH is over."""
        return self.response + self.nonce_i + prf(self.pr, body(said, IDR))

    def prove(self, identity: bytes, own: pki.Credential, between: list[pki.Credential], rest: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """IKE_AUTH by a signature: what answers it."""
        return self.exchange([(IDI, identity), *proof(own, between, self.init + self.nonce_r + prf(self.pi, identity)), *rest])


class SigningResponder(ScriptedResponder):
    def prove(self, identity: bytes, own: pki.Credential, between: list[pki.Credential]) -> None:
        """Answers the node's IKE_AUTH by a signature and with a child."""
        said = self.open(self.receive(AUTH))
        signed = self.response + self.nonce_i + prf(self.pr, identity)
        self.send(self.seal(AUTH, 1, [(IDR, identity), *proof(own, between, signed), *self.child(said)]))

    def told(self) -> list[tuple[int, bytes]]:
        """By the node's next INFORMATIONAL of this IKE SA; those of earlier ones are passed over."""
        while True:
            data = self.receive(INFORMATIONAL)
            if data[:8] == self.spi_i:
                return self.open(data)
