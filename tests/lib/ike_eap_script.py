"""EAP-TLS with TLS 1.3 (RFC 9190) at either end of IKE_AUTH, EAP alone (RFC 5998), for what strongSwan 5.9.8 does not have. TLS is Python's
ssl; fragments, AUTH and the key's formula are made here of the RFCs, the key from the exporter secret of TLS's key log."""
import hashlib
import hmac
import ipaddress
import os
import pathlib
import ssl
import struct
import time

from ike_script import AUTH, AUTH_PAYLOAD, ESP, IDI, IDR, TSI, TSR, ScriptedInitiator, ScriptedResponder, address_id, body, notify, prf, prf_plus, proposal
from netns import Namespace

EAP, EAP_TLS, EAP_ONLY = 48, 13, 16417
REQUEST, RESPONSE, SUCCESS, FAILURE = 1, 2, 3, 4
START, ACKNOWLEDGEMENT = b"\x20", b"\0"
FRAGMENT = 500


class TlsEnd:
    """`own`: files of certificate and key; `ca`: a file too."""

    def __init__(self, scratch: pathlib.Path, own: tuple[str, str], ca: str, server: bool):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(*own)
        context.load_verify_locations(ca)
        if server:
            context.num_tickets = 0
        self.log = scratch / f"tls-keys-{'server' if server else 'client'}-{time.monotonic_ns()}"
        context.keylog_filename = str(self.log)
        self.incoming, self.outgoing, self.shaken = ssl.MemoryBIO(), ssl.MemoryBIO(), False
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=server)

    def step(self, records: bytes) -> bytes:
        self.incoming.write(records)
        try:
            self.tls.do_handshake()
            self.shaken = True
        except ssl.SSLWantReadError:
            pass
        return self.outgoing.read()

    def says(self, data: bytes) -> bytes:
        self.tls.write(data)
        return self.outgoing.read()

    def hears(self, records: bytes) -> bytes:
        self.incoming.write(records)
        return self.tls.read(100)

    def msk(self) -> bytes:
        """RFC 9190 2.3, RFC 8446 7.1 and 7.5."""
        assert self.tls.version() == "TLSv1.3"
        kind = "sha384" if "SHA384" in self.tls.cipher()[0] else "sha256"
        secret = bytes.fromhex(next(line.split()[2] for line in self.log.read_text().splitlines() if line.startswith("EXPORTER_SECRET")))

        def expanded(key: bytes, label: str, context: bytes, size: int) -> bytes:
            name = b"tls13 " + label.encode()
            info = struct.pack("!HB", size, len(name)) + name + bytes([len(context)]) + context
            out = block = b""
            while len(out) < size:
                block = hmac.digest(key, block + info + bytes([len(out) // hashlib.new(kind).digest_size + 1]), kind)
                out += block
            return out[:size]

        empty = hashlib.new(kind, b"").digest()
        derived = expanded(secret, "EXPORTER_EAP_TLS_Key_Material", empty, len(empty))
        return expanded(derived, "exporter", hashlib.new(kind, bytes([EAP_TLS])).digest(), 128)[:64]


class Fragments:
    """Messages over `swap`, which sends one packet's data and returns the other end's next."""

    def swap(self, data: bytes) -> bytes:
        raise NotImplementedError

    def gathered(self, data: bytes) -> bytes:
        """The message that begins with this packet."""
        whole = b""
        while data:
            flags, at = data[0], 5 if data[0] & 0x80 else 1
            whole += data[at:]
            if not flags & 0x40:
                return whole
            data = self.swap(ACKNOWLEDGEMENT)
        return whole

    def delivered(self, message: bytes) -> bytes:
        """What answers the last of its fragments."""
        pieces = [message[at:at + FRAGMENT] for at in range(0, len(message), FRAGMENT)]
        for at, piece in enumerate(pieces):
            more = at + 1 < len(pieces)
            head = bytes([0xC0]) + struct.pack("!I", len(message)) if more and at == 0 else bytes([0x40 if more else 0])
            answer = self.swap(head + piece)
            assert not more or answer == ACKNOWLEDGEMENT, answer.hex()
        return answer


def packet(code: int, number: int, data: bytes = b"") -> tuple[int, bytes]:
    """An EAP payload; `data` of a request or response begins behind EAP-TLS's type."""
    inside = bytes([EAP_TLS]) + data if code in (REQUEST, RESPONSE) else b""
    return EAP, struct.pack("!BBH", code, number, 4 + len(inside)) + inside


def auth_by(msk: bytes, *signed: bytes) -> bytes:
    return b"\x02\0\0\0" + prf(prf(msk, b"Key Pad for IKEv2"), *signed)


def mixed(ppk: bytes | None, key: bytes) -> bytes:
    """RFC 8784 3."""
    return prf_plus(ppk, key, 32) if ppk else key


class EapTlsResponder(Fragments, ScriptedResponder):
    """The server; the node under test is the user."""

    def __init__(self, namespace: Namespace, address: str, tls: TlsEnd):
        super().__init__(namespace, address, "")
        self.tls, self.next_id, self.number = tls, 1, 0

    def next_request(self) -> list[tuple[int, bytes]]:
        """The next one; repetitions of the last are passed over."""
        while True:
            data = self.receive(AUTH)
            if int.from_bytes(data[20:24], "big") == self.next_id:
                return self.open(data)

    def reply(self, payloads: list[tuple[int, bytes]]) -> None:
        self.send(self.seal(AUTH, self.next_id, payloads))
        self.next_id += 1

    def begin(self, extra: list[tuple[int, bytes]] = ()) -> None:
        self.answer_init(extra)
        self.first = self.next_request()
        self.own = address_id(self.address)
        self.before = [(IDR, self.own)]

    def swap(self, data: bytes) -> bytes:
        self.number += 1
        self.reply(self.before + [packet(REQUEST, self.number, data)])
        self.before = []
        said = body(self.next_request(), EAP)
        assert said[0] == RESPONSE and said[1] == self.number and said[4] == EAP_TLS, said.hex()
        return said[5:]

    def handshake(self) -> None:
        said = self.swap(START)
        while not self.tls.shaken:
            out = self.tls.step(self.gathered(said))
            if out:
                said = self.delivered(out)

    def end(self, code: int = SUCCESS) -> None:
        self.reply([packet(code, self.number)])

    def finish(self, ppk: bytes | None = None, own_ppk: bytes | None = None, extra: list[tuple[int, bytes]] = ()) -> list[tuple[int, bytes]]:
        """AUTH of both ends: the node's by `ppk`, ours by `own_ppk`. What came with the node's; and what it would be without."""
        self.end()
        said, msk = self.next_request(), self.tls.msk()
        self.without = auth_by(msk, self.request, self.nonce_r, prf(self.pi, body(self.first, IDI)))
        assert body(said, AUTH_PAYLOAD) == auth_by(msk, self.request, self.nonce_r, prf(mixed(ppk, self.pi), body(self.first, IDI)))
        self.reply([(AUTH_PAYLOAD, auth_by(msk, self.response, self.nonce_i, prf(mixed(own_ppk, self.pr), self.own))),
                    proposal(ESP, os.urandom(4), [(1, 20, 128), (5, 0, 0)]), (TSI, body(self.first, TSI)), (TSR, body(self.first, TSR)), *extra])
        return said


def selectors(network: str) -> bytes:
    one = ipaddress.ip_network(network)
    return struct.pack("!BBHBBHHH", 1, 0, 0, 7, 0, 16, 0, 65535) + one[0].packed + one[-1].packed


class EapTlsInitiator(Fragments, ScriptedInitiator):
    """The user; the node under test is the server. `identity`: an FQDN."""

    def __init__(self, namespace: Namespace, address: str, node: str, identity: str, networks: tuple[str, str], tls: TlsEnd):
        super().__init__(namespace, address, node)
        self.tls, self.networks, self.ended = tls, networks, None
        self.own = b"\x02\0\0\0" + identity.encode()

    def eap(self, payloads: list[tuple[int, bytes]]) -> bytes:
        """The EAP packet that comes back; its number is kept."""
        self.last = self.exchange(payloads)
        said = body(self.last, EAP)
        self.number = said[1]
        return said

    def swap(self, data: bytes) -> bytes:
        said = self.eap([packet(RESPONSE, self.number, data)])
        if said[0] != REQUEST:
            self.ended = said[0]
            return b""
        return said[5:]

    def handshake(self) -> bytes:
        """The first message of the server's behind it."""
        near, far = self.networks
        said = self.eap([(IDI, self.own), notify(EAP_ONLY), proposal(ESP, os.urandom(4), [(1, 20, 128), (5, 0, 0)]), (TSI, selectors(near)),
                         (TSR, selectors(far))])
        self.theirs = body(self.last, IDR)
        assert said[4:] == bytes([EAP_TLS]) + START, said.hex()
        records = b""
        while not self.tls.shaken:
            out = self.tls.step(records)
            records = self.gathered(self.delivered(out))
        return records

    def finish(self) -> list[tuple[int, bytes]]:
        """AUTH of both ends; what came with the node's."""
        said = self.prove(self.auth())
        assert body(said, AUTH_PAYLOAD) == self.auth_of_node()
        return said

    def prove(self, auth: bytes, extra: list[tuple[int, bytes]] = ()) -> list[tuple[int, bytes]]:
        """AUTH, once EAP is through, and what answers it."""
        assert self.swap(ACKNOWLEDGEMENT) == b"" and self.ended == SUCCESS
        return self.exchange([(AUTH_PAYLOAD, auth), *extra])

    def auth(self, ppk: bytes | None = None) -> bytes:
        return auth_by(self.tls.msk(), self.init, self.nonce_r, prf(mixed(ppk, self.pi), self.own))

    def auth_of_node(self, ppk: bytes | None = None) -> bytes:
        return auth_by(self.tls.msk(), self.response, self.nonce_i, prf(mixed(ppk, self.pr), self.theirs))
