"""IPComp (RFC 3173) with DEFLATE inside ESP and AH: the packets by scapy, the compression by Python's zlib.

Run with /usr/bin/python3 -m pytest; $POSTERN_BIN is the directory that holds esp_pipe.
"""
import random
import socket
import zlib

import pytest

pytest.importorskip("scapy.layers.ipsec")
from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: E402
from scapy.layers.ipsec import AH  # noqa: E402
from scapy.packet import Raw  # noqa: E402

from test_scapy import HEADER, INNER, OUTER, SPI, Pipe, answer_packet, inner_packet  # noqa: E402
from test_scapy_ah import AhPipe, TransportPipe  # noqa: E402
from test_scapy_tfc import plain_of  # noqa: E402

IPCOMP, CPI, CPI_FIELD = 108, 2, bytes((0, 2))
NEXT = {4: 4, 6: 41}
EXPERIMENT = {4: {"proto": 253}, 6: {"nh": 253}}
TEXT = b"The quick brown fox jumps over the lazy dog. " * 40


def text_packet(family, size, source=0, end=INNER):
    return HEADER[family](src=end[family][source], dst=end[family][1 - source], **EXPERIMENT[family]) / Raw(TEXT[:size])


def noise_packet(family, size):
    """Random addresses over IPv6: two of one network compress."""
    dice = random.Random(size)
    source, destination = INNER[4] if family == 4 else (socket.inet_ntop(socket.AF_INET6, b"\x20" + dice.randbytes(15)) for _ in range(2))
    return HEADER[family](src=source, dst=destination, **EXPERIMENT[family]) / Raw(dice.randbytes(size))


def deflated(payload, window=15, level=9):
    stream = zlib.compressobj(level, zlib.DEFLATED, -window)
    return stream.compress(bytes(payload)) + stream.flush()


def inflated(payload, window=15):
    stream = zlib.decompressobj(-window)
    out = stream.decompress(payload)
    assert stream.eof and not stream.unused_data
    return out


def ipcomp(payload, next_header, cpi=CPI_FIELD, flags=0, **how):
    return bytes((next_header, flags)) + cpi + deflated(payload, **how)


def opened(pipe, wire):
    """What ESP held, (payload, next header), checked by scapy."""
    return plain_of(pipe, wire)


@pytest.mark.parametrize("inner", (4, 6))
@pytest.mark.parametrize("outer", (4, 6))
def test_python_inflates_what_we_deflate(outer, inner):
    with Pipe("gcm128", outer, comp=CPI) as pipe:
        for size in (100, 300, 700, 1300):
            packet = text_packet(inner, size)
            wire = pipe.seal(packet)
            payload, next_header = opened(pipe, wire)
            assert next_header == IPCOMP and payload[:4] == bytes((NEXT[inner], 0)) + CPI_FIELD
            # Linux opens with a window of 2 KB: a stream that leans further back would not come out.
            assert inflated(payload[4:], window=11) == bytes(packet)
            assert size < 200 or len(wire) < len(packet)


@pytest.mark.parametrize("inner", (4, 6))
def test_what_would_grow_goes_as_it_is(inner):
    with Pipe("gcm128", comp=CPI) as pipe:
        for packet in [noise_packet(inner, size) for size in (100, 700, 1300)] + [inner_packet(inner, 20)]:
            payload, next_header = opened(pipe, pipe.seal(packet))
            assert next_header == NEXT[inner] and payload == bytes(packet)


@pytest.mark.parametrize("how", ({}, {"level": 0}, {"level": 1}, {"window": 9}), ids=str)
@pytest.mark.parametrize("outer", (4, 6))
def test_we_inflate_what_python_deflates(outer, how):
    with Pipe("gcm128", outer, comp=CPI) as pipe:
        for sequence, size in enumerate((1, 100, 700, 1300), start=1):
            packet = text_packet(4, size, source=1)
            assert pipe.delivered(craft_payload(pipe, ipcomp(packet, 4, **how), IPCOMP, sequence)) == bytes(packet)
        plain = answer_packet(4, 50)
        assert pipe.delivered(pipe.seal_by_scapy(plain, 9)) == bytes(plain), "compressed or not, as the sender likes"
        flagged = text_packet(4, 300, source=1)
        assert pipe.delivered(craft_payload(pipe, ipcomp(flagged, 4, flags=0xff), IPCOMP, 10)) == bytes(flagged), "flags are ignored"


@pytest.mark.parametrize("family", (4, 6))
def test_transport_mode(family):
    with TransportPipe("gcm128", family, comp=CPI) as pipe:
        packet = text_packet(family, 900, end=OUTER)
        wire = pipe.seal(packet)
        payload, next_header = opened(pipe, wire)
        upper = packet.__class__(bytes(packet))
        assert next_header == IPCOMP and inflated(payload[4:], 11) == bytes(upper.payload)
        assert payload[0] == (upper.proto if family == 4 else upper.nh)
        answer = text_packet(family, 900, source=1, end=OUTER)
        body = bytes(answer.payload)
        number = answer.proto if family == 4 else answer.nh
        assert pipe.delivered(craft_payload(pipe, ipcomp(body, number), IPCOMP, 1)) == bytes(answer)


@pytest.mark.parametrize("family", (4, 6))
def test_ah(family):
    with AhPipe("sha256", family, comp=CPI) as pipe:
        packet = text_packet(4, 900)
        wire = pipe.seal(packet)
        assert wire[AH].nh == IPCOMP
        pipe.ah_opener.decrypt(HEADER[family](bytes(wire)))  # raises when the ICV is wrong
        behind = bytes(wire[AH])[(wire[AH].payloadlen + 2) * 4:]
        assert behind[:4] == bytes((4, 0)) + CPI_FIELD and inflated(behind[4:], 11) == bytes(packet)


def test_refused():
    """Each ends in its reason, and the next good packet passes."""
    packet = text_packet(4, 700, source=1)
    good = ipcomp(packet, 4)
    changed = bytearray(good)
    changed[5] ^= 0xff
    inside = bytes(packet)
    rows = [(good[:3], "ipcomp_header"), (ipcomp(packet, 4, cpi=b"\x12\x34"), "ipcomp_header"), (ipcomp(packet, 4, cpi=b"\x02\x00"), "ipcomp_header"),
            (good[:4], "ipcomp_data"), (good[:-1], "ipcomp_data"), (good[:20], "ipcomp_data"), (bytes((4, 0)) + CPI_FIELD + b"\xff" * 40, "ipcomp_data"),
            (bytes((4, 0)) + CPI_FIELD + zlib.compress(inside), "ipcomp_data"),  # RFC 2394: no zlib header
            (ipcomp(bytes(4096), 4), "ipcomp_too_long"), (ipcomp(bytes(1 << 20), 4), "ipcomp_too_long"), (ipcomp(bytes(1 << 24), 4)[:1400], "ipcomp_too_long"),
            (ipcomp(good, IPCOMP), "bad_next_header"),  # compressed twice
            (ipcomp(packet, 17), "bad_next_header"), (ipcomp(packet, 59), "bad_next_header"), (ipcomp(b"", 4), "bad_inner"),
            (ipcomp(inside[:-5], 4), "bad_inner"), (ipcomp(packet, 41), "bad_inner")]
    with Pipe("gcm128", comp=CPI) as pipe:
        for sequence, (payload, reason) in enumerate(rows, start=1):
            assert pipe.dropped(craft_payload(pipe, payload, IPCOMP, 2 * sequence)) == reason
            assert pipe.delivered(craft_payload(pipe, good, IPCOMP, 2 * sequence + 1)) == inside
        sealed = bytearray(bytes(craft_payload(pipe, good, IPCOMP, 500)))
        sealed[-1] ^= 1
        assert pipe.dropped(bytes(sealed)) == "bad_icv", "nothing is decompressed that is not authentic"


@pytest.mark.parametrize("mode", ("tunnel", "transport"))
def test_an_sa_without_compression_takes_none(mode):
    with (Pipe if mode == "tunnel" else TransportPipe)("gcm128") as pipe:
        end = INNER if mode == "tunnel" else OUTER
        packet = text_packet(4, 700, source=1, end=end)
        inside, number = (bytes(packet), 4) if mode == "tunnel" else (bytes(packet.payload), packet.proto)
        assert pipe.dropped(craft_payload(pipe, ipcomp(inside, number), IPCOMP, 1)) == "bad_next_header"


def craft_payload(pipe, payload, next_header, sequence):
    """ESP around bytes of the test's choice, in whole blocks."""
    padding = -(len(payload) + 2) % 4
    plain = payload + bytes(range(1, padding + 1)) + bytes((padding, next_header))
    key, salt, iv = pipe.cipher_key[:-4], pipe.cipher_key[-4:], sequence.to_bytes(8, "big")
    header = SPI.to_bytes(4, "big") + sequence.to_bytes(4, "big")
    protocol = {4: {"proto": 50}, 6: {"nh": 50}}[pipe.outer]
    return HEADER[pipe.outer](src=pipe.remote, dst=pipe.local, **protocol) / Raw(header + iv + AESGCM(key).encrypt(salt + iv, plain, header))
