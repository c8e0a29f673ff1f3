"""AH, transport mode, and AH around ESP against scapy, which shares no code with ours: test_scapy.py's pipe and rules.

Run with /usr/bin/python3 -m pytest; $POSTERN_BIN is the directory that holds esp_pipe.
"""
import subprocess

import pytest

pytest.importorskip("scapy.layers.ipsec")
from scapy.layers.inet import (IP, TCP, UDP, IPOption_LSRR, IPOption_NOP, IPOption_RR, IPOption_Router_Alert,  # noqa: E402
                               IPOption_Security, IPOption_Timestamp)
from scapy.layers.inet6 import (HBHOptUnknown, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment,  # noqa: E402
                                IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, PadN, RouterAlert)
from scapy.layers.ipsec import AH, ESP, SecurityAssociation  # noqa: E402
from scapy.packet import Raw  # noqa: E402

from protection import around_esp  # noqa: E402
from test_scapy import BIN, FAMILIES, HEADER, OUTER, SPI, Pipe, answer_packet, inner_packet  # noqa: E402

AUTHENTICATORS = {"sha": ("HMAC-SHA1-96", 20, 12), "sha256": ("SHA2-256-128", 32, 16),
                  "sha384": ("SHA2-384-192", 48, 24), "sha512": ("SHA2-512-256", 64, 32),
                  "md5": ("HMAC-MD5-96", 16, 12), "aes-cmac": ("AES-CMAC-96", 16, 12)}
SIZES = (0, 1, 2, 3, 15, 16, 17, 100, 1300)


class AhPipe(Pipe):
    """The node with one AH pair; `esp`: AH around ESP of that transform. scapy as the peer of the same keys."""

    def __init__(self, authenticator="sha256", outer=4, mode="tunnel", esp=None, udp=False, ah_spi=SPI, **options):
        name, key_bytes, self.icv = AUTHENTICATORS[authenticator]
        self.mode, self.esp = mode, esp
        key = bytes(range(7, 7 + key_bytes))
        extra = {"mode": mode, "ah": ("with-" if esp else "") + authenticator, "ah_auth": key.hex(), "ah_spi": ah_spi}
        super().__init__(esp or "cbc128-sha1", outer, udp, **extra, **options)
        header = HEADER[outer]
        inside = mode == "tunnel" and not esp  # with ESP in it AH is of transport mode
        self.ah_opener, self.ah_sealer = (
            SecurityAssociation(AH, spi=ah_spi, auth_algo=name, auth_key=key,
                                tunnel_header=header(src=ends[0], dst=ends[1]) if inside else None)
            for ends in ((self.local, self.remote), (self.remote, self.local)))
        if mode == "transport":
            self.opener.tunnel_header = self.sealer.tunnel_header = None

    def out_by_scapy(self, packet, sequence, esp=True, ah=True):
        if self.esp and esp:
            packet = self.seal_by_scapy(packet, sequence)
        if not ah:
            return packet
        return around_esp(self.ah_sealer, packet, sequence) if self.esp and esp else self.ah_sealer.encrypt(packet, seq_num=sequence)

    def in_by_scapy(self, wire):
        opened = self.ah_opener.decrypt(wire)
        return self.open_by_scapy(HEADER[self.outer](bytes(opened))) if self.esp else opened


class TransportPipe(Pipe):
    def __init__(self, transform="cbc128-sha1", outer=4, udp=False, **options):
        super().__init__(transform, outer, udp, mode="transport", **options)
        self.opener.tunnel_header = self.sealer.tunnel_header = None

    def answer(self, packet, sequence):
        sealed = self.sealer.encrypt(packet, seq_num=sequence)
        if not self.udp:
            return sealed
        body = UDP(sport=4500, dport=4500, chksum=0) / Raw(bytes(sealed[ESP]))
        if self.outer == 6:
            del body.chksum
        return HEADER[self.outer](src=sealed.src, dst=sealed.dst) / body


def own(family, size=0, answer=False, **fields):
    """A packet between the SA's ends."""
    source, destination = reversed(OUTER[family]) if answer else OUTER[family]
    body = UDP(sport=1, dport=2) / Raw(bytes(i & 255 for i in range(size)))
    return HEADER[family](src=source, dst=destination, **fields) / body


def same(got, wanted):
    """But for what a hop may change: TTL is not changed here, so nothing."""
    return bytes(got) == bytes(HEADER[wanted.version](bytes(wanted)))


@pytest.mark.parametrize("outer,inner", FAMILIES)
@pytest.mark.parametrize("authenticator", AUTHENTICATORS)
def test_ah_tunnel(authenticator, outer, inner):
    with AhPipe(authenticator, outer) as pipe:
        for sequence, size in enumerate(SIZES, start=1):
            packet = inner_packet(inner, size)
            wire = pipe.seal(packet)
            assert (wire.src, wire.dst) == OUTER[outer] and wire[AH].spi == SPI and wire[AH].seq == sequence
            length = 12 + pipe.icv
            unit = 4 if outer == 4 else 8
            assert (wire[AH].payloadlen + 2) * 4 == -(-length // unit) * unit
            assert bytes(pipe.in_by_scapy(wire)) == bytes(packet)
            answer = answer_packet(inner, size)
            assert pipe.delivered(pipe.out_by_scapy(answer, sequence)) == bytes(answer)


@pytest.mark.parametrize("family", (4, 6))
@pytest.mark.parametrize("authenticator", AUTHENTICATORS)
def test_ah_transport(authenticator, family):
    with AhPipe(authenticator, family, "transport") as pipe:
        for sequence, size in enumerate(SIZES, start=1):
            packet = own(family, size)
            wire = pipe.seal(packet)
            assert wire[AH].seq == sequence and wire[AH].nh == 17
            assert same(pipe.in_by_scapy(wire), packet)
            answer = own(family, size, answer=True)
            assert pipe.delivered(pipe.out_by_scapy(answer, sequence)) == bytes(answer)


@pytest.mark.parametrize("udp", (False, True), ids=("esp", "udp"))
@pytest.mark.parametrize("family", (4, 6))
@pytest.mark.parametrize("transform", ("cbc128-sha1", "cbc256-sha256", "gcm128"))
def test_esp_transport(transform, family, udp):
    with TransportPipe(transform, family, udp) as pipe:
        for sequence, size in enumerate(SIZES, start=1):
            packet = own(family, size)
            wire = pipe.seal(packet)
            if udp and family == 6:
                sent = wire[UDP].chksum
                del wire[UDP].chksum
                assert IPv6(bytes(wire))[UDP].chksum == sent != 0
            if udp:
                wire = HEADER[family](src=wire.src, dst=wire.dst, **({"proto": 50} if family == 4 else {"nh": 50})) / \
                    ESP(bytes(wire[UDP].payload))
            opened = pipe.opener.decrypt(HEADER[family](bytes(wire)))
            assert bytes(opened.payload) == bytes(packet.payload) and (opened.src, opened.dst) == OUTER[family]
            answer = own(family, size, answer=True)
            assert pipe.delivered(pipe.answer(answer, sequence)) == bytes(answer)


@pytest.mark.parametrize("mode", ("tunnel", "transport"))
@pytest.mark.parametrize("outer", (4, 6))
def test_ah_around_esp(outer, mode):
    with AhPipe("sha256", outer, mode, esp="cbc128-sha1") as pipe:  # both of the same SPI (TS-57)
        for sequence, size in enumerate(SIZES, start=1):
            packet = inner_packet(4, size) if mode == "tunnel" else own(outer, size)
            wire = pipe.seal(packet)
            assert wire[AH].nh == 50 and ESP(bytes(wire[AH].payload)).seq == wire[AH].seq == sequence
            assert same(pipe.in_by_scapy(wire), packet)
            answer = answer_packet(4, size) if mode == "tunnel" else own(outer, size, answer=True)
            assert pipe.delivered(pipe.out_by_scapy(answer, sequence)) == bytes(answer)


@pytest.mark.parametrize("outer", (4, 6))
def test_neither_half_of_a_bundle_is_taken(outer):
    with AhPipe("sha256", outer, esp="cbc128-sha1") as pipe:
        answer = answer_packet(4, 40)
        assert pipe.dropped(pipe.out_by_scapy(answer, 1, ah=False)) == "bundle"
        alone = own(outer, 40, answer=True)
        assert pipe.dropped(pipe.out_by_scapy(alone, 1, esp=False)) == "selector"
        # AH around the ESP of nobody, then a wrong ESP in a right AH, then a right one.
        stranger = HEADER[outer](src=pipe.remote, dst=pipe.local) / ESP(spi=SPI + 1, seq=1, data=bytes(64))
        assert pipe.dropped(around_esp(pipe.ah_sealer, stranger, 2)) == "bundle"
        bad = bytearray(bytes(pipe.seal_by_scapy(answer, 3)))
        bad[-1] ^= 1
        assert pipe.dropped(around_esp(pipe.ah_sealer, HEADER[outer](bytes(bad)), 3)) == "bad_icv"
        assert pipe.delivered(pipe.out_by_scapy(answer, 4)) == bytes(answer)


OPTIONS = {
    "router alert": [IPOption_Router_Alert()],
    "security": [IPOption_Security(), IPOption_NOP()],
    "record route": [IPOption_RR(routers=["0.0.0.0", "0.0.0.0"], length=11, pointer=4), IPOption_NOP()],
    "time stamp": [IPOption_Timestamp(length=12, pointer=9, timestamp=0)],
    "several": [IPOption_NOP(), IPOption_Router_Alert(), IPOption_RR(routers=["0.0.0.0"], length=7, pointer=4)],
}


@pytest.mark.parametrize("options", OPTIONS)
def test_ipv4_options(options):
    with AhPipe("sha256", 4, "transport") as pipe:
        packet = own(4, 33, options=OPTIONS[options])
        packet = IP(bytes(packet))
        assert same(pipe.in_by_scapy(pipe.seal(packet)), packet)
        answer = IP(bytes(own(4, 33, answer=True, options=OPTIONS[options])))
        assert pipe.delivered(pipe.out_by_scapy(answer, 1)) == bytes(answer)


def test_mutable_options_may_change_and_others_may_not():
    with AhPipe("sha256", 4, "transport") as pipe:
        answer = IP(bytes(own(4, 9, answer=True, options=OPTIONS["several"])))
        wire = bytes(pipe.out_by_scapy(answer, 1))
        route = wire.index(bytes([7, 7, 4]))
        recorded = bytearray(wire)
        recorded[route + 2] = 8  # the pointer moves, a router writes its address
        recorded[route + 3:route + 7] = bytes([10, 9, 8, 7])
        alert = wire.index(bytes([0x94, 4]))
        changed = bytearray(wire)
        changed[alert + 3] ^= 1
        assert pipe.dropped(changed) == "bad_icv"
        got = IP(pipe.delivered(recorded))
        assert got[UDP].payload == answer[UDP].payload


def test_a_source_route_that_is_not_used_up():
    with AhPipe("sha256", 4, "transport") as pipe:
        routed = IP(bytes(own(4, 9, options=[IPOption_LSRR(routers=["10.0.0.1"], length=7, pointer=4), IPOption_NOP()])))
        assert dict(pipe.ask("out", routed))["drop"] == "fragment_inner"
        done = IP(bytes(own(4, 9, options=[IPOption_LSRR(routers=["10.0.0.1"], length=7, pointer=8), IPOption_NOP()])))
        assert same(pipe.in_by_scapy(pipe.seal(done)), done)


def chain(answer=False, segments=0):
    """Hop-by-hop options with one that may change, destination options, a routing header at its end, and again."""
    source, destination = reversed(OUTER[6]) if answer else OUTER[6]
    changing = HBHOptUnknown(otype=0x3E, optlen=4, optdata=b"abcd")
    fixed = HBHOptUnknown(otype=0x1E, optlen=4, optdata=b"wxyz")
    # Without addresses where scapy seals: it rotates them as if the way were still ahead.
    routing = IPv6ExtHdrRouting(type=0, segleft=segments, addresses=["2001:db8::77"] if segments else [])
    return IPv6(src=source, dst=destination) / IPv6ExtHdrHopByHop(options=[changing, RouterAlert(), PadN()]) / \
        IPv6ExtHdrDestOpt(options=[fixed, PadN()]) / routing / IPv6ExtHdrDestOpt(options=[changing, fixed]) / \
        UDP(sport=5, dport=6) / Raw(b"payload")


def test_ipv6_extension_headers():
    with AhPipe("sha384", 6, "transport") as pipe:
        packet = IPv6(bytes(chain()))
        wire = pipe.seal(packet)
        assert wire[AH].nh == 60  # what only the destination reads is behind AH (RFC 4302 3.1.1)
        assert same(pipe.in_by_scapy(wire), packet)
        answer = IPv6(bytes(chain(answer=True)))
        assert pipe.delivered(pipe.out_by_scapy(answer, 1)) == bytes(answer)
        changed = bytearray(bytes(pipe.out_by_scapy(answer, 2)))
        first = changed.index(b"abcd")
        changed[first] ^= 1
        assert pipe.delivered(changed)  # hop-by-hop, bit 0x20
        fixed = bytearray(bytes(pipe.out_by_scapy(answer, 3)))
        fixed[fixed.index(b"wxyz")] ^= 1
        assert pipe.dropped(fixed) == "bad_icv"
        behind = bytearray(bytes(pipe.out_by_scapy(answer, 4)))
        behind[behind.index(b"abcd", first + 4)] ^= 1
        assert pipe.dropped(behind) == "bad_icv"  # the same option behind AH is payload


def test_ipv6_routing_and_fragment_headers_on_the_way():
    with AhPipe("sha256", 6, "transport") as pipe:
        assert dict(pipe.ask("out", IPv6(bytes(chain(segments=1)))))["drop"] == "fragment_inner"
        answer = IPv6(bytes(own(6, 9, answer=True)))
        sealed = pipe.out_by_scapy(answer, 1)
        inside = bytes(sealed[AH])
        head = IPv6(src=sealed.src, dst=sealed.dst)
        assert pipe.dropped(head / IPv6ExtHdrRouting(type=0, segleft=1, addresses=["2001:db8::77"], nh=51) / Raw(inside)) == \
            "unparseable"
        assert pipe.dropped(head / IPv6ExtHdrFragment(nh=51) / Raw(inside)) == "unparseable"
        long = IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(252))], nh=51)
        assert pipe.dropped(head / long / Raw(inside)) == "unparseable"


@pytest.mark.parametrize("mode", ("tunnel", "transport"))
@pytest.mark.parametrize("outer", (4, 6))
def test_every_changed_byte(outer, mode):
    """Header fields that routers change are free to change; every other byte is not."""
    mutable = {4: {1, 6, 7, 8, 10, 11}, 6: {1, 2, 3, 7}}[outer]
    with AhPipe("sha256", outer, mode) as pipe:
        answer = answer_packet(4, 20) if mode == "tunnel" else own(outer, 20, answer=True)
        reasons, taken, sequence = set(), set(), 0
        for at in range(len(pipe.out_by_scapy(answer, 1))):
            sequence += 1
            bad = bytearray(bytes(pipe.out_by_scapy(answer, sequence)))
            bad[at] ^= 0x10
            if outer == 4 and at in (6, 7):
                bad[at] ^= 0x10
                bad[6] ^= 0x40  # DF alone: any other bit makes it a fragment
            if outer == 6 and at == 1:
                bad[at] ^= 0x11
            (what, value), = pipe.ask("in", bad)
            if what == "plain":
                taken.add(at)
            else:
                reasons.add(value)
        assert taken == mutable
        assert reasons <= {"bad_icv", "no_sa", "unparseable", "ah_length", "too_old", "esp_runt", "wrong_encapsulation",
                           "selector"}


@pytest.mark.parametrize("mode", ("tunnel", "transport"))
@pytest.mark.parametrize("outer", (4, 6))
def test_truncated_anywhere(outer, mode):
    with AhPipe("sha256", outer, mode) as pipe:
        answer = answer_packet(4, 20) if mode == "tunnel" else own(outer, 20, answer=True)
        whole = pipe.out_by_scapy(answer, 1)
        header = 20 if outer == 4 else 40
        for size in range(len(whole)):
            cut = bytearray(bytes(whole)[:size])
            if size >= header:  # an honest length, so that only AH is too short
                at, length = (2, size) if outer == 4 else (4, size - 40)
                cut[at:at + 2] = length.to_bytes(2, "big")
            reason = pipe.dropped(cut)
            if size < header:
                assert reason == "unparseable"
            elif size < header + 12 + pipe.icv:
                assert reason == "esp_runt"
            else:
                assert reason in ("bad_icv", "esp_runt")
        assert pipe.delivered(whole) == bytes(answer)


def resigned(pipe, packet, sequence, change):
    """What the peer would send had it made its AH header like this."""
    wire = pipe.out_by_scapy(packet, sequence)
    change(wire)
    wire = HEADER[pipe.outer](bytes(wire))
    return pipe.ah_sealer.auth_algo.sign(wire, pipe.ah_sealer.auth_key)


def test_header_fields_that_the_key_signs():
    with AhPipe("sha256", 4, "tunnel") as pipe:
        answer = answer_packet(4, 20)
        for sequence, value in enumerate((0, 1, 4, 6, 255), start=1):
            wire = bytearray(bytes(pipe.out_by_scapy(answer, sequence)))
            wire[21] = value  # payload length
            assert pipe.dropped(wire) == "ah_length"
        for sequence, value in enumerate((0, 6, 17, 41, 50, 59, 255), start=10):
            wire = resigned(pipe, answer, sequence, lambda packet: packet[AH].setfieldval("nh", value))
            assert pipe.dropped(wire) == ("bad_inner" if value == 41 else "bad_next_header")
        reserved = resigned(pipe, answer, 30, lambda packet: packet[AH].setfieldval("reserved", 7))
        assert pipe.delivered(reserved) == bytes(answer)  # RFC 4302 2.3: the receiver ignores it


def test_transport_takes_no_other_sender():
    """An IP header is not authenticated by ESP: the selectors are what holds it (RFC 4301 5.2)."""
    with TransportPipe() as pipe:
        wire = pipe.answer(own(4, 40, answer=True), 1)
        wire.src = "192.0.2.77"
        del wire.chksum
        assert pipe.dropped(wire) == "selector"
    with TransportPipe() as pipe:
        assert dict(pipe.ask("out", inner_packet(4, 10)))["drop"] == "selector"


def test_transport_next_headers():
    with TransportPipe() as pipe:
        source, destination = reversed(OUTER[4])
        tcp = IP(src=source, dst=destination) / TCP(sport=1, dport=2) / Raw(b"x")
        assert pipe.delivered(pipe.answer(IP(bytes(tcp)), 1)) == bytes(tcp)
        dummy = IP(src=source, dst=destination, proto=59) / Raw(bytes(20))
        assert pipe.dropped(pipe.answer(IP(bytes(dummy)), 2)) == "dummy"


def test_checksums_behind_nat():
    """RFC 3948 3.1.2: NAT changed an address that UDP's checksum covers; we make it anew."""
    with TransportPipe(udp=True) as pipe:
        source, destination = reversed(OUTER[4])
        before = IP(bytes(IP(src="10.9.9.9", dst=destination) / UDP(sport=7, dport=8) / Raw(b"behind nat")))
        wire = pipe.answer(before, 1)
        wire.src = source
        del wire.chksum
        got = IP(pipe.delivered(IP(bytes(wire))))
        assert bytes(got) == bytes(IP(src=source, dst=destination, id=got.id, chksum=None, ttl=got.ttl) /
                                   UDP(sport=7, dport=8) / Raw(b"behind nat"))


@pytest.mark.parametrize("mode", ("tunnel", "transport"))
def test_replays(mode):
    with AhPipe("sha", 4, mode) as pipe:
        answer = answer_packet(4, 20) if mode == "tunnel" else own(4, 20, answer=True)
        packets = {n: pipe.out_by_scapy(answer, n) for n in (1, 2, 100)}
        assert pipe.delivered(packets[2]) and pipe.dropped(packets[2]) == "replayed"
        assert pipe.delivered(packets[100]) and pipe.dropped(packets[1]) == "too_old"
        forged = bytearray(bytes(pipe.out_by_scapy(answer, 5000)))
        forged[-1] ^= 1
        assert pipe.dropped(forged) == "bad_icv" and pipe.dropped(packets[100]) == "replayed"  # the window stayed


@pytest.mark.parametrize("start", (1, (1 << 32) - 2), ids=("first", "wrap"))
@pytest.mark.parametrize("outer", (4, 6))
def test_extended_sequence_numbers(outer, start):
    """RFC 4302 2.5.1: the half that is not sent is authenticated behind the payload."""
    with AhPipe("sha256", outer, esn=start) as pipe:
        for number in range(start, start + 5):
            high, low = divmod(number, 1 << 32)
            packet, answer = inner_packet(4, 30), answer_packet(4, 30)
            wire = pipe.seal(packet)
            assert wire[AH].seq == low
            with pytest.raises(Exception):  # IPSecIntegrityError
                pipe.ah_opener.decrypt(wire.copy(), esn_en=True, esn=high + 1)
            assert bytes(pipe.ah_opener.decrypt(wire, esn_en=True, esn=high)) == bytes(packet)
            pipe.ah_sealer.seq_num = low  # it takes 0 for "not given"
            other = pipe.ah_sealer.encrypt(answer, seq_num=low, esn_en=True, esn=high + 1)
            assert pipe.dropped(other) == "bad_icv"
            assert pipe.delivered(pipe.ah_sealer.encrypt(answer, seq_num=low, esn_en=True, esn=high)) == bytes(answer)


def test_fragments_are_not_for_transport_mode():
    with TransportPipe() as pipe:
        for flags, offset in (("MF", 0), (0, 5), ("MF", 5)):
            assert dict(pipe.ask("out", own(4, 40, flags=flags, frag=offset)))["drop"] == "fragment_inner"
        assert pipe.seal(own(4, 40))


@pytest.mark.parametrize("family", (4, 6))
@pytest.mark.parametrize("kind", ("ah", "esp", "both"))
def test_the_largest_packet(family, kind):
    """Transport mode: headers, payload, and what is added fill a path of 1500; one byte more is answered."""
    header = 20 if family == 4 else 40
    ah = 28 if family == 4 else 32
    fields = {"flags": "DF"} if family == 4 else {}
    room = 1500 - header - (ah if kind != "esp" else 0)
    largest = room - 8 if kind == "ah" else (room - 8 - 16 - 12) // 16 * 16 - 2 - 8
    pipe = TransportPipe("cbc128-sha1", family) if kind == "esp" else \
        AhPipe("sha256", family, "transport", esp="cbc128-sha1" if kind == "both" else None)
    with pipe:
        wire = pipe.seal(own(family, largest, **fields))
        assert 1500 - (16 if kind != "ah" else 1) < len(wire) <= 1500
        answer = dict(pipe.ask("out", own(family, largest + 1, **fields)))
        assert answer["drop"] == "too_big" and answer["icmp"]


@pytest.mark.parametrize("kind", ("ah", "esp"))
def test_too_large_and_free_to_be_cut_is_cut_behind_protection(kind):
    """RFC 4303 3.3.4: fragmentation comes after."""
    pipe = TransportPipe() if kind == "esp" else AhPipe("sha256", 4, "transport")
    with pipe:
        packet = own(4, 1470)
        answer = pipe.ask("out", packet)
        assert [what for what, _ in answer] == ["wire", "wire"]
        pieces = [IP(piece) for _, piece in answer]
        whole = bytes(pieces[0].payload) + bytes(pieces[1].payload)
        assert pieces[0].flags == "MF" and pieces[1].frag * 8 == len(pieces[0].payload)
        joined = IP(src=pieces[0].src, dst=pieces[0].dst, id=pieces[0].id, proto=pieces[0].proto, ttl=pieces[0].ttl) / Raw(whole)
        joined = IP(bytes(joined))
        opened = pipe.opener.decrypt(joined) if kind == "esp" else pipe.ah_opener.decrypt(joined)
        assert bytes(opened.payload) == bytes(packet.payload)


def test_what_is_refused_at_installation():
    base = {"spi": SPI, "local": "192.0.2.1", "remote": "192.0.2.2", "ah": "sha256", "ah_auth": bytes(32).hex()}
    for change, why in (({"ah_auth": bytes(31).hex()}, "32"), ({"udp": 4500}, "UDP"), ({"ah_spi": 255}, "SPI")):
        arguments = [f"{key}={value}" for key, value in (base | change).items()]
        done = subprocess.run([BIN / "esp_pipe", *arguments], input="", capture_output=True, text=True, timeout=10)
        assert done.returncode == 2 and why in done.stderr
