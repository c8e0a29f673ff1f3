"""HMAC-SHA-384-192, HMAC-SHA-512-256 and ChaCha20-Poly1305 against scapy, by both engines: test_scapy.py's pipe and rules.

Run with /usr/bin/python3 -m pytest; $POSTERN_BIN is the directory that holds esp_pipe.
"""
import pytest

pytest.importorskip("scapy.layers.ipsec")
from scapy.layers.inet import IP  # noqa: E402
from scapy.layers.ipsec import ESP  # noqa: E402

import test_scapy  # noqa: E402
from test_scapy import FAMILIES, OUTER, Pipe, answer_packet, esp_of, inner_packet, sealed_answer  # noqa: E402

NEW = {
    "cbc128-sha384": ("AES-CBC", 16, "SHA2-384-192", 48),
    "cbc256-sha384": ("AES-CBC", 32, "SHA2-384-192", 48),
    "cbc128-sha512": ("AES-CBC", 16, "SHA2-512-256", 64),
    "cbc256-sha512": ("AES-CBC", 32, "SHA2-512-256", 64),
    "chacha": ("CHACHA20-POLY1305", 36, "NULL", 0),
}
test_scapy.TRANSFORMS.update(NEW)  # Pipe looks there
FIXED = {"sha384": 8 + 16 + 24, "sha512": 8 + 16 + 32, "chacha": 8 + 8 + 16}  # header, IV, ICV: RFC 4868, RFC 7634
BLOCK = {"sha384": 16, "sha512": 16, "chacha": 4}


def kind(transform):
    return transform.split("-")[-1]


@pytest.mark.parametrize("udp", (False, True), ids=("esp", "udp"))
@pytest.mark.parametrize("outer,inner", FAMILIES)
@pytest.mark.parametrize("transform", NEW)
@pytest.mark.parametrize("engine", ("automatic", "openssl"))
def test_both_ways(engine, transform, outer, inner, udp):
    with Pipe(transform, outer, udp, engine=engine) as pipe:
        for sequence, size in enumerate((0, 1, 2, 3, 13, 14, 15, 16, 17, 100, 1300), start=1):
            packet = inner_packet(inner, size)
            wire = pipe.seal(packet)
            assert (wire.src, wire.dst) == OUTER[outer]
            body = -(-(len(packet) + 2) // BLOCK[kind(transform)]) * BLOCK[kind(transform)]
            assert len(wire) - esp_of(wire) == FIXED[kind(transform)] + body
            if not udp:
                assert wire[ESP].seq == sequence
            assert bytes(pipe.open_by_scapy(wire)) == bytes(packet), f"{size} bytes"
            answer = answer_packet(inner, size)
            assert pipe.delivered(pipe.seal_by_scapy(answer, sequence)) == bytes(answer)


@pytest.mark.parametrize("transform", NEW)
def test_scapy_refuses_what_was_changed_on_the_way(transform):
    with Pipe(transform) as pipe:
        wire = bytearray(bytes(pipe.seal(inner_packet(4, 50))))
        wire[-1] ^= 1
        with pytest.raises(Exception):  # scapy: IPSecIntegrityError, or cryptography's InvalidTag
            pipe.open_by_scapy(IP(bytes(wire)))


@pytest.mark.parametrize("engine", ("automatic", "openssl"))
@pytest.mark.parametrize("transform", ("cbc128-sha384", "cbc256-sha512", "chacha"))
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


@pytest.mark.parametrize("transform", NEW)
def test_the_largest_packet(transform):
    """Inner bytes that fill a path of 1500: as many blocks as fit behind the outer header, less the trailer."""
    room = 1500 - 20 - FIXED[kind(transform)]
    largest = room // BLOCK[kind(transform)] * BLOCK[kind(transform)] - 2
    with Pipe(transform) as pipe:
        wire = pipe.seal(inner_packet(4, largest - 28, flags="DF"))
        assert 1500 - BLOCK[kind(transform)] < len(wire) <= 1500
        assert dict(pipe.ask("out", inner_packet(4, largest - 28 + 1, flags="DF")))["drop"] == "too_big"
