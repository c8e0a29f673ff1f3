"""EAP-MSCHAPv2 inside IKE_AUTH at either end, to be said wrongly. The proof is made of RFC 2759 and scapy's MD4."""
import hashlib
import os
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scapy.layers.tls.crypto.md4 import MD4

from ike_eap_script import EAP, REQUEST, RESPONSE
from ike_script import AUTH, ESP, IDI, IDR, TSI, TSR, body, proposal, prf
from ike_signature_script import SigningInitiator, SigningResponder, hashes_said, proof

IDENTITY, NAK, MD5, MSCHAPV2 = 1, 3, 4, 26
CHALLENGE, ANSWER, SUCCEEDED, FAILED = 1, 2, 3, 4  # of MSCHAPv2


def nt_response(challenge: bytes, own: bytes, name: str, password: str) -> bytes:
    """RFC 2759 8.1."""
    digest = hashlib.sha1(own + challenge + name.encode()).digest()[:8]
    keys = MD4(password.encode("utf-16-le")).digest() + bytes(5)
    return b"".join(_des(keys[at:at + 7], digest) for at in (0, 7, 14))


def _des(key: bytes, block: bytes) -> bytes:
    """8.6: seven bits of the key in each of DES's bytes, whose last bit does not count."""
    bits = int.from_bytes(key, "big")
    wide = bytes((bits >> 7 * (7 - at) & 0x7F) << 1 for at in range(8))
    encryptor = Cipher(algorithms.TripleDES(wide), modes.ECB()).encryptor()
    return encryptor.update(block) + encryptor.finalize()


def packet(code: int, number: int, kind: int | None = None, data: bytes = b"") -> tuple[int, bytes]:
    """An EAP payload."""
    inside = b"" if kind is None else bytes([kind]) + data
    return EAP, struct.pack("!BBH", code, number, 4 + len(inside)) + inside


def mschap(code: int, number: int, data: bytes) -> bytes:
    return struct.pack("!BBH", code, number, 4 + len(data)) + data


class UserScript(SigningInitiator):
    """The user; the node is the server."""

    def begins(self, identity: bytes, networks: tuple[bytes, bytes]) -> bytes:
        """The node's first EAP packet."""
        self.begin([hashes_said(2)])
        return body(self.exchange([(IDI, identity), proposal(ESP, os.urandom(4), [(1, 20, 128), (5, 0, 0)]), (TSI, networks[0]), (TSR, networks[1])]), EAP)

    def says(self, number: int, kind: int, data: bytes) -> bytes:
        """What answers that EAP response."""
        return body(self.exchange([packet(RESPONSE, number, kind, data)]), EAP)

    def challenged(self, identity: bytes, networks: tuple[bytes, bytes], name: str) -> bytes:
        """The node's challenge."""
        said = self.begins(identity, networks)
        assert said[4] == IDENTITY
        said = self.says(said[1], IDENTITY, name.encode())
        assert said[0] == REQUEST and said[4:6] == bytes([MSCHAPV2, CHALLENGE]) and said[9] == 16, said.hex()
        return said

    @staticmethod
    def answer(challenge: bytes, name: str, password: str) -> bytes:
        """MSCHAPv2's data, of the right password."""
        own = os.urandom(16)
        return mschap(ANSWER, challenge[6], b"\x31" + own + bytes(8) + nt_response(challenge[10:26], own, name, password) + b"\0" + name.encode())


class ServerScript(SigningResponder):
    """The server, with a certificate; the node is the user, and has begun."""

    def begins(self, identity: bytes, own, code: int, number: int, kind: int | None = None, data: bytes = b"") -> None:
        """Proves itself, and says its first EAP packet."""
        self.answer_init([hashes_said(2)])
        self.receive_auth(1)
        signed = self.response + self.nonce_i + prf(self.pr, identity)
        self.reply([(IDR, identity), *proof(own, [], signed), packet(code, number, kind, data)])

    def receive_auth(self, number: int) -> list[tuple[int, bytes]]:
        """The node's IKE_AUTH of that message ID; what is sent again is passed over."""
        self.next_id = number
        while True:
            data = self.receive(AUTH)
            if int.from_bytes(data[20:24], "big") == number and data[:8] == self.spi_i:
                return self.open(data)

    def reply(self, payloads: list[tuple[int, bytes]]) -> None:
        self.send(self.seal(AUTH, self.next_id, payloads))

    def heard(self) -> bytes:
        """The node's next EAP packet."""
        return body(self.receive_auth(self.next_id + 1), EAP)

    def says(self, code: int, number: int, kind: int | None = None, data: bytes = b"") -> None:
        self.reply([packet(code, number, kind, data)])
