"""The path MTU that a router between the gateways tells (RFC 4301 8.2): real "fragmentation needed" and Packet Too Big messages
of Linux's own forwarding, and scapy's forged ones."""
import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, IPv6
from scapy.packet import Raw

import lab
import traffic
from balance import DropWatch, assert_balanced, drops
from capture import Capture
from netns import wait_until
from oracle import esp_bytes, is_control
from peer import ScapyLab

pytestmark = pytest.mark.long

FLOWS = ("map4", "map6", "tunnel4", "tunnel6")
SETS = [("esp-aes", "esp-sha256-hmac"), ("esp-aes 256", "esp-sha512-hmac"), ("esp-3des", "esp-md5-hmac"), ("esp-null", "esp-sha384-hmac")]
BLOCK = {"esp-aes": 16, "esp-aes 256": 16, "esp-3des": 8, "esp-null": 0}  # and as many bytes of IV; RFC 4303 aligns to 4
ICV = {"esp-sha256-hmac": 16, "esp-sha384-hmac": 24, "esp-sha512-hmac": 32, "esp-md5-hmac": 12}
ROUTER4, ROUTER6 = "203.0.113.5", "2001:db8:99::5"


def plaintext_mtu(path: int, flow: str, transforms: tuple[str, str], udp: bool = False) -> int:
    """SV-19: (path - outer header - 8 - IV - ICV) rounded down to the block, minus 2."""
    block = BLOCK[transforms[0]]
    room = path - (20 if flow.endswith("4") else 40) - 8 * udp - 8 - block - ICV[transforms[1]]
    return room // max(block, 4) * max(block, 4) - 2


def shown(node, flow: str) -> dict:
    """`mtu` of the flow in `show crypto ipsec sa`."""
    for interface in node.show("crypto", "ipsec", "sa")["interfaces"]:
        for one in interface["flows"]:
            name = "tunnel" if interface["name"].startswith("Tunnel") else "map"
            if name + ("6" if ":" in one["endpoints"]["local"] else "4") == flow:
                return one["mtu"]
    raise AssertionError(f"no flow {flow}")


# --- a router in between


@pytest.fixture(scope="module", params=SETS, ids=lambda s: " ".join(s))
def routed(request, module_scratch):
    with lab.RoutedPairing(module_scratch / request.param[1], transforms=request.param) as made:
        made.transforms = request.param
        yield made


@pytest.mark.parametrize("flow", FLOWS)
def test_a_router_tells_and_the_largest_ping_follows(routed, flow):
    """N1 believes its own cable until W says better; then the largest DF ping that passes has plaintext-mtu bytes (SV-19)."""
    near, far = lab.host(1, flow), lab.host(2, flow)
    headers = 28 if flow.endswith("4") else 48
    small, large = (plaintext_mtu(path, flow, routed.transforms) for path in (lab.RoutedPairing.FAR_MTU, 1500))
    traffic.ping_until(routed.hA, far, source=near)
    before = drops(routed.left)["path_mtu_learned"]
    assert shown(routed.left, flow)["path"] == 1500
    with Capture(routed.w, "w1", routed.scratch / f"learn-{flow}.pcap") as capture:
        assert traffic.ping(routed.hA, far, count=1, size=large - headers, dont_fragment=True, source=near, wait=1) == 0
        wait_until(lambda: drops(routed.left)["path_mtu_learned"] == before + 1, 5, "N1 learned")
        told = shown(routed.left, flow)
        assert (told["path"], told["plaintext"]) == (lab.RoutedPairing.FAR_MTU, small)
        assert traffic.ping(routed.hA, far, size=small - headers, dont_fragment=True, source=near) == 3
        assert traffic.ping(routed.hA, far, size=small + 1 - headers, dont_fragment=True, source=near, wait=1) == 0
    packets = [one.payload for one in capture.frames() if one.type in (0x0800, 0x86DD)]
    sizes = [len(bytes(one)) for one in packets if esp_bytes(one) is not None]
    assert max(sizes) > lab.RoutedPairing.FAR_MTU and sum(size > lab.RoutedPairing.FAR_MTU for size in sizes) == 1, "one, and never again"
    clear = [one for one in packets if esp_bytes(one) is None and not is_control(one)]
    assert len(clear) == 1 and (clear[0].haslayer(ICMP) or clear[0].haslayer(ICMPv6PacketTooBig)), "W's message, and nothing else"
    assert shown(routed.right, flow)["path"] == lab.RoutedPairing.FAR_MTU  # its own cable's
    assert_balanced(routed.left, routed.right)


def test_a_connection_survives_the_small_cable(scratch):
    """TCP of hosts that know nothing: what is too large is lost once, its sender told by N1, and all bytes arrive."""
    with lab.RoutedPairing(scratch) as routed:
        for flow in FLOWS:
            near, far = lab.host(1, flow), lab.host(2, flow)
            traffic.ping_until(routed.hA, far, source=near)
            moved = traffic.transfer(routed.hA, routed.hB, far, 300_000, near=near)
            assert moved["received"] == 300_000 and moved["right"], moved
            assert shown(routed.left, flow)["path"] == lab.RoutedPairing.FAR_MTU
        assert_balanced(routed.left, routed.right)


def test_without_df_large_packets_pass_in_pieces(scratch):
    with lab.RoutedPairing(scratch) as routed:
        for flow in ("map4", "tunnel4"):
            near, far = lab.host(1, flow), lab.host(2, flow)
            traffic.ping_until(routed.hA, far, source=near)
            assert traffic.ping(routed.hA, far, size=2000, source=near) == 3  # W cuts the ESP: DF was copied, and is clear
            assert drops(routed.left)["path_mtu_learned"] == 0
        assert_balanced(routed.left, routed.right)


# --- scapy as the router


@pytest.fixture(scope="module")
def world(module_scratch):
    """map4 is UDP-encapsulated."""
    flows = lab.fresh_flows()
    document = lab.gateway_document(1, flows)
    document["crypto_maps"][0]["entries"][0]["udp_encapsulation"] = {"local_port": 4500, "remote_port": 40123}
    with ScapyLab(module_scratch, document, flows) as made:
        yield made


@pytest.fixture
def balanced(world):
    with world.balancing():
        yield


def sent_by(world, flow: str, length: int = 1300):
    """The ESP packet that the node makes of an inner packet of `length` bytes."""
    headers = 28 if flow.endswith("4") else 48
    header = {"flags": "DF"} if flow.endswith("4") else {}
    return world.protected(world.inner(flow, False, world.mark().ljust(length - headers, b"z"), **header), flow)[0].outer


def too_big(outer, mtu: int, quoted: int = 64):
    quote = Raw(bytes(outer)[:quoted])
    if outer.version == 4:
        return IP(src=ROUTER4, dst=lab.OUT4[1]) / ICMP(type=3, code=4, nexthopmtu=mtu) / quote
    return IPv6(src=ROUTER6, dst=lab.OUT6[1]) / ICMPv6PacketTooBig(mtu=mtu) / quote


def hear(world, message, reason: str) -> None:
    with DropWatch(world.node, reason):
        world.peer.send(message)


@pytest.mark.parametrize("flow", FLOWS)
def test_forged_messages_change_nothing(world, balanced, flow):
    """Unknown SPI, wrong peer, another SA's SPI, a number that was not used, less than IPv6 allows."""
    outer = sent_by(world, flow)
    at = (20 if flow.endswith("4") else 40) + (8 if flow == "map4" else 0)

    def changed(offset: int, value: bytes):
        data = bytearray(bytes(outer))
        data[offset:offset + len(value)] = value
        return (IP if flow.endswith("4") else IPv6)(bytes(data))

    other = next(one for one in FLOWS if one != flow and one[-1] != flow[-1])
    last_of_peer = 19 if flow.endswith("4") else 39
    for forged in (changed(at, (0x77777777).to_bytes(4, "big")), changed(at, world.pair(other).to_right.spi.to_bytes(4, "big")),
                   changed(last_of_peer, b"\x63"), changed(at + 4, (0x7fffffff).to_bytes(4, "big")), changed(at + 4, bytes(4))):
        hear(world, too_big(forged, 1290), "path_mtu_forged")
    hear(world, too_big(outer, 9000), "path_mtu_refused")
    if flow.endswith("6"):
        hear(world, too_big(outer, 1279), "path_mtu_refused")
    assert shown(world.node, flow)["path"] == 1500


@pytest.mark.parametrize("flow", FLOWS)
def test_a_genuine_message_is_obeyed_and_passed_on(world, balanced, flow):
    outer = sent_by(world, flow, 1400)
    hear(world, too_big(outer, 1400), "path_mtu_learned")
    mtu = plaintext_mtu(1400, flow, lab.TRANSFORMS, udp=flow == "map4")
    told = shown(world.node, flow)
    assert (told["path"], told["plaintext"]) == (1400, mtu)
    assert len(bytes(sent_by(world, flow, mtu))) <= 1400
    world.host.drain()
    with DropWatch(world.node, "too_big"):
        header = {"flags": "DF"} if flow.endswith("4") else {}
        world.host.send(world.inner(flow, False, world.mark().ljust(mtu + 1 - (28 if flow.endswith("4") else 48), b"z"), **header))
    if flow.endswith("4"):
        told = world.host.first(lambda one: one.haslayer(ICMP) and one[ICMP].type == 3 and one[ICMP].code == 4)
        assert told is not None and told[ICMP].nexthopmtu == mtu
    else:
        told = world.host.first(lambda one: one.haslayer(ICMPv6PacketTooBig))
        assert told is not None and told[ICMPv6PacketTooBig].mtu == max(mtu, 1280)
    hear(world, too_big(outer, 1400), "path_mtu_refused")  # known already


def test_the_smallest_path(world, balanced):
    outer = sent_by(world, "tunnel4", 1200)
    hear(world, too_big(outer, 68), "path_mtu_learned")
    assert shown(world.node, "tunnel4")["path"] == 576
    hear(world, too_big(sent_by(world, "tunnel4", 500), 68), "path_mtu_refused")
    outer = sent_by(world, "tunnel6", 1200)
    hear(world, too_big(outer, 1280), "path_mtu_learned")
    assert shown(world.node, "tunnel6")["path"] == 1280


def test_a_flood_is_limited(world):
    """More messages than are looked at: counted, and traffic goes on."""
    data = bytearray(bytes(sent_by(world, "map6", 1200)))
    data[43] ^= 1
    forged = bytes(too_big(IPv6(bytes(data)), 1290))
    before = drops(world.node)
    for _ in range(1000):
        world.peer.send_bytes(forged, 0x86DD)
    wait_until(lambda: sum(drops(world.node)[name] - before[name] for name in ("path_mtu_forged", "path_mtu_flood")) == 1000, 5, "all counted")
    assert drops(world.node)["path_mtu_flood"] > before["path_mtu_flood"]
    assert len(world.protected(world.inner("map6", False), "map6")) == 1
    world.assert_balanced()


def test_other_messages_about_our_esp_are_the_kernels(world, balanced):
    """Unreachable is a hint that nothing here follows (RFC 4301 8.2 asks for path MTU alone)."""
    outer = sent_by(world, "map6", 1000)
    before = shown(world.node, "map6")
    world.peer.send(IPv6(src=ROUTER6, dst=lab.OUT6[1]) / ICMPv6DestUnreach(code=0) / Raw(bytes(outer)[:64]))
    assert len(world.protected(world.inner("map6", False), "map6")) == 1
    assert shown(world.node, "map6") == before
