"""scapy opens what we seal and we open what scapy seals. Scapy's ESP (over python-cryptography) shares no code with ours.

Run with /usr/bin/python3 -m pytest; $POSTERN_BIN is the directory that holds esp_pipe.
"""
import itertools
import os
import pathlib
import subprocess

import pytest

scapy_ipsec = pytest.importorskip("scapy.layers.ipsec")
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment  # noqa: E402
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6, IPv6ExtHdrDestOpt, PadN  # noqa: E402
from scapy.layers.ipsec import ESP, SecurityAssociation  # noqa: E402
from scapy.packet import Raw  # noqa: E402

BIN = pathlib.Path(os.environ.get("POSTERN_BIN", pathlib.Path(__file__).parents[2] / "build/release/bin"))
SPI = 0x1001
# name: scapy's cipher, its key bytes (with salt), scapy's authenticator, its key bytes
TRANSFORMS = {
    "cbc128-sha1": ("AES-CBC", 16, "HMAC-SHA1-96", 20),
    "cbc192-sha1": ("AES-CBC", 24, "HMAC-SHA1-96", 20),
    "cbc256-sha1": ("AES-CBC", 32, "HMAC-SHA1-96", 20),
    "cbc128-sha256": ("AES-CBC", 16, "SHA2-256-128", 32),
    "cbc192-sha256": ("AES-CBC", 24, "SHA2-256-128", 32),
    "cbc256-sha256": ("AES-CBC", 32, "SHA2-256-128", 32),
    "gcm128": ("AES-GCM", 20, "NULL", 0),
    "gcm256": ("AES-GCM", 36, "NULL", 0),
}
WORDS = {  # of a transform set
    "cbc128-sha1": "esp-aes+esp-sha-hmac", "cbc192-sha1": "esp-aes 192+esp-sha-hmac", "cbc256-sha1": "esp-aes 256+esp-sha-hmac",
    "cbc128-sha256": "esp-aes+esp-sha256-hmac", "cbc192-sha256": "esp-aes 192+esp-sha256-hmac",
    "cbc256-sha256": "esp-aes 256+esp-sha256-hmac", "gcm128": "esp-gcm", "gcm256": "esp-gcm 256",
}
FAMILIES = list(itertools.product((4, 6), (4, 6)))  # outer, inner
OUTER = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8:ff::1", "2001:db8:ff::2")}
INNER = {4: ("10.1.0.2", "10.2.0.2"), 6: ("2001:db8:1::2", "2001:db8:2::2")}
HEADER = {4: IP, 6: IPv6}


class Pipe:
    """esp_pipe as `local`, scapy as `remote`."""

    def __init__(self, transform="cbc128-sha1", outer=4, udp=False, **options):
        cipher, key_bytes, authenticator, auth_bytes = TRANSFORMS[transform]
        self.cipher_key, self.auth_key = bytes(range(1, key_bytes + 1)), bytes(range(101, 101 + auth_bytes))
        self.outer, self.udp = outer, udp
        self.local, self.remote = OUTER[outer]
        arguments = {"spi": SPI, "transform": WORDS.get(transform, transform), "local": self.local, "remote": self.remote,
                     **({"cipher": self.cipher_key.hex()} if key_bytes else {}), **options}
        if auth_bytes:
            arguments["auth"] = self.auth_key.hex()
        if udp:
            arguments["udp"] = 4500
        self.process = subprocess.Popen([BIN / "esp_pipe", *(f"{k}={v}" for k, v in arguments.items())],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        keys = {"crypt_algo": cipher, "crypt_key": self.cipher_key}
        if auth_bytes:
            keys |= {"auth_algo": authenticator, "auth_key": self.auth_key}
        header = HEADER[outer]
        self.opener = SecurityAssociation(ESP, spi=SPI, tunnel_header=header(src=self.local, dst=self.remote), **keys)
        self.sealer = SecurityAssociation(ESP, spi=SPI, tunnel_header=header(src=self.remote, dst=self.local), **keys)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        assert self.process.wait(timeout=10) == 0
        self.process.stdout.close()

    def ask(self, command, packet):
        self.process.stdin.write(f"{command} {bytes(packet).hex()}\n")
        self.process.stdin.flush()
        words = self.process.stdout.readline().split()
        return [(what, value if what == "drop" else bytes.fromhex(value)) for what, value in zip(words[::2], words[1::2])]

    def seal(self, packet):
        answer = self.ask("out", packet)
        assert [what for what, _ in answer] == ["wire"], answer
        return HEADER[self.outer](answer[0][1])

    def seal_by_scapy(self, packet, sequence):
        self.sealer.seq_num = sequence  # its encrypt() takes 0 for "not given"
        outer = self.sealer.encrypt(packet, seq_num=sequence)
        if not self.udp:
            return outer
        # Not scapy's own nat_t_header: over IPv4 that leaves a UDP length of 8.
        return HEADER[self.outer](src=outer.src, dst=outer.dst) / UDP(sport=4500, dport=4500, chksum=0) / Raw(bytes(outer[ESP]))

    def open_by_scapy(self, outer):
        """What scapy makes of a packet of ours: it verifies the ICV and raises when it is wrong."""
        if self.udp:
            assert (outer[UDP].sport, outer[UDP].dport) == (4500, 4500)
            if self.outer == 6:  # scapy looks for ESP right behind IPv6
                outer = IPv6(src=outer.src, dst=outer.dst, nh=50) / ESP(bytes(outer[UDP].payload))
        return self.opener.decrypt(outer, esn_en=False)

    def dropped(self, packet):
        answer = self.ask("in", packet)
        assert [what for what, _ in answer] == ["drop"], answer
        return answer[0][1]

    def delivered(self, packet):
        answer = self.ask("in", packet)
        assert [what for what, _ in answer] == ["plain"], answer
        return answer[0][1]


def inner_packet(family, size=0, **fields):
    source, destination = INNER[family]
    return HEADER[family](src=source, dst=destination, **fields) / UDP(sport=1, dport=2) / Raw(bytes(i & 255 for i in range(size)))


def answer_packet(family, size=0, **fields):
    destination, source = INNER[family]
    return HEADER[family](src=source, dst=destination, **fields) / UDP(sport=2, dport=1) / Raw(bytes(i & 255 for i in range(size)))


def sealed_answer(pipe, family, sequence, size=40):
    return pipe.seal_by_scapy(answer_packet(family, size), sequence)


def esp_of(packet):
    """Offset of the ESP header in the bytes of an outer packet without options."""
    return (20 if packet.version == 4 else 40) + (8 if UDP in packet else 0)


@pytest.mark.parametrize("udp", (False, True), ids=("esp", "udp"))
@pytest.mark.parametrize("outer,inner", FAMILIES)
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("engine", ("automatic", "openssl"))
def test_both_ways(engine, transform, outer, inner, udp):
    with Pipe(transform, outer, udp, engine=engine) as pipe:
        for sequence, size in enumerate((0, 1, 2, 3, 13, 14, 15, 16, 17, 100, 1300), start=1):
            packet = inner_packet(inner, size)
            wire = pipe.seal(packet)
            assert (wire.src, wire.dst) == OUTER[outer]
            if not udp:
                assert wire[ESP].seq == sequence
            opened = pipe.open_by_scapy(wire)
            assert bytes(opened) == bytes(packet), f"{size} bytes"
            answer = answer_packet(inner, size)
            assert pipe.delivered(pipe.seal_by_scapy(answer, sequence)) == bytes(answer)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_scapy_refuses_what_was_changed_on_the_way(transform):
    with Pipe(transform) as pipe:
        wire = bytearray(bytes(pipe.seal(inner_packet(4, 50))))
        wire[-1] ^= 1
        with pytest.raises(Exception):  # scapy: IPSecIntegrityError, or cryptography's InvalidTag
            pipe.open_by_scapy(IP(bytes(wire)))


def test_udp_checksums():
    with Pipe(outer=4, udp=True) as pipe:
        assert pipe.seal(inner_packet(4, 9))[UDP].chksum == 0
    with Pipe(outer=6, udp=True) as pipe:
        wire = pipe.seal(inner_packet(4, 9))
        sent = wire[UDP].chksum
        assert sent != 0
        del wire[UDP].chksum
        assert IPv6(bytes(wire))[UDP].chksum == sent


@pytest.mark.parametrize("transform", ("cbc128-sha1", "cbc256-sha256", "gcm128"))
@pytest.mark.parametrize("udp", (False, True), ids=("esp", "udp"))
def test_every_changed_bit_is_dropped(transform, udp):
    with Pipe(transform, udp=udp) as pipe:
        good = sealed_answer(pipe, 4, 1)
        whole = bytes(good)
        reasons = set()
        for bit in range(esp_of(good) * 8, len(whole) * 8):
            bad = bytearray(whole)
            bad[bit // 8] ^= 1 << bit % 8
            reasons.add(pipe.dropped(bad))
        assert reasons == {"no_sa", "bad_icv", "too_old"}  # too_old: the number became 0
        assert pipe.delivered(whole) == bytes(answer_packet(4, 40))


@pytest.mark.parametrize("transform", ("cbc128-sha1", "gcm128"))
def test_every_truncation_is_dropped(transform):
    with Pipe(transform) as pipe:
        whole = bytes(sealed_answer(pipe, 4, 1))
        reasons = set()
        for size in range(len(whole)):
            cut = whole[:size]
            assert pipe.dropped(cut) == "unparseable"  # the outer header says more
            if size >= 20:
                shorter = IP(cut)
                del shorter.len, shorter.chksum
                reasons.add(pipe.dropped(shorter))
        assert reasons == {"esp_runt", "esp_unaligned", "bad_icv"}
        assert pipe.delivered(whole)


@pytest.mark.parametrize("window", (32, 64, 1024, 4096))
def test_replay_at_each_edge(window):
    with Pipe(window=window) as pipe:
        top = 3 * window + 5

        def give(sequence):
            ((what, value),) = pipe.ask("in", sealed_answer(pipe, 4, sequence))
            return value if what == "drop" else "delivered"

        assert give(0) == "too_old"
        assert give(1) == "delivered"
        assert give(1) == "replayed"
        assert give(top) == "delivered"
        assert give(top) == "replayed"
        assert give(top - window) == "too_old"
        assert give(top - window + 1) == "delivered"
        assert give(top - window + 1) == "replayed"
        assert give(1) == "too_old"
        assert give(top - 1) == "delivered"
        assert give(0xFFFFFFFF) == "delivered"
        assert give(0xFFFFFFFF) == "replayed"


def test_a_forged_number_does_not_move_the_window():
    with Pipe(window=32) as pipe:
        assert pipe.delivered(sealed_answer(pipe, 4, 1))
        forged = bytearray(bytes(sealed_answer(pipe, 4, 1000)))
        forged[-1] ^= 1
        assert pipe.dropped(forged) == "bad_icv"
        assert pipe.delivered(sealed_answer(pipe, 4, 2))


def test_without_a_window_duplicates_pass():
    with Pipe(window=0) as pipe:
        packet = sealed_answer(pipe, 4, 1)
        for _ in range(3):
            assert pipe.delivered(packet)


def test_other_sas():
    with Pipe() as pipe:
        good = sealed_answer(pipe, 4, 1)
        unknown = good.copy()
        unknown[ESP].spi = 0x2002
        assert pipe.dropped(unknown) == "no_sa"
        transit = good.copy()  # ESP to somebody else
        transit.dst = "192.0.2.200"
        del transit.chksum
        assert pipe.dropped(transit) == "no_sa"
        assert pipe.delivered(good)


def test_encapsulation_must_be_the_sas():
    with Pipe(udp=True) as pipe:
        bare = pipe.sealer.encrypt(answer_packet(4, 40), seq_num=1)
        assert pipe.dropped(bare) == "wrong_encapsulation"
        other_port = sealed_answer(pipe, 4, 2)
        other_port[UDP].dport = 4501
        assert pipe.dropped(other_port) == "wrong_encapsulation"
        assert pipe.delivered(sealed_answer(pipe, 4, 3))
    with Pipe(udp=False) as pipe:
        bare = sealed_answer(pipe, 4, 1)
        wrapped = IP(src=bare.src, dst=bare.dst) / UDP(sport=4500, dport=4500, chksum=0) / Raw(bytes(bare.payload))
        assert pipe.dropped(wrapped) == "wrong_encapsulation"
        assert pipe.delivered(bare)


def test_fragments_options_and_extension_headers():
    with Pipe() as pipe:
        good = sealed_answer(pipe, 4, 1, 900)
        for piece in fragment(good, 400):
            assert pipe.dropped(piece) == "fragment_outer"
        with_options = IP(bytes(good))
        with_options.options = b"\x07\x07\x04\x00\x00\x00\x00\x00"
        del with_options.ihl, with_options.len, with_options.chksum
        assert pipe.delivered(bytes(with_options) + b"\0" * 18) == bytes(answer_packet(4, 900))
    with Pipe(outer=6) as pipe:
        good = sealed_answer(pipe, 6, 1)
        extended = IPv6(src=good.src, dst=good.dst) / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)]) / good[ESP]
        assert pipe.delivered(extended) == bytes(answer_packet(6, 40))


def craft(pipe, plain, sequence):
    """ESP around exactly `plain` (padding and trailer included), by python-cryptography alone."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    key, salt, iv = pipe.cipher_key[:-4], pipe.cipher_key[-4:], sequence.to_bytes(8, "big")
    header = SPI.to_bytes(4, "big") + sequence.to_bytes(4, "big")
    body = header + iv + AESGCM(key).encrypt(salt + iv, plain, header)
    return IP(src=pipe.remote, dst=pipe.local, proto=50) / Raw(body)


def test_trailers_that_no_sender_should_make():
    inner = bytes(answer_packet(4, 22))  # 50 bytes
    good = [
        inner + bytes((0, 4)),
        inner + bytes((1, 2, 3, 4, 4, 4)),
        inner + bytes(range(1, 253)) + bytes((252, 4)),
        inner + b"\xaa" * 100 + bytes((0, 4)),  # RFC 4303 section 2.7: traffic flow confidentiality
    ]
    bad = [
        (inner + bytes((0, 0, 0, 0, 4, 4)), "bad_padding"),
        (inner + bytes((1, 2, 3, 5, 4, 4)), "bad_padding"),
        (inner + bytes((51, 4)), "bad_padding"),
        (inner + bytes((255, 4)), "bad_padding"),
        (inner + bytes((0, 41)), "bad_inner"),
        (inner + bytes((0, 6)), "bad_next_header"),
        (inner + bytes((0, 59)), "dummy"),
        (inner[:-4] + bytes((0, 4)), "bad_inner"),
        (bytes((1, 2, 2, 4)), "bad_inner"),
    ]
    with Pipe("gcm128", window=64) as pipe:
        numbers = itertools.count(1)
        for plain in good:
            assert pipe.delivered(craft(pipe, plain, next(numbers))) == inner
        for plain, reason in bad:
            assert pipe.dropped(craft(pipe, plain, next(numbers))) == reason


@pytest.mark.parametrize("policy", (0, 1), ids=("propagate", "discard"))
def test_ecn_of_rfc_6040(policy):
    table = {(0, 3): None, (2, 1): 1, (2, 3): 3, (1, 3): 3}  # (inner, outer): result where it is not the inner one
    with Pipe("gcm128", ecn=policy) as pipe:
        numbers = itertools.count(1)
        for inner, outer in itertools.product(range(4), range(4)):
            packet = answer_packet(4, 22, tos=0xB8 | inner)
            wire = craft(pipe, bytes(packet) + bytes((0, 4)), next(numbers))
            wire.tos = outer
            expected = inner if policy else table.get((inner, outer), inner)
            if expected is None:
                assert pipe.dropped(wire) == "ecn_invalid"
                continue
            got = IP(pipe.delivered(wire))
            assert got.tos == 0xB8 | expected
            sent = got.chksum
            del got.chksum
            assert IP(bytes(got)).chksum == sent
        for inner in range(4):
            assert pipe.seal(inner_packet(4, 5, tos=0x28 | inner)).tos == 0x28 | (0 if policy else inner)


@pytest.mark.parametrize("policy,expected", ((0, (False, True)), (1, (True, True)), (2, (False, False))), ids=("copy", "set", "clear"))
def test_outer_df(policy, expected):
    with Pipe(df=policy, ttl=17, dscp=46) as pipe:
        for inner_df, outer_df in zip((False, True), expected):
            wire = pipe.seal(inner_packet(4, 5, flags="DF" if inner_df else 0))
            assert ("DF" in wire.flags) == outer_df
            assert wire.ttl == 17 and wire.tos >> 2 == 46


def test_the_largest_packet_and_the_answer_to_a_larger_one():
    with Pipe("cbc128-sha1") as pipe:
        assert len(pipe.seal(inner_packet(4, 1438 - 28, flags="DF"))) == 1496
        answer = dict(pipe.ask("out", inner_packet(4, 1439 - 28, flags="DF")))
        assert answer["drop"] == "too_big"
        error = IP(answer["icmp"])
        assert (error[ICMP].type, error[ICMP].code, error[ICMP].nexthopmtu) == (3, 4, 1438)
        assert (error.src, error.dst) == (pipe.local, INNER[4][0])
        answer = dict(pipe.ask("out", inner_packet(6, 1439 - 48)))
        assert IPv6(answer["icmp"])[ICMPv6PacketTooBig].mtu == 1438
        # Without DF it is cut, each piece opens, and together they are the packet.
        pieces = [IP(value) for what, value in pipe.ask("out", inner_packet(4, 3000, id=9)) if what == "wire"]
        opened = [pipe.open_by_scapy(piece) for piece in pieces]
        payload = b"".join(bytes(piece.payload) for piece in sorted(opened, key=lambda p: p.frag))
        assert payload == bytes(inner_packet(4, 3000, id=9))[20:]
        assert [piece.flags.MF for piece in opened] == [True, True, False]


def test_other_protocols_pass_as_they_are():
    with Pipe() as pipe:
        for packet in (IP(src=INNER[4][0], dst=INNER[4][1]) / ICMP() / b"ping",
                       IP(src=INNER[4][0], dst=INNER[4][1]) / TCP(dport=80, flags="S"),
                       IP(src=INNER[4][0], dst=INNER[4][1], proto=47) / Raw(b"\0\0\x08\0" + b"x" * 9),
                       IPv6(src=INNER[6][0], dst=INNER[6][1]) / ICMPv6EchoRequest(data=b"ping")):
            assert bytes(pipe.open_by_scapy(pipe.seal(packet))) == bytes(packet)
