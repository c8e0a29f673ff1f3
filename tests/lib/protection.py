"""AH, ESP or AH around ESP with manual keys, in tunnel or transport mode: the keys of both ends, and scapy as one of them."""
import dataclasses
import secrets

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import AH, ESP, SecurityAssociation
from scapy.packet import Raw

import documents

AH_KEY = {"ah-sha-hmac": ("HMAC-SHA1-96", 20), "ah-sha256-hmac": ("SHA2-256-128", 32), "ah-sha384-hmac": ("SHA2-384-192", 48),
          "ah-sha512-hmac": ("SHA2-512-256", 64), "ah-aes-cmac": ("AES-CMAC-96", 16), "ah-aes-xcbc-mac": (None, 16), "ah-md5-hmac": ("HMAC-MD5-96", 16)}
KERNEL_AH = {"ah-sha-hmac": ("hmac(sha1)", 96), "ah-sha256-hmac": ("hmac(sha256)", 128), "ah-sha384-hmac": ("hmac(sha384)", 192),
             "ah-sha512-hmac": ("hmac(sha512)", 256), "ah-aes-cmac": ("cmac(aes)", 96), "ah-aes-xcbc-mac": ("xcbc(aes)", 96),
             "ah-md5-hmac": ("hmac(md5)", 96)}


@dataclasses.dataclass(frozen=True)
class OneWay:
    """The SAs of one direction; either half may be None. Both have the same SPI (TS-57), and what is compressed has it as its CPI."""
    spi: int
    esp: documents.Sa | None
    ah_key: bytes | None
    ah_word: str | None
    compresses: bool = False

    def as_json(self) -> dict:
        out = self.esp.as_json() if self.esp else {}
        out |= {"comp": {"cpi": self.spi}} if self.compresses else {}
        return out | ({"ah": {"spi": self.spi, "key": self.ah_key.hex()}} if self.ah_key else {})


def one_way(spi: int, transforms: tuple[str, ...]) -> OneWay:
    words = [word for word in transforms if word.startswith("ah-")]
    rest = tuple(word for word in transforms if word.startswith("esp-"))
    return OneWay(spi, documents.fresh_sa(spi, rest) if rest else None, secrets.token_bytes(AH_KEY[words[0]][1]) if words else None,
                  words[0] if words else None, "comp-deflate" in transforms)


@dataclasses.dataclass(frozen=True)
class Protection:
    """Both directions between `left` and `right`, which are outer addresses of one family."""
    left: str
    right: str
    transforms: tuple[str, ...]
    mode: str
    to_right: OneWay
    to_left: OneWay

    def session_key(self, left: bool = True) -> dict:
        inbound, outbound = (self.to_left, self.to_right) if left else (self.to_right, self.to_left)
        return {"inbound": inbound.as_json(), "outbound": outbound.as_json()}

    def seal_to_left(self, packet, sequence: int, esp: bool = True, ah: bool = True):
        """As the right end sends it. `esp`, `ah`: leave one of the two out."""
        return _seal(self.to_left, self.right, self.left, self.mode, packet, sequence, esp, ah)

    def open_from_left(self, packet):
        """What the right end makes of it; scapy raises when an ICV is wrong or a layer is missing."""
        return _open(self.to_right, self.left, self.right, self.mode, packet)


def protection(spi: int, left: str, right: str, transforms: tuple[str, ...], mode: str) -> Protection:
    return Protection(left, right, transforms, mode, one_way(spi, transforms), one_way(spi + 1, transforms))


def _layers(way: OneWay, source: str, destination: str, mode: str) -> list[SecurityAssociation]:
    """In the order of sealing."""
    layer = IPv6 if ":" in source else IP
    header = layer(src=source, dst=destination, **({"hlim": 64} if layer is IPv6 else {"ttl": 64})) if mode == "tunnel" else None
    out = []
    if way.esp:
        out.append(SecurityAssociation(ESP, spi=way.spi, crypt_algo="AES-CBC", crypt_key=way.esp.cipher_key,
                                       auth_algo=documents.SCAPY_AUTH[way.esp.transforms[1]], auth_key=way.esp.auth_key, tunnel_header=header))
        header = None  # AH comes around the packet that ESP made
    if way.ah_key:
        out.append(SecurityAssociation(AH, spi=way.spi, auth_algo=AH_KEY[way.ah_word][0], auth_key=way.ah_key, tunnel_header=header))
    return out


def around_esp(association: SecurityAssociation, packet, sequence: int):
    """AH around a packet of ESP, plain IP header in front. Scapy's own encrypt() signs whatever holds a layer of ESP as ESP."""
    ip = packet.__class__(bytes(packet))
    payload = bytes(ip.payload)
    ip.remove_payload()
    ah = AH(nh=50, spi=association.spi, seq=sequence, icv=bytes(association.auth_algo.icv_size))
    ah.padding = bytes(-len(ah) % (4 if ip.version == 4 else 8))
    ah.payloadlen = len(ah) // 4 - 2
    if ip.version == 4:
        ip.proto, ip.len, ip.chksum = 51, len(ip) + len(ah) + len(payload), None
    else:
        ip.nh, ip.plen = 51, len(ah) + len(payload)
    return association.auth_algo.sign(ip.__class__(bytes(ip)) / ah / Raw(payload), association.auth_key)


def _seal(way: OneWay, source: str, destination: str, mode: str, packet, sequence: int, esp: bool, ah: bool):
    for layer in _layers(way, source, destination, mode):
        if esp if layer.proto is ESP else ah:
            packet = packet.__class__(bytes(packet))
            inside = layer.proto is AH and bool(way.esp) and esp
            packet = around_esp(layer, packet, sequence) if inside else layer.encrypt(packet, seq_num=sequence)
    return packet.__class__(bytes(packet))


def _open(way: OneWay, source: str, destination: str, mode: str, packet):
    for layer in reversed(_layers(way, source, destination, mode)):
        inside = bytes(layer.decrypt(packet.__class__(bytes(packet))))
        packet = (IP if inside[0] >> 4 == 4 else IPv6)(inside)  # behind AH scapy leaves it as bytes
    return packet
