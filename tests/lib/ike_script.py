"""Either end of IKEv2, saying what a test wants, for what strongSwan cannot say. Made of the RFC and Python's cryptography alone.

They speak one suite (aes128-sha256-x25519, shared key) from one socket on port 500, without NAT detection, and have no data plane.
"""
import dataclasses
import hashlib
import hmac
import os
import socket
import struct
import time

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from netns import Namespace

SA_INIT, AUTH, CREATE_CHILD, INFORMATIONAL = 34, 35, 36, 37
SA, KE, IDI, IDR, AUTH_PAYLOAD, NONCE, NOTIFY, DELETE, TSI, TSR, SK, CP, SKF = 33, 34, 35, 36, 39, 40, 41, 42, 44, 45, 46, 47, 53
IKE, ESP = 1, 3
INVALID_IKE_SPI, SINGLE_PAIR_REQUIRED, TS_UNACCEPTABLE, REKEY_SA = 4, 34, 38, 16393
SET_WINDOW_SIZE, ADDITIONAL_TS_POSSIBLE, NON_FIRST_FRAGMENTS_ALSO = 16385, 16386, 16395
REDIRECT_SUPPORTED, REDIRECT, REDIRECTED_FROM, QCD_TOKEN = 16406, 16407, 16408, 16419
ICV = 16


def prf(key: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, b"".join(parts), hashlib.sha256)


def prf_plus(key: bytes, seed: bytes, size: int) -> bytes:
    """RFC 7296 2.13."""
    out = block = b""
    while len(out) < size:
        block = prf(key, block, seed, bytes([len(out) // 32 + 1]))
        out += block
    return out[:size]


def chain(payloads: list[tuple[int, bytes]]) -> tuple[int, bytes]:
    """The first type, and the payloads with their generic headers."""
    out = b""
    for at, (_, body) in enumerate(payloads):
        following = payloads[at + 1][0] if at + 1 < len(payloads) else 0
        out += struct.pack("!BBH", following, 0, 4 + len(body)) + body
    return payloads[0][0] if payloads else 0, out


def unchain(kind: int, data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while kind:
        following, _, length = struct.unpack_from("!BBH", data)
        found.append((kind, data[4:length]))
        kind, data = following, data[length:]
    return found


def notify(kind: int, data: bytes = b"") -> tuple[int, bytes]:
    return NOTIFY, struct.pack("!BBH", 0, 0, kind) + data


def rekey_of(spi: str) -> tuple[int, bytes]:
    """`spi`: as shows print it, of the SA that the sender receives by."""
    return NOTIFY, struct.pack("!BBHI", ESP, 4, REKEY_SA, int(spi, 16))


def notifies(payloads: list[tuple[int, bytes]]) -> dict[int, bytes]:
    return {int.from_bytes(body[2:4], "big"): body[4 + body[1]:] for kind, body in payloads if kind == NOTIFY}


def body(payloads: list[tuple[int, bytes]], kind: int) -> bytes:
    return next(data for one, data in payloads if one == kind)


def proposal(protocol: int, spi: bytes, transforms: list[tuple[int, int, int]]) -> tuple[int, bytes]:
    """An SA payload of one proposal; a transform is (type, id, key bits or 0)."""
    made = b""
    for at, (kind, number, bits) in enumerate(transforms):
        attribute = struct.pack("!HH", 0x800E, bits) if bits else b""
        more = 3 if at + 1 < len(transforms) else 0
        made += struct.pack("!BBHBBH", more, 0, 8 + len(attribute), kind, 0, number) + attribute
    return SA, struct.pack("!BBHBBBB", 0, 0, 8 + len(spi) + len(made), 1, protocol, len(spi), len(transforms)) + spi + made


def selectors(*ranges: tuple[str, str]) -> bytes:
    """A TS payload of IPv4 ranges, all protocols and ports."""
    each = [struct.pack("!BBHHH", 7, 0, 16, 0, 65535) + socket.inet_aton(first) + socket.inet_aton(last) for first, last in ranges]
    return struct.pack("!BBH", len(each), 0, 0) + b"".join(each)


def ranges_of(payload: bytes) -> list[tuple[str, str]]:
    return [(socket.inet_ntoa(payload[at + 8:at + 12]), socket.inet_ntoa(payload[at + 12:at + 16])) for at in range(4, len(payload), 16)]


def address_id(address: str) -> bytes:
    return b"\x01\0\0\0" + socket.inet_aton(address)


def opened(data: bytes, cipher_key: bytes, integrity_key: bytes) -> list[tuple[int, bytes]]:
    """What is inside a protected message of the one suite."""
    assert data[16] == SK and hmac.compare_digest(prf(integrity_key, data[:-ICV])[:ICV], data[-ICV:]), "protected by the keys"
    decryptor = Cipher(algorithms.AES(cipher_key), modes.CBC(data[32:48])).decryptor()
    clear = decryptor.update(data[48:-ICV]) + decryptor.finalize()
    return unchain(data[28], clear[:len(clear) - 1 - clear[-1]])


def encrypted(clear: bytes, cipher_key: bytes) -> bytes:
    """Behind its IV."""
    clear += bytes(15 - len(clear) % 16) + bytes([15 - len(clear) % 16])
    iv = os.urandom(16)
    encryptor = Cipher(algorithms.AES(cipher_key), modes.CBC(iv)).encryptor()
    return iv + encryptor.update(clear) + encryptor.finalize()


@dataclasses.dataclass
class Sealer:
    """Of one message: its SPIs, exchange, flags and number, and the sender's keys."""
    spis: bytes
    exchange: int
    flags: int
    message_id: int
    cipher_key: bytes
    integrity_key: bytes

    def seal(self, payloads: list[tuple[int, bytes]]) -> bytes:
        kind, clear = chain(payloads)
        return self._sealed(SK, kind, b"", clear)

    def seal_fragments(self, payloads: list[tuple[int, bytes]], total: int) -> list[bytes]:
        """RFC 7383 2.5: as many as that."""
        kind, clear = chain(payloads)
        size = -(-len(clear) // total)
        return [self.fragment(kind if at == 0 else 0, at + 1, total, clear[at * size:(at + 1) * size]) for at in range(total)]

    def fragment(self, kind: int, number: int, total: int, part: bytes) -> bytes:
        return self._sealed(SKF, kind, struct.pack("!HH", number, total), part)

    def _sealed(self, first: int, kind: int, place: bytes, clear: bytes) -> bytes:
        inside = encrypted(clear, self.cipher_key)
        size = 4 + len(place) + len(inside) + ICV
        head = self.spis + struct.pack("!BBBBIIBBH", first, 0x20, self.exchange, self.flags, self.message_id, 28 + size, kind, 0, size) + place
        return head + inside + prf(self.integrity_key, head, inside)[:ICV]


class ScriptedResponder:
    """At `address` in `namespace`; the node under test begins. Its methods are in the order of an exchange's steps."""

    def __init__(self, namespace: Namespace, address: str, psk: str, port: int = 500):
        self.address, self.psk = address, psk.encode()
        self.socket = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((address, port))
        self.spi_i = self.spi_r = b""
        self.own_requests = 0
        self.peer: tuple[str, int] | None = None

    def __enter__(self) -> "ScriptedResponder":
        return self

    def __exit__(self, *_) -> None:
        self.socket.close()

    # -- datagrams

    def receive(self, exchange: int, seconds: float = 8, response: bool = False) -> bytes:
        """The next message of that kind; others are passed over."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                data, self.peer = self.socket.recvfrom(65535)
            except TimeoutError:
                break
            if len(data) >= 28 and data[18] == exchange and bool(data[19] & 0x20) is response:
                return data
        raise AssertionError(f"no message of exchange {exchange} within {seconds} s")

    def silent(self, seconds: float) -> bool:
        """Nothing comes."""
        self.socket.settimeout(seconds)
        try:
            self.socket.recvfrom(65535)
        except TimeoutError:
            return True
        return False

    def send(self, data: bytes) -> None:
        self.socket.sendto(data, self.peer)

    def header(self, kind: int, exchange: int, flags: int, message_id: int, size: int, spi_r: bytes | None = None) -> bytes:
        return self.spi_i + (self.spi_r if spi_r is None else spi_r) + struct.pack("!BBBBII", kind, 0x20, exchange, flags, message_id, 28 + size)

    def plain(self, exchange: int, message_id: int, payloads: list[tuple[int, bytes]], spi_r: bytes | None = None) -> bytes:
        """An answer that nothing protects."""
        kind, data = chain(payloads)
        return self.header(kind, exchange, 0x20, message_id, len(data), spi_r) + data

    def sealer(self, exchange: int, message_id: int, response: bool = True) -> Sealer:
        return Sealer(self.spi_i + self.spi_r, exchange, 0x20 if response else 0, message_id, self.er, self.ar)

    def seal(self, exchange: int, message_id: int, payloads: list[tuple[int, bytes]], response: bool = True) -> bytes:
        return self.sealer(exchange, message_id, response).seal(payloads)

    def open(self, data: bytes) -> list[tuple[int, bytes]]:
        return opened(data, self.ei, self.ai)

    # -- exchanges

    def answer_init(self, extra: list[tuple[int, bytes]] = (), request: bytes | None = None) -> list[tuple[int, bytes]]:
        """What the request said."""
        self.request = request or self.receive(SA_INIT)
        said = unchain(self.request[16], self.request[28:])
        self.spi_i, self.spi_r = self.request[:8], os.urandom(8)
        own, self.nonce_i, self.nonce_r = X25519PrivateKey.generate(), body(said, NONCE), os.urandom(32)
        shared = own.exchange(X25519PublicKey.from_public_bytes(body(said, KE)[4:]))
        material = prf_plus(prf(self.nonce_i + self.nonce_r, shared), self.nonce_i + self.nonce_r + self.spi_i + self.spi_r, 5 * 32 + 2 * 16)
        self.d, self.ai, self.ar, self.ei, self.er, self.pi, self.pr = (
            material[a:b] for a, b in ((0, 32), (32, 64), (64, 96), (96, 112), (112, 128), (128, 160), (160, 192)))
        public = own.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.response = self.plain(SA_INIT, 0, [proposal(IKE, b"", [(1, 12, 128), (2, 5, 0), (3, 12, 0), (4, 31, 0)]),
                                                (KE, struct.pack("!HH", 31, 0) + public), (NONCE, self.nonce_r), *extra])
        self.send(self.response)
        return said

    def child(self, said: list[tuple[int, bytes]], tsi: bytes | None = None, tsr: bytes | None = None) -> list[tuple[int, bytes]]:
        """A child SA for what was asked for, or for less of it."""
        return [proposal(ESP, os.urandom(4), [(1, 20, 128), (5, 0, 0)]), (TSI, tsi or body(said, TSI)), (TSR, tsr or body(said, TSR))]

    def answer_child(self, extra: list[tuple[int, bytes]] = (), tsi: bytes | None = None, tsr: bytes | None = None,
                     refused: int | None = None, seconds: float = 8) -> list[tuple[int, bytes]]:
        """The next CREATE_CHILD_SA, without a key exchange: what it said."""
        request = self.receive(CREATE_CHILD, seconds)
        said = self.open(request)
        made = [notify(refused)] if refused else [(NONCE, os.urandom(32)), *self.child(said, tsi, tsr)]
        self.send(self.seal(CREATE_CHILD, int.from_bytes(request[20:24], "big"), made + list(extra)))
        return said

    def ask(self, exchange: int, payloads: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """A request of this end's, and what it is answered."""
        self.send(self.seal(exchange, self.own_requests, payloads, response=False))
        self.own_requests += 1
        return self.open(self.receive(exchange, response=True))

    def answer_auth(self, extra: list[tuple[int, bytes]] = (), child: bool = True, check: bool = True, tsi: bytes | None = None,
                    tsr: bytes | None = None) -> list[tuple[int, bytes]]:
        """What the request said; its AUTH is checked, unless it is made by other keys. The child's selectors are those that were asked for."""
        said = self.open(self.receive(AUTH))
        self.send(self.seal(AUTH, 1, self.proof(said, child, check, tsi, tsr) + list(extra)))
        return said

    def proof(self, said: list[tuple[int, bytes]], child: bool = True, check: bool = True, tsi: bytes | None = None,
              tsr: bytes | None = None) -> list[tuple[int, bytes]]:
        """What answers IKE_AUTH's request."""
        padded = prf(self.psk, b"Key Pad for IKEv2")
        assert not check or body(said, AUTH_PAYLOAD) == b"\x02\0\0\0" + prf(padded, self.request, self.nonce_r, prf(self.pi, body(said, IDI)))
        own = address_id(self.address)
        made = [(IDR, own), (AUTH_PAYLOAD, b"\x02\0\0\0" + prf(padded, self.response, self.nonce_i, prf(self.pr, own)))]
        return made + self.child(said, tsi, tsr) if child else made


class ScriptedInitiator:
    """At `address` in `namespace`; `node` is the address of the node under test, which answers."""

    def __init__(self, namespace: Namespace, address: str, node: str, psk: str = ""):
        self.address, self.node, self.psk, self.next_id = address, node, psk.encode(), 0
        self.socket = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((address, 500))
        self.socket.settimeout(8)

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.socket.close()

    def asked(self, data: bytes) -> bytes:
        """The answer."""
        self.socket.sendto(data, (self.node, 500))
        while True:
            answer = self.socket.recv(65535)
            if answer[18] == data[18] and answer[19] & 0x20 and answer[20:24] == data[20:24]:
                return answer

    def begin(self, extra: list[tuple[int, bytes]] = ()) -> list[tuple[int, bytes]]:
        """IKE_SA_INIT: what the answer says, and keys where it is more than a notify."""
        own, self.nonce_i, self.spi_i = X25519PrivateKey.generate(), os.urandom(32), os.urandom(8)
        public = own.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        kind, clear = chain([proposal(IKE, b"", [(1, 12, 128), (2, 5, 0), (3, 12, 0), (4, 31, 0)]),
                             (KE, struct.pack("!HH", 31, 0) + public), (NONCE, self.nonce_i), *extra])
        self.init = self.spi_i + bytes(8) + struct.pack("!BBBBII", kind, 0x20, SA_INIT, 0x08, 0, 28 + len(clear)) + clear
        self.response = self.asked(self.init)
        self.spi_r, said = self.response[8:16], unchain(self.response[16], self.response[28:])
        if all(one == NOTIFY for one, _ in said):
            return said
        self.nonce_r, shared = body(said, NONCE), own.exchange(X25519PublicKey.from_public_bytes(body(said, KE)[4:]))
        material = prf_plus(prf(self.nonce_i + self.nonce_r, shared), self.nonce_i + self.nonce_r + self.spi_i + self.spi_r, 5 * 32 + 2 * 16)
        self.ai, self.ar, self.ei, self.er, self.pi, self.pr = (
            material[a:b] for a, b in ((32, 64), (64, 96), (96, 112), (112, 128), (128, 160), (160, 192)))
        return said

    def sealer(self, of: int = AUTH) -> Sealer:
        """Of the next request."""
        self.next_id += 1
        return Sealer(self.spi_i + self.spi_r, of, 0x08, self.next_id, self.ei, self.ai)

    def exchange(self, payloads: list[tuple[int, bytes]], of: int = AUTH) -> list[tuple[int, bytes]]:
        return self.open(self.asked(self.sealer(of).seal(payloads)))

    def open(self, data: bytes) -> list[tuple[int, bytes]]:
        return opened(data, self.er, self.ar)

    def authenticate(self, tsi: bytes, tsr: bytes, extra: list[tuple[int, bytes]] = ()) -> list[tuple[int, bytes]]:
        """IKE_AUTH by the shared key, of addresses: what the answer says; its AUTH is checked."""
        said = self.exchange([*self.proof(tsi, tsr), *extra])
        self.check(said)
        return said

    def proof(self, tsi: bytes, tsr: bytes) -> list[tuple[int, bytes]]:
        """What IKE_AUTH's request holds."""
        own, padded = address_id(self.address), prf(self.psk, b"Key Pad for IKEv2")
        return [(IDI, own), (AUTH_PAYLOAD, b"\x02\0\0\0" + prf(padded, self.init, self.nonce_r, prf(self.pi, own))),
                proposal(ESP, os.urandom(4), [(1, 20, 128), (5, 0, 0)]), (TSI, tsi), (TSR, tsr)]

    def check(self, said: list[tuple[int, bytes]]) -> None:
        """The node's AUTH."""
        padded = prf(self.psk, b"Key Pad for IKEv2")
        assert body(said, AUTH_PAYLOAD) == b"\x02\0\0\0" + prf(padded, self.response, self.nonce_i, prf(self.pr, body(said, IDR)))
