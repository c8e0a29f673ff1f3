"""What a capture between two IKEv2 gateways holds: IKE messages, ESP native or in UDP, keepalives, and what should not be there.

Reads bytes on its own (RFC 7296 3.1, RFC 3948 2) and shares no code with Postern; what is encrypted is opened by tshark with
the keys that strongSwan's log tells (`log={"ike": 4}`).
"""
import collections
import dataclasses
import json
import re
import pathlib

from scapy.layers.inet import IP, UDP, ICMP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether  # noqa: F401  (PcapReader finds it by its link type once it is imported)

import safety
from netns import run
from oracle import is_control

SA_INIT, AUTH, CREATE_CHILD, INFORMATIONAL = 34, 35, 36, 37
PAYLOAD_SA, PAYLOAD_KE, PAYLOAD_NONCE, PAYLOAD_NOTIFY, PAYLOAD_DELETE, PAYLOAD_SK = 33, 34, 40, 41, 42, 46
NO_PROPOSAL_CHOSEN, INVALID_KE, AUTHENTICATION_FAILED, TS_UNACCEPTABLE, COOKIE, INITIAL_CONTACT, REKEY_SA = 14, 17, 24, 38, 16390, 16384, 16393
ESP_PROTOCOL, AH_PROTOCOL, UDP_PROTOCOL = 50, 51, 17


@dataclasses.dataclass(frozen=True)
class IkeMessage:
    source: str
    sport: int
    destination: str
    dport: int
    time: float
    data: bytes  # without the non-ESP marker

    @property
    def spis(self) -> tuple[str, str]:
        return self.data[:8].hex(), self.data[8:16].hex()

    @property
    def exchange(self) -> int:
        return self.data[18]

    @property
    def response(self) -> bool:
        return bool(self.data[19] & 0x20)

    @property
    def from_initiator(self) -> bool:
        return bool(self.data[19] & 0x08)

    @property
    def message_id(self) -> int:
        return int.from_bytes(self.data[20:24], "big")

    def payloads(self) -> list[tuple[int, bytes]]:
        """(type, body) as far as they are in clear; SK is the last one."""
        found, kind, at = [], self.data[16], 28
        while kind and at + 4 <= len(self.data):
            length = int.from_bytes(self.data[at + 2:at + 4], "big")
            found.append((kind, self.data[at + 4:at + length]))
            if kind == PAYLOAD_SK or length < 4:
                break
            kind, at = self.data[at], at + length
        return found

    def notifies(self) -> dict[int, bytes]:
        """Type to data, of the notify payloads in clear."""
        return {int.from_bytes(body[2:4], "big"): body[4 + body[1]:] for kind, body in self.payloads() if kind == PAYLOAD_NOTIFY}

    def proposals(self) -> list[dict[int, list[tuple[int, int]]]]:
        """Of the SA payload (RFC 7296 3.3): of each proposal the transforms by type, in order, as (number, key bits or 0)."""
        body = next(body for kind, body in self.payloads() if kind == PAYLOAD_SA)
        return [_transforms(body[at:end]) for at, end in _substructures(body)]

    def group(self) -> int | None:
        """Of the KE payload."""
        return next((int.from_bytes(body[:2], "big") for kind, body in self.payloads() if kind == PAYLOAD_KE), None)


def _substructures(data: bytes, at: int = 0) -> list[tuple[int, int]]:
    """Where each of a list begins and ends: 0 in the first byte says that it is the last."""
    found, last = [], False
    while not last:
        last, length = data[at] == 0, int.from_bytes(data[at + 2:at + 4], "big")
        found.append((at, at + length))
        at += length
    assert at == len(data), "the list fills what it is in"
    return found


def _transforms(proposal: bytes) -> dict[int, list[tuple[int, int]]]:
    made: dict[int, list[tuple[int, int]]] = {}
    for at, end in _substructures(proposal, 8 + proposal[6]):
        attributes = proposal[at + 8:end]
        assert attributes[:2] in (b"", b"\x80\x0e") and len(attributes) in (0, 4), "the key length, or none"
        made.setdefault(proposal[at + 4], []).append((int.from_bytes(proposal[at + 6:at + 8], "big"), int.from_bytes(attributes[2:], "big")))
    return made


@dataclasses.dataclass
class Wire(safety.Watched):
    """`esp`: (source, destination, SPI, in UDP); `first_esp`: when the first one went to each destination. `ah`: as `esp` without the last. `clear`: IP packets that are none of what may be there."""
    ike: list[IkeMessage] = dataclasses.field(default_factory=list)
    esp: list[tuple[str, str, int, bool]] = dataclasses.field(default_factory=list)
    first_esp: dict[str, float] = dataclasses.field(default_factory=dict)
    ah: list[tuple[str, str, int]] = dataclasses.field(default_factory=list)
    clear: list = dataclasses.field(default_factory=list)
    repeated: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    keepalives: int = 0
    other: int = 0

    def exchanges(self, exchange: int, response: bool = False) -> list[IkeMessage]:
        """The messages that began them (or answered), each once: a machine that is late has them sent again (RFC 7296 2.1)."""
        return list({one.data: one for one in reversed(self.ike) if one.exchange == exchange and one.response == response}.values())[::-1]

    def spis(self) -> set[int]:
        return {spi for _, _, spi, _ in self.esp}

    def assert_protected(self, least: int = 1) -> None:
        self.assert_safe()
        assert len(self.esp) + len(self.ah) >= least, f"{len(self.esp)} ESP, {len(self.ah)} AH packets: the check saw no traffic"


def read(frames, gateways: tuple[str, ...] = ()) -> Wire:
    """`gateways`: between these addresses ICMP is allowed (errors, ping of the outside itself)."""
    wire, used = Wire(), collections.Counter()
    for frame in frames:
        packet = frame.getlayer(IP) if frame.type == 0x0800 else frame.getlayer(IPv6) if frame.type == 0x86DD else None
        if packet is None or is_control(packet):
            wire.other += 1
            continue
        protocol, payload = (packet.proto if isinstance(packet, IP) else packet.nh), bytes(packet.payload)
        kind, data = _kind(protocol, payload)
        if kind == "ike":
            wire.ike.append(IkeMessage(packet.src, packet[UDP].sport, packet.dst, packet[UDP].dport, float(frame.time), data))
        elif kind.startswith("esp"):
            spi = int.from_bytes(data[:4], "big")
            wire.esp.append((packet.src, packet.dst, spi, kind == "esp-udp"))
            wire.first_esp.setdefault(packet.dst, float(frame.time))
            used[spi, int.from_bytes(data[4:8], "big")] += 1
        elif kind == "ah":
            spi = int.from_bytes(data[4:8], "big")
            wire.ah.append((packet.src, packet.dst, spi))
            used[spi, int.from_bytes(data[8:12], "big")] += 1
        elif kind == "keepalive":
            wire.keepalives += 1
        elif packet.haslayer(ICMP) and packet.src in gateways and packet.dst in gateways:
            wire.other += 1
        else:
            wire.clear.append(packet)
    wire.repeated = [key for key, times in used.items() if times > 1]
    return wire


def _kind(protocol: int, payload: bytes) -> tuple[str, bytes]:
    if protocol == ESP_PROTOCOL:
        return "esp", payload
    if protocol == AH_PROTOCOL:
        return "ah", payload
    if protocol != UDP_PROTOCOL or len(payload) < 9:
        return "clear", payload
    ports, data = {int.from_bytes(payload[0:2], "big"), int.from_bytes(payload[2:4], "big")}, payload[8:]
    if 4500 in ports:
        if data == b"\xff":
            return "keepalive", data
        if data[:4] == bytes(4):
            return ("ike", data[4:]) if len(data) >= 32 and data[21] == 0x20 else ("clear", payload)
        return "esp-udp", data
    return ("ike", data) if 500 in ports and len(data) >= 28 and data[17] == 0x20 else ("clear", payload)


# -- what is inside SK

SECRET = re.compile(r"Sk_(ai|ar|ei|er) secret => (\d+) bytes[^\n]*\n((?:[^\n]*\[IKE\]\s+\d+:[^\n]*\n)+)")
CIPHERS = {("AES_CBC", "128"): "AES-CBC-128 [RFC3602]", ("AES_CBC", "192"): "AES-CBC-192 [RFC3602]", ("AES_CBC", "256"): "AES-CBC-256 [RFC3602]",
           ("AES_GCM_16", "128"): "AES-GCM-128 with 16 octet ICV [RFC5282]", ("AES_GCM_16", "256"): "AES-GCM-256 with 16 octet ICV [RFC5282]"}
INTEGRITY = {"HMAC_SHA1_96": "HMAC_SHA1_96 [RFC2404]", "HMAC_SHA2_256_128": "HMAC_SHA2_256_128 [RFC4868]",
             "HMAC_SHA2_384_192": "HMAC_SHA2_384_192 [RFC4868]", "HMAC_SHA2_512_256": "HMAC_SHA2_512_256 [RFC4868]", None: "NONE [RFC4306]"}


def secrets_of(log: str) -> list[dict[str, str]]:
    """SK_ei, SK_er, SK_ai, SK_ar in hex, one dict for each IKE SA, in the log's order."""
    found: list[dict[str, str]] = []
    for which, length, lines in SECRET.findall(log):
        data = "".join(re.findall(r"\[IKE\]\s+\d+: ((?:[0-9A-F]{2} ){1,16})", lines)).replace(" ", "")[:int(length) * 2]
        if not found or which in found[-1]:
            found.append({})
        found[-1][which] = data.lower()
    return found


def decrypted(pcap: pathlib.Path, sa: dict, keys: dict[str, str]) -> list[dict]:
    """`sa`: of StrongSwan.sas(). Every message of that IKE SA as tshark sees it: {"exchange", "id", "response", "payloads", "notifies"}."""
    row = [sa["initiator-spi"], sa["responder-spi"], keys["ei"], keys["er"], CIPHERS[sa["encr-alg"], sa["encr-keysize"]],
           keys.get("ai", ""), keys.get("ar", ""), INTEGRITY[sa.get("integ-alg")]]
    table = ",".join(f'"{one}"' if "[" in one else one for one in row)
    fields = ["isakmp.exchangetype", "isakmp.messageid", "isakmp.flag_r", "isakmp.typepayload", "isakmp.notify.msgtype", "isakmp.ispi"]
    words = ["tshark", "-r", pcap, "-o", f"uat:ikev2_decryption_table:{table}", "-Y", "isakmp", "-T", "json", *[w for f in fields for w in ("-e", f)]]
    found = []
    for packet in json.loads(run(words, timeout=60).stdout):
        layers = packet["_source"]["layers"]
        if layers["isakmp.ispi"][0] != sa["initiator-spi"]:
            continue
        found.append({"exchange": int(layers["isakmp.exchangetype"][0]), "id": int(layers["isakmp.messageid"][0], 0),
                      "response": layers["isakmp.flag_r"][0] in ("1", "True"), "payloads": [int(one) for one in layers["isakmp.typepayload"]],
                      "notifies": [int(one) for one in layers.get("isakmp.notify.msgtype", [])]})
    return found
