"""Every ESP transform against scapy, both ways, by both engines: test_scapy.py's pipe and rules.

What scapy lacks (AES-GMAC, AES-CCM with a short ICV, AES-XCBC) esp_algorithms.py gives it, over python-cryptography.
Run with /usr/bin/python3 -m pytest; $POSTERN_BIN is the directory that holds esp_pipe.
"""
import pytest

pytest.importorskip("scapy.layers.ipsec")
from scapy.layers.inet import IP  # noqa: E402
from scapy.layers.ipsec import ESP  # noqa: E402

import esp_algorithms  # noqa: E402
import test_scapy  # noqa: E402
from test_scapy import FAMILIES, OUTER, Pipe, answer_packet, esp_of, inner_packet, sealed_answer  # noqa: E402

# Words of a transform set: scapy's cipher, its key bytes with the salt, IV, block; RFC 3602, 4106, 7634, 4309, 3686, 2451, 2405, 4543, 2410.
CIPHERS = {
    "esp-aes": ("AES-CBC", 16, 16, 16), "esp-aes 192": ("AES-CBC", 24, 16, 16), "esp-aes 256": ("AES-CBC", 32, 16, 16),
    "esp-aes-ctr": ("AES-CTR", 20, 8, 4), "esp-aes-ctr 192": ("AES-CTR", 28, 8, 4), "esp-aes-ctr 256": ("AES-CTR", 36, 8, 4),
    "esp-3des": ("3DES", 24, 8, 8), "esp-des": ("DES", 8, 8, 8), "esp-null": ("NULL", 0, 0, 4),
}
# The same, and the ICV.
AEADS = {
    "esp-gcm": ("AES-GCM", 20, 8, 4, 16), "esp-gcm 192": ("AES-GCM", 28, 8, 4, 16), "esp-gcm 256": ("AES-GCM", 36, 8, 4, 16),
    "esp-chacha20-poly1305": ("CHACHA20-POLY1305", 36, 8, 4, 16),
    "esp-aes-ccm": ("AES-CCM", 19, 8, 4, 16), "esp-aes-ccm 192": ("AES-CCM", 27, 8, 4, 16), "esp-aes-ccm 256": ("AES-CCM", 35, 8, 4, 16),
    "esp-aes-ccm-12": ("AES-CCM-12", 19, 8, 4, 12), "esp-aes-ccm-12 256": ("AES-CCM-12", 35, 8, 4, 12),
    "esp-aes-ccm-8": ("AES-CCM-8", 19, 8, 4, 8), "esp-aes-ccm-8 192": ("AES-CCM-8", 27, 8, 4, 8),
    "esp-gmac": ("AES-GMAC", 20, 8, 4, 16), "esp-gmac 192": ("AES-GMAC", 28, 8, 4, 16), "esp-gmac 256": ("AES-GMAC", 36, 8, 4, 16),
}
# scapy's authenticator, its key bytes, ICV; RFC 2403, 2404, 4868, 3566, 4494.
AUTHENTICATORS = {
    "esp-md5-hmac": ("HMAC-MD5-96", 16, 12), "esp-sha-hmac": ("HMAC-SHA1-96", 20, 12), "esp-sha256-hmac": ("SHA2-256-128", 32, 16),
    "esp-sha384-hmac": ("SHA2-384-192", 48, 24), "esp-sha512-hmac": ("SHA2-512-256", 64, 32),
    "esp-aes-xcbc-mac": ("AES-XCBC-96", 16, 12), "esp-aes-cmac": ("AES-CMAC-96", 16, 12),
}
PAIRS = [  # each cipher and each authenticator twice or more; the guide's own among them
    ("esp-aes", "esp-md5-hmac"), ("esp-aes", "esp-sha384-hmac"), ("esp-aes", "esp-aes-xcbc-mac"), ("esp-aes 192", "esp-sha512-hmac"),
    ("esp-aes 192", "esp-aes-cmac"), ("esp-aes 256", "esp-sha384-hmac"), ("esp-aes 256", "esp-sha512-hmac"),
    ("esp-aes-ctr", "esp-sha256-hmac"), ("esp-aes-ctr", "esp-aes-xcbc-mac"), ("esp-aes-ctr 192", "esp-sha-hmac"),
    ("esp-aes-ctr 256", "esp-sha512-hmac"), ("esp-3des", "esp-sha-hmac"), ("esp-3des", "esp-md5-hmac"), ("esp-3des", "esp-aes-cmac"),
    ("esp-des", "esp-md5-hmac"), ("esp-des", "esp-sha256-hmac"),
    ("esp-null", "esp-md5-hmac"), ("esp-null", "esp-sha-hmac"), ("esp-null", "esp-sha256-hmac"), ("esp-null", "esp-sha384-hmac"),
    ("esp-null", "esp-sha512-hmac"), ("esp-null", "esp-aes-xcbc-mac"), ("esp-null", "esp-aes-cmac"),
]
IN_CLEAR = ("esp-null", "esp-gmac")

esp_algorithms.register()
SIZES = {}  # header, IV and ICV; block
for words, (cipher, key, iv, block, icv) in AEADS.items():
    test_scapy.TRANSFORMS[words], SIZES[words] = (cipher, key, "NULL", 0), (8 + iv + icv, block)
for first, second in PAIRS:
    (cipher, key, iv, block), (authenticator, auth_key, icv) = CIPHERS[first], AUTHENTICATORS[second]
    test_scapy.TRANSFORMS[f"{first}+{second}"] = (cipher, key, authenticator, auth_key)
    SIZES[f"{first}+{second}"] = (8 + iv + icv, block)


def both_ways(pipe, transform, outer, inner, udp):
    fixed, block = SIZES[transform]
    for sequence, size in enumerate((0, 1, 2, 3, 5, 6, 13, 14, 15, 16, 17, 100, 1300), start=1):
        packet = inner_packet(inner, size)
        wire = pipe.seal(packet)
        assert (wire.src, wire.dst) == OUTER[outer]
        body = -(-(len(packet) + 2) // block) * block
        assert len(wire) - esp_of(wire) == fixed + body
        if not udp:
            assert wire[ESP].seq == sequence
        assert (bytes(packet) in bytes(wire)) == transform.startswith(IN_CLEAR)
        assert bytes(pipe.open_by_scapy(wire)) == bytes(packet), f"{size} bytes"
        answer = answer_packet(inner, size)
        assert pipe.delivered(pipe.seal_by_scapy(answer, sequence)) == bytes(answer)


@pytest.mark.parametrize("transform", SIZES)
@pytest.mark.parametrize("engine", ("automatic", "openssl"))
def test_both_ways(engine, transform):
    with Pipe(transform, engine=engine) as pipe:
        both_ways(pipe, transform, 4, 4, False)


@pytest.mark.parametrize("udp", (False, True), ids=("esp", "udp"))
@pytest.mark.parametrize("outer,inner", FAMILIES)
@pytest.mark.parametrize("transform", ("esp-3des+esp-md5-hmac", "esp-null+esp-aes-cmac", "esp-gmac", "esp-aes-ctr+esp-sha256-hmac",
                                       "esp-chacha20-poly1305", "esp-aes-ccm", "esp-aes 256+esp-sha512-hmac"))
def test_both_ways_in_every_family(transform, outer, inner, udp):
    with Pipe(transform, outer, udp) as pipe:
        both_ways(pipe, transform, outer, inner, udp)


@pytest.mark.parametrize("transform", SIZES)
def test_scapy_refuses_what_was_changed_on_the_way(transform):
    with Pipe(transform) as pipe:
        wire = bytearray(bytes(pipe.seal(inner_packet(4, 50))))
        for at in (-1, -20, 24):  # ICV, ICV or payload, sequence number
            changed = bytearray(wire)
            changed[at] ^= 1
            with pytest.raises(Exception):  # scapy: IPSecIntegrityError, or cryptography's InvalidTag
                pipe.open_by_scapy(IP(bytes(changed)))
        assert bytes(pipe.open_by_scapy(IP(bytes(wire)))) == bytes(inner_packet(4, 50))


@pytest.mark.parametrize("engine", ("automatic", "openssl"))
@pytest.mark.parametrize("transform", ("esp-aes+esp-sha384-hmac", "esp-null+esp-aes-xcbc-mac", "esp-gmac", "esp-aes-ccm-8", "esp-des+esp-md5-hmac",
                                       "esp-chacha20-poly1305", "esp-aes-ctr 256+esp-sha512-hmac"))
def test_every_changed_bit_is_dropped(transform, engine):
    with Pipe(transform, engine=engine) as pipe:
        good = sealed_answer(pipe, 4, 1)
        whole = bytes(good)
        reasons = set()
        for bit in range(esp_of(good) * 8, len(whole) * 8):
            bad = bytearray(whole)
            bad[bit // 8] ^= 1 << bit % 8
            reasons.add(pipe.dropped(bad))
        assert reasons == {"no_sa", "bad_icv", "too_old"}  # too_old: the number became 0
        assert pipe.delivered(whole) == bytes(answer_packet(4, 40))


@pytest.mark.parametrize("transform", SIZES)
def test_the_largest_packet(transform):
    """Inner bytes that fill a path of 1500: as many blocks as fit behind the outer header, less the trailer."""
    fixed, block = SIZES[transform]
    largest = (1500 - 20 - fixed) // block * block - 2
    with Pipe(transform) as pipe:
        wire = pipe.seal(inner_packet(4, largest - 28, flags="DF"))
        assert 1500 - block < len(wire) <= 1500
        assert dict(pipe.ask("out", inner_packet(4, largest - 28 + 1, flags="DF")))["drop"] == "too_big"


@pytest.mark.parametrize("transform", ("esp-gmac", "esp-aes-ccm", "esp-aes-ctr+esp-sha256-hmac", "esp-gcm 192"))
def test_no_counter_comes_twice(transform):
    """RFC 4106 3.1, RFC 3686 3.1, RFC 4309 3.1: the IV is new for every packet of a key."""
    with Pipe(transform) as pipe:
        ivs = {bytes(pipe.seal(inner_packet(4, 10))[ESP].data)[:8] for _ in range(50)}
        assert len(ivs) == 50
