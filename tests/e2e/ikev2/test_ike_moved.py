"""A peer behind a NAT that forgets its mapping (RFC 7296 2.23, last paragraph): its SAs go on at the new port, and nobody else moves them."""
import pytest

import ike_wire
from balance import assert_balanced, drops
from ike_documents import children, ike_sas
from ike_pairs import SwanLab
from ike_wire import AUTH, CREATE_CHILD, SA_INIT
from lab import OUT4
from netns import wait_until

STRANGER = "192.0.2.77"
SEND = """
import socket, sys
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
out.bind((sys.argv[1], int(sys.argv[2])))
for data in sys.argv[4:]:
    out.sendto(bytes.fromhex(data), (sys.argv[3], 4500))
"""


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch, nat="right") as made:
        made.w.ip("address", "add", f"{STRANGER}/24", "dev", "br0")
        yield made


def established(world) -> dict:
    world.configure()
    return world.up("strongswan")


def flush_mapping(world) -> None:
    """A masquerade forgets what it did for an interface that goes down; the next packet gets another random port."""
    world.nat.ip("link", "set", "out", "down")
    world.nat.ip("link", "set", "out", "up")


def port(world) -> int:
    return ike_sas(world.left)[0]["remote_port"]


def assert_moved(world, spis: set[str], before: int, wire: ike_wire.Wire) -> None:
    assert port(world) != before
    assert {child["esp_spi_in"] for child in children(world.left)} == spis, "the same SAs go on"
    assert not wire.exchanges(SA_INIT) and not wire.exchanges(AUTH)
    wire.assert_safe()


def spis_of(world) -> set[str]:
    return {child["esp_spi_in"] for child in children(world.left)}


def ports_to_peer(capture) -> set[int]:
    """UDP ports that ESP was sent to by Postern."""
    from scapy.layers.inet import IP, UDP
    found = set()
    for frame in capture.frames():
        if frame.haslayer(UDP) and frame[IP].src == OUT4[1] and frame[UDP].sport == 4500 and bytes(frame[UDP].payload)[:4] != bytes(4):
            found.add(frame[UDP].dport)
    return found


def test_esp_comes_from_another_port(world):
    """Under traffic from behind the NAT: the worker sees the first authentic packet from there, and IKE decides."""
    established(world)
    before, spis = port(world), spis_of(world)
    stream = world.stream(back=True, rate=2000)
    stream.more(1000)
    with world.capture() as capture:
        flush_mapping(world)
        wait_until(lambda: port(world) != before, 8, "Postern knows the new port")
        wire_port = port(world)
        stream.more(1000)
        world.ping_both()
        stream.finish()
        wire = ike_wire.read(capture.frames())
    assert_moved(world, spis, before, wire)
    assert not wire.exchanges(CREATE_CHILD), "nobody rekeyed for it"
    assert wire_port in ports_to_peer(capture)
    assert_balanced(world.left)


def test_ike_comes_from_another_port(world):
    """Without traffic of the peer: its next IKE message tells; what we send goes there at once."""
    established(world)
    world.ping_both()
    before, spis = port(world), spis_of(world)
    flush_mapping(world)
    world.peer.rekey(ike="net")
    wait_until(lambda: len(ike_sas(world.left)) == 1 and port(world) != before, 12, "Postern knows the new port")
    with world.capture() as capture:
        assert world.ping(count=3) == 3, "hA -> hB through the new mapping"
        wire = ike_wire.read(capture.frames())
    assert ports_to_peer(capture) == {port(world)}
    assert spis_of(world) == spis
    wire.assert_safe()


def test_nobody_else_moves_a_peer(world):
    """From another address: a forged packet, a replayed one, a forged and a replayed IKE message. Nothing of it changes anything."""
    established(world)
    before, spis = (port(world), ike_sas(world.left)[0]["remote"]), spis_of(world)
    with world.capture() as capture:
        world.ping_both()
        world.peer.rekey(child="c")
        wait_until(lambda: spis_of(world).isdisjoint(spis) and len(children(world.left)) == 1, 12, "a rekey")
        world.ping_both()
        frames = capture.frames()
        wire = ike_wire.read(frames)
    spi = next(int(child["esp_spi_in"], 16) for child in children(world.left))
    sealed = [bytes(frame)[42:] for frame in frames if int.from_bytes(bytes(frame)[42:46], "big") == spi]
    assert sealed, "packets of the SA that is in use"
    last = sealed[-1]
    number = int.from_bytes(last[4:8], "big")
    forged = last[:4] + (number + 5).to_bytes(4, "big") + last[8:]
    cut = last[:4] + (number + 6).to_bytes(4, "big") + last[8:20]
    said = next(one for one in wire.exchanges(CREATE_CHILD) if one.source == OUT4[2]).data
    marker = bytes(4)
    next_id = (int.from_bytes(said[20:24], "big") + 1).to_bytes(4, "big")
    messages = [forged, last, cut, marker + said, marker + said[:20] + next_id + said[24:], marker + said[:-1] + bytes([said[-1] ^ 1])]
    counted = drops(world.left)
    world.w.run("python3", "-c", SEND, STRANGER, "5555", OUT4[1], *(one.hex() for one in messages))
    wait_until(lambda: drops(world.left)["bad_icv"] > counted["bad_icv"] and drops(world.left)["replayed"] > counted["replayed"], 5,
               "the forged and the replayed packet are counted")
    assert (port(world), ike_sas(world.left)[0]["remote"]) == before
    with world.capture() as capture:
        world.ping_both()
        wire = ike_wire.read(capture.frames())
    assert {one for _, one, *_ in wire.esp} == {OUT4[1], OUT4[2]}, "not one packet to the stranger"
    assert_balanced(world.left)
