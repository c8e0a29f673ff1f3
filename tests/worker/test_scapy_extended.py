"""Extended sequence numbers against scapy, every transform, both ways and across the wrap of the low half (RFC 4303 section 2.2.1).

scapy knows them for AEADs; its separate authenticators leave the high half out for ESP, so there the ICV is python's own hmac.
Run with /usr/bin/python3 -m pytest; $POSTERN_BIN is the directory that holds esp_pipe.
"""
import hmac

import pytest

pytest.importorskip("scapy.layers.ipsec")
from scapy.layers.inet import IP  # noqa: E402
from scapy.layers.ipsec import ESP, SecurityAssociation  # noqa: E402
from scapy.packet import Raw  # noqa: E402

from test_scapy import SPI, TRANSFORMS, Pipe, answer_packet, esp_of, inner_packet  # noqa: E402
import test_scapy_transforms  # noqa: E402, F401  (adds its rows to TRANSFORMS)

WRAP = 1 << 32
HASH = {"HMAC-MD5-96": ("md5", 12), "HMAC-SHA1-96": ("sha1", 12), "SHA2-256-128": ("sha256", 16), "SHA2-384-192": ("sha384", 24), "SHA2-512-256": ("sha512", 32)}
ENGINES = ("automatic", "openssl")
AEADS = ("AES-GCM", "AES-CCM", "CHACHA20-POLY1305")
ROWS = [name for name, (cipher, _, authenticator, _) in TRANSFORMS.items() if cipher in AEADS or authenticator in HASH]


class ExtendedPipe(Pipe):
    """Both SAs begin at `number`; what is below it counts as seen."""

    def __init__(self, transform, number, **options):
        super().__init__(transform, esn=number, **options)
        cipher, _, authenticator, _ = TRANSFORMS[transform]
        self.hash = HASH.get(authenticator)
        if self.hash:  # scapy for the cipher alone
            for name, ends in (("opener", (self.local, self.remote)), ("sealer", (self.remote, self.local))):
                header = IP(src=ends[0], dst=ends[1])
                setattr(self, name, SecurityAssociation(ESP, spi=SPI, tunnel_header=header, crypt_algo=cipher,
                                                        crypt_key=self.cipher_key))

    def icv(self, covered, high):
        name, size = self.hash
        return hmac.new(self.auth_key, covered + high.to_bytes(4, "big"), name).digest()[:size]

    def sealed(self, packet, number):
        high, low = divmod(number, WRAP)
        self.sealer.seq_num = low
        outer = self.sealer.encrypt(packet, seq_num=low, esn_en=True, esn=high)
        if not self.hash:
            return outer
        body = bytes(outer[ESP])
        return IP(src=outer.src, dst=outer.dst, proto=50) / Raw(body + self.icv(body, high))

    def opened(self, wire, number):
        high = number // WRAP
        if self.hash:
            body, icv = bytes(wire[ESP])[:-self.hash[1]], bytes(wire[ESP])[-self.hash[1]:]
            assert icv == self.icv(body, high)
            assert icv != self.icv(body, high + 1)
            wire = IP(src=wire.src, dst=wire.dst, proto=50) / ESP(body)
            return self.opener.decrypt(IP(bytes(wire)))
        copy = wire.copy()
        with pytest.raises(Exception):  # cryptography's InvalidTag
            self.opener.decrypt(copy, esn_en=True, esn=high + 1)
        return self.opener.decrypt(wire, esn_en=True, esn=high)


@pytest.mark.parametrize("start", (1, WRAP - 4, 6 * WRAP - 4), ids=("first", "wrap", "later-wrap"))
@pytest.mark.parametrize("transform", ROWS)
@pytest.mark.parametrize("engine", ENGINES)
def test_both_ways(engine, transform, start):
    with ExtendedPipe(transform, start, engine=engine) as pipe:
        for number, size in enumerate((0, 1, 13, 16, 17, 100, 1200, 1300), start=start):
            packet = inner_packet(4, size)
            wire = pipe.seal(packet)
            assert wire[ESP].seq == number % WRAP
            assert bytes(pipe.opened(wire, number)) == bytes(packet), f"{size} bytes"
            if number % WRAP == 0:
                continue  # scapy's encrypt() takes 0 for "not given"
            answer = answer_packet(4, size)
            assert pipe.delivered(pipe.sealed(answer, number)) == bytes(answer)


@pytest.mark.parametrize("transform", ROWS)
@pytest.mark.parametrize("engine", ENGINES)
def test_another_high_half_is_refused(engine, transform):
    """RFC 4303 appendix A2: which high half is meant follows from the window; one that the sender did not use fails."""
    start = 3 * WRAP - 8
    with ExtendedPipe(transform, start, engine=engine) as pipe:
        for wrong in (start - WRAP, start + WRAP, start % WRAP):
            assert pipe.dropped(pipe.sealed(answer_packet(4, 40), wrong)) == "bad_icv"
        good = pipe.sealed(answer_packet(4, 40), start)
        assert pipe.delivered(good) == bytes(answer_packet(4, 40))
        assert pipe.dropped(good) == "replayed"
        across = pipe.sealed(answer_packet(4, 40), start + 20)
        assert pipe.delivered(across) == bytes(answer_packet(4, 40))
        assert pipe.dropped(good) == "replayed"  # of the half before, inside the window
        assert pipe.delivered(pipe.sealed(answer_packet(4, 40), start + 100))
        assert pipe.dropped(good) == "bad_icv"  # behind the window: taken for one 2^32 later
        assert pipe.delivered(pipe.sealed(answer_packet(4, 40), start + 101))


@pytest.mark.parametrize("window", (32, 64, 1024, 4096))
def test_window_edges_at_the_wrap(window):
    with ExtendedPipe("gcm128", WRAP - 2 * window, window=window) as pipe:
        def give(number):
            ((what, value),) = pipe.ask("in", pipe.sealed(answer_packet(4, 40), number))
            return value if what == "drop" else "delivered"

        top = WRAP + window // 2
        assert give(top) == "delivered"
        assert give(top) == "replayed"
        assert give(top - window + 1) == "delivered"  # the bottom, before the wrap
        assert give(top - window + 1) == "replayed"
        assert give(top - window) == "bad_icv"
        assert give(WRAP - 1) == "delivered"
        assert give(WRAP + 1) == "delivered"
        assert give(WRAP - 1) == "replayed"


@pytest.mark.parametrize("transform", ("cbc128-sha1", "esp-aes 256+esp-sha512-hmac", "gcm128", "esp-chacha20-poly1305"))
@pytest.mark.parametrize("engine", ENGINES)
def test_every_changed_bit_is_dropped(transform, engine):
    with ExtendedPipe(transform, WRAP + 100, engine=engine) as pipe:
        whole = bytes(pipe.sealed(answer_packet(4, 40), WRAP + 100))
        reasons = set()
        for bit in range(20 * 8, len(whole) * 8):
            bad = bytearray(whole)
            bad[bit // 8] ^= 1 << bit % 8
            reasons.add(pipe.dropped(bad))
        assert reasons <= {"no_sa", "bad_icv", "too_old", "replayed"} and "bad_icv" in reasons
        assert pipe.delivered(whole) == bytes(answer_packet(4, 40))
