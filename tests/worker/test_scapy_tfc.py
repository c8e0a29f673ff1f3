"""Traffic flow confidentiality and dummy packets against scapy (RFC 4303 sections 2.6, 2.7).

Run with /usr/bin/python3 -m pytest; $POSTERN_BIN is the directory that holds esp_pipe.
"""
import pytest

pytest.importorskip("scapy.layers.ipsec")
from scapy.layers.inet import IP  # noqa: E402
from scapy.layers.ipsec import ESP  # noqa: E402

from test_scapy import WORDS, Pipe, answer_packet, craft, inner_packet  # noqa: E402


def plain_of(pipe, wire):
    """What scapy finds inside, TFC padding included: (payload, next header)."""
    pipe.opener.auth_algo.verify(wire[ESP], pipe.opener.auth_key)
    plain = pipe.opener.crypt_algo.decrypt(pipe.opener, wire[ESP], pipe.opener.crypt_key,
                                           pipe.opener.crypt_icv_size or pipe.opener.crypt_algo.icv_size or pipe.opener.auth_algo.icv_size)
    return bytes(plain.data), plain.nh


@pytest.mark.parametrize("transform", WORDS)
@pytest.mark.parametrize("family", (4, 6))
def test_all_of_one_size(transform, family):
    with Pipe(transform, tfc=600) as pipe:
        lengths = set()
        for size in (0, 1, 17, 100, 400, 500):
            packet = inner_packet(family, size)
            wire = pipe.seal(packet)
            lengths.add(len(wire))
            payload, next_header = plain_of(pipe, wire)
            assert next_header == (4 if family == 4 else 41)
            assert payload == bytes(packet) + bytes(600 - len(packet))
        assert len(lengths) == 1
        assert len(pipe.seal(inner_packet(family, 1000))) > lengths.pop()


@pytest.mark.parametrize("transform", WORDS)
def test_to_the_mtu(transform):
    with Pipe(transform, tfc=65535) as pipe:
        sizes = {len(pipe.seal(inner_packet(4, size))) for size in (0, 50, 700, 1200)}
        assert len(sizes) == 1 and 1500 - 16 < sizes.pop() <= 1500


@pytest.mark.parametrize("transform", WORDS)
def test_dummies_are_next_header_59(transform):
    with Pipe(transform) as pipe:
        sizes, contents = set(), set()
        for number in range(1, 21):
            ((what, value),) = pipe.ask("dummy", b"")
            assert what == "wire"
            wire = IP(value)
            assert wire[ESP].seq == number and len(wire) <= 1500
            payload, next_header = plain_of(pipe, wire)
            assert next_header == 59
            sizes.add(len(payload))
            contents.add(payload[:16])
        assert len(sizes) > 10 and len(contents) == 20


def test_a_dummy_is_dropped_after_its_icv_and_moves_the_window():
    with Pipe("gcm128", window=32) as pipe:
        inner = bytes(answer_packet(4, 22))
        forged = bytearray(bytes(craft(pipe, inner + bytes((0, 59)), 100)))
        forged[-1] ^= 1
        assert pipe.dropped(forged) == "bad_icv"
        assert pipe.delivered(craft(pipe, inner + bytes((0, 4)), 1)) == inner
        assert pipe.dropped(craft(pipe, b"\xa5" * 50 + bytes((0, 59)), 100)) == "dummy"
        assert pipe.dropped(craft(pipe, b"\xa5" * 50 + bytes((0, 59)), 100)) == "replayed"
        assert pipe.dropped(craft(pipe, inner + bytes((0, 4)), 2)) == "too_old"
        assert pipe.delivered(craft(pipe, inner + bytes((0, 4)), 101)) == inner
