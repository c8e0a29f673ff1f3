"""The oracle: scapy, which shares no code with Postern, opens what was captured with the keys the test chose."""
import collections
import dataclasses
import pathlib
import secrets

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scapy.config import conf
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, IPSecIntegrityError, SecurityAssociation
from scapy.layers.l2 import ARP, Ether
from scapy.utils import PcapReader

import safety
from documents import SCAPY_AUTH, Sa

conf.verb = 0
NAT_TRAVERSAL = 4500


def association(sa: Sa, source: str = "192.0.2.1", destination: str = "192.0.2.2", **header) -> SecurityAssociation:
    """A scapy SA that seals from `source` to `destination`, and opens what was sealed with the same keys."""
    outer = IPv6 if ":" in source else IP
    return SecurityAssociation(ESP, spi=sa.spi, crypt_algo="AES-CBC", crypt_key=sa.cipher_key, auth_algo=SCAPY_AUTH[sa.transforms[1]],
                               auth_key=sa.auth_key, tunnel_header=outer(src=source, dst=destination, **header))


def esp_bytes(packet) -> bytes | None:
    """The ESP packet inside an IP packet: protocol 50, or UDP 4500 with a non-zero SPI (RFC 3948 2.1)."""
    if isinstance(packet, IP):
        protocol, payload = packet.proto, bytes(packet.payload)
    else:
        protocol, payload = packet.nh, bytes(packet.payload)
    if protocol == 50:
        return payload
    if protocol == 17 and len(payload) > 12:
        ports = {int.from_bytes(payload[0:2], "big"), int.from_bytes(payload[2:4], "big")}
        if NAT_TRAVERSAL in ports and payload[8:12] != bytes(4):
            return payload[8:]
    return None


@dataclasses.dataclass
class Opened:
    spi: int
    sequence: int
    outer: object   # scapy IP or IPv6, as captured
    inner: object   # scapy IP or IPv6
    time: float


@dataclasses.dataclass
class Findings(safety.Watched):
    """What a capture held. `repeated`: (spi, sequence) used more than once. `clear`: IP packets that are not ESP."""
    opened: list[Opened] = dataclasses.field(default_factory=list)
    clear: list = dataclasses.field(default_factory=list)
    unknown_spi: list[int] = dataclasses.field(default_factory=list)
    refused: list[str] = dataclasses.field(default_factory=list)
    repeated: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    other: int = 0  # ARP and frames that are not IP

    def spis(self) -> set[int]:
        """SPIs that carried a host's packets: a tunnel's kernel sends its own MLD and router solicitations when it comes up."""
        return {one.spi for one in self.opened if not is_control(one.inner)}

    def assert_protected(self) -> None:
        """Every IP packet was ESP that opened, and no sequence number was used twice."""
        self.assert_safe()
        assert not self.unknown_spi, f"ESP with unknown SPIs {sorted(set(self.unknown_spi))}"
        assert not self.refused, f"{len(self.refused)} packets did not open: {self.refused[0]}"


def is_control(packet) -> bool:
    """Neighbour discovery, MLD and IGMP: what keeps the wire alive and is never protected (hop limit 255, or of this link alone)."""
    if not isinstance(packet, IPv6):
        return packet.proto == 2 and packet.ttl == 1 and packet.dst.startswith("224.0.0.")
    payload = bytes(packet.payload)
    if packet.nh == 0:  # MLD comes behind a hop-by-hop header with the router alert option
        return len(payload) > 8 and payload[0] == 58 and payload[8] in (130, 131, 132, 143)
    return packet.nh == 58 and packet.hlim == 255 and payload[:1] and payload[0] in range(133, 138)


class Oracle:
    """Knows the SAs by SPI. Equal SPIs towards different destinations need `by_destination` keys (spi, destination)."""

    def __init__(self, sas: list[Sa]):
        self._sas = {sa.spi: sa for sa in sas}

    def examine(self, frames) -> Findings:
        """`frames`: scapy Ether packets, in order of capture."""
        found = Findings()
        used: collections.Counter = collections.Counter()
        for frame in frames:
            packet = frame.getlayer(IP) if frame.haslayer(IP) and frame.type == 0x0800 else frame.getlayer(IPv6)
            if frame.type not in (0x0800, 0x86DD) or packet is None or frame.haslayer(ARP) or is_control(packet):
                found.other += 1
                continue
            self._examine_packet(packet, float(frame.time), found, used)
        found.repeated = [key for key, times in used.items() if times > 1]
        return found

    def examine_file(self, path: pathlib.Path) -> Findings:
        with PcapReader(str(path)) as reader:
            return self.examine(reader)

    def _examine_packet(self, packet, time: float, found: Findings, used: collections.Counter) -> None:
        sealed = esp_bytes(packet)
        if sealed is None:
            found.clear.append(packet)
            return
        spi, sequence = int.from_bytes(sealed[0:4], "big"), int.from_bytes(sealed[4:8], "big")
        sa = self._sas.get(spi)
        if sa is None:
            found.unknown_spi.append(spi)
            return
        used[spi, sequence] += 1
        try:
            inner = open_esp(sa, sealed)
        except (IPSecIntegrityError, ValueError, IndexError) as error:
            found.refused.append(f"spi {spi} sequence {sequence}: {error!r}")
            return
        found.opened.append(Opened(spi, sequence, packet, inner, time))


def open_esp(sa: Sa, sealed: bytes):
    """The inner packet; raises IPSecIntegrityError when the ICV does not match."""
    carrier = IP(src="192.0.2.1", dst="192.0.2.2", proto=50) / ESP(sealed)
    return association(sa).decrypt(carrier)


def seal_bytes(sa: Sa, sequence: int, clear: bytes, next_header: int, padding: bytes | None = None, pad_length: int | None = None) -> bytes:
    """An ESP packet with a trailer of the test's choice: wrong padding, wrong lengths, dummies. The ICV is right."""
    if padding is None:
        padding = bytes(range(1, 1 + -(len(clear) + 2) % 16))
    body = clear + padding + bytes([len(padding) if pad_length is None else pad_length, next_header])
    iv = secrets.token_bytes(16)
    encryptor = Cipher(algorithms.AES(sa.cipher_key), modes.CBC(iv)).encryptor()
    sealed = sa.spi.to_bytes(4, "big") + sequence.to_bytes(4, "big") + iv + encryptor.update(body) + encryptor.finalize()
    digest, length = {"esp-sha-hmac": (hashes.SHA1(), 12), "esp-sha256-hmac": (hashes.SHA256(), 16)}[sa.transforms[1]]
    authenticator = hmac.HMAC(sa.auth_key, digest)
    authenticator.update(sealed)
    return sealed + authenticator.finalize()[:length]


def inner_payload(packet) -> bytes:
    """What an inner UDP packet carries."""
    return bytes(packet[UDP].payload) if packet.haslayer(UDP) else b""
