"""How an SA puts packets into their outer header, by configuration: ECN, DSCP, DF, the MSS clamp, and where large packets are cut.
An entry or tunnel says it for itself, else its profile, else ipsec.global."""
import pytest
from scapy.layers.inet import IP, TCP, UDP, defragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, defragment6
from scapy.packet import Raw

import lab
from oracle import esp_bytes, open_esp
from peer import ScapyLab

FLOWS = ("map4", "map6", "tunnel4", "tunnel6")
ECT0, CE = 2, 3


def entries(document: dict) -> list[dict]:
    return [entry for one in document["crypto_maps"] for entry in one["entries"]]


def made(scratch, *, globally: dict, of_maps: dict | None = None, of_profile: dict | None = None, of_tunnels: dict | None = None,
         **options) -> ScapyLab:
    flows = lab.fresh_flows()
    document = lab.gateway_document(1, flows, **options)
    document["ipsec"]["global"] = globally
    for entry in entries(document):
        entry.update(of_maps or {})
    for profile in document["ipsec"]["profiles"]:
        profile.update(of_profile or {})
    for tunnel in document["tunnels"]:
        tunnel.update(of_tunnels or {})
    return ScapyLab(scratch, document, flows)


def field(flow: str) -> str:
    return "tos" if flow.endswith("4") else "tc"


def mark_after(world, flow: str, inner: int, outer: int) -> int | None:
    """The traffic class of what comes out; None: nothing does."""
    payload = world.mark()
    packet = world.seal(flow, world.inner(flow, True, payload, **{field(flow): inner}), **{field(flow): outer})
    got = world.delivered(packet, payload)
    return None if got is None else getattr(got, field(flow))


def test_ecn_by_default_is_propagated(scratch):
    """R43-05: what RFC 4301 and 6040 say, without a command."""
    with made(scratch, globally={}) as world:
        for flow in FLOWS:
            assert mark_after(world, flow, ECT0, CE) == CE  # R43-03
            payload = world.mark()
            lost = world.seal(flow, world.inner(flow, True, payload, **{field(flow): 0}), **{field(flow): CE})
            world.refused(lost, "ecn_invalid", payload)
            assert getattr(world.protected(world.inner(flow, False, **{field(flow): CE}), flow)[0].outer, field(flow)) == CE
        world.assert_balanced()


def test_ecn_discard_drops_the_mark_and_keeps_the_packet(scratch):
    """R43-04 globally; R43-06: the maps' entries say otherwise and win, the tunnels' profile too where the tunnel says nothing."""
    with made(scratch, globally={"ecn": "discard"}, of_maps={"ecn": "propagate"}) as world:
        for flow in ("map4", "map6"):
            assert mark_after(world, flow, ECT0, CE) == CE
        for flow in ("tunnel4", "tunnel6"):
            assert mark_after(world, flow, ECT0, CE) == ECT0
            assert mark_after(world, flow, 0, CE) == 0
            assert getattr(world.protected(world.inner(flow, False, **{field(flow): ECT0}), flow)[0].outer, field(flow)) == 0
        world.assert_balanced()


def test_dscp_copied_or_set(scratch):
    """R43: the profile speaks for its tunnels, and a tunnel for itself."""
    with made(scratch, globally={"dscp": 10}, of_maps={"dscp": "copy"}, of_profile={"dscp": 46}) as world:
        for flow in FLOWS:
            outer = world.protected(world.inner(flow, False, **{field(flow): 26 << 2}), flow)[0].outer
            assert getattr(outer, field(flow)) >> 2 == (26 if flow.startswith("map") else 46)
        world.assert_balanced()


@pytest.mark.parametrize("df", ("copy", "set", "clear"))
def test_df_of_an_entry_wins(scratch, df):
    """R43-09."""
    other = "clear" if df == "set" else "set"
    with made(scratch, globally={"df_bit": other}, of_maps={"df_bit": df}, of_profile={"df_bit": other}, of_tunnels={"df_bit": df}) as world:
        for flow in ("map4", "tunnel4"):
            for inner in (0, 1):
                outer = world.protected(world.inner(flow, False, flags="DF" if inner else 0), flow)[0].outer
                assert ("DF" in outer.flags) == {"copy": bool(inner), "set": True, "clear": False}[df]
        world.assert_balanced()


def syn(flow: str, towards_host: bool, mss: int | None, payload: bytes, flags: str = "S"):
    source, destination = (lab.host(2, flow), lab.host(1, flow)) if towards_host else (lab.host(1, flow), lab.host(2, flow))
    options = [] if mss is None else [("NOP", None), ("NOP", None), ("MSS", mss), ("WScale", 7), ("EOL", None)]
    layer = IP if flow.endswith("4") else IPv6
    packet = layer(src=source, dst=destination) / TCP(sport=40000, dport=80, flags=flags, options=options) / Raw(payload)
    return layer(bytes(packet))


def announced(packet) -> int | None:
    """The MSS, of a packet whose TCP checksum is right."""
    fresh = packet.copy()
    del fresh[TCP].chksum
    assert packet[TCP].chksum == type(packet)(bytes(fresh))[TCP].chksum, "TCP checksum"
    return dict(packet[TCP].options).get("MSS")


def auto(flow: str) -> int:
    """SV-19 at 1500 bytes with AES-CBC and HMAC-SHA-256-128, less IP and TCP headers."""
    outer, inner = (20, 40) if flow.endswith("4") else (40, 60)
    return (1500 - outer - 8 - 16 - 16) // 16 * 16 - 2 - inner


@pytest.mark.parametrize("flags", ("S", "SA"))
def test_the_mss_clamp(scratch, flags):
    """`auto` for the maps, 1200 for the tunnels; both directions, both families; never raised."""
    with made(scratch, globally={"tcp_mss": "auto"}, of_profile={"tcp_mss": 1200}) as world:
        for flow in FLOWS:
            most = 1200 if flow.startswith("tunnel") else auto(flow)
            for offered, wanted in ((9000, most), (most + 1, most), (most, most), (536, 536), (None, None)):
                payload = world.mark()
                sent = world.protected(syn(flow, False, offered, payload, flags), flow)[0].inner
                assert announced(sent) == wanted and payload in bytes(sent)
                payload = world.mark()
                got = world.delivered(world.seal(flow, syn(flow, True, offered, payload, flags)), payload)
                assert got is not None and announced(got) == wanted
        world.assert_balanced()


def test_no_clamp_by_default(scratch):
    with made(scratch, globally={}) as world:
        for flow in FLOWS:
            assert announced(world.protected(syn(flow, False, 9000, world.mark()), flow)[0].inner) == 9000
            payload = world.mark()
            assert announced(world.delivered(world.seal(flow, syn(flow, True, 9000, payload)), payload)) == 9000


def sealed_pieces(world, outer_v6: bool, count: int) -> list:
    """The outer packets of the next inner one."""
    def of_ours(one) -> bool:
        if outer_v6:
            return one.version == 6 and (one.nh == 50 or (one.haslayer(IPv6ExtHdrFragment) and one[IPv6ExtHdrFragment].nh == 50))
        return one.version == 4 and one.proto == 50
    return world.peer.collect(of_ours, 5, count)


@pytest.mark.parametrize("flow,cross", (("map4", False), ("tunnel4", False), ("tunnel4", True)), ids=("map", "tunnel", "tunnel over IPv6"))
def test_fragmentation_after_encryption(scratch, flow, cross):
    """The outer packet is cut, by its source; the peer puts it together and finds one whole inner packet."""
    after = {"fragmentation": "after-encryption"}
    with made(scratch, globally={"fragmentation": "before-encryption"}, of_maps=after, of_tunnels={**after, "mtu": 1500}, cross=cross) as world:
        payload = world.mark().ljust(1460, b"z")  # larger than any tunnel over 1500 bytes
        world.peer.drain()
        world.host.send(world.inner(flow, False, payload))
        pieces = sealed_pieces(world, cross, 2)
        assert len(pieces) == 2 and all(len(bytes(one)) <= 1500 for one in pieces)
        whole = defragment6(pieces) if cross else next(iter(defragment(pieces)))
        inner = open_esp(world.pair(flow).to_right, bytes(whole.payload))
        assert bytes(inner[UDP].payload) == payload and inner.frag == 0
        # What must stay whole is answered, not cut, since DF is copied.
        world.peer.drain()
        world.host.send(world.inner(flow, False, payload, flags="DF"))
        assert world.peer.first(lambda one: len(bytes(one)) > 1000 and esp_bytes(one) is not None, 0.5) is None
        world.assert_balanced()


def test_fragmentation_before_encryption(scratch):
    """The default: two ESP packets, each whole, with a fragment in each."""
    with made(scratch, globally={}) as world:
        payload = world.mark().ljust(1460, b"z")
        opened = world.protected(world.inner("map4", False, payload), "map4", count=2)
        assert len(opened) == 2 and all(one.outer.frag == 0 and "MF" not in one.outer.flags for one in opened)
        whole = next(one for one in defragment([one.inner for one in opened]) if one.haslayer(UDP))
        assert bytes(whole[UDP].payload) == payload
        world.assert_balanced()
