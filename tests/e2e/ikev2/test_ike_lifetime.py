"""TS-60: the volume lifetime. 2560 kB is the smallest; at line rate it is over within a few round trips of a rekey."""
import pytest

import ike_wire
import lab
import traffic
from balance import assert_balanced, drops
from ike_documents import children
from ike_pairs import SwanLab
from ike_wire import CREATE_CHILD
from netns import wait_until

LIFETIME_KB = 2560
LOSSES = ("sa_expired", "hold_full", "no_outbound_sa", "no_sa", "sequence_exhausted")


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch, flows=("map4",), dataplane={"umem_frames": 32768, "ring_entries": 16384}) as made:
        made.deep_buffers()
        made.iperf = traffic.Iperf(made.hB, lab.host(2, "map4"))
        yield made


def established(world) -> set[str]:
    world.configure(esp="aes128gcm16", association={"lifetime_kilobytes": LIFETIME_KB})
    world.up("postern")
    return {child["esp_spi_in"] for child in children(world.left)}


@pytest.mark.alone
@pytest.mark.parametrize("back", [False, True], ids=["out", "in"])
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_five_megabytes(world, kind, back):
    """Twice the lifetime, by iperf3 and by a numbered stream (iperf3's UDP socket is too small for a busy machine): rekeyed on the way,
    0 lost."""
    first = established(world)
    before = drops(world.left)
    with world.capture("udp port 4500 and udp[8:4] = 0") as capture:
        if kind == "tcp":
            got = world.iperf.run(world.hA, "-n", "5M", *(["-R"] if back else []), seconds=None)
            assert got["sum_sent"]["bytes"] >= 5_000_000
        else:
            stream = world.stream(back=back, rate=8000, size=1200)
            stream.more(4500)
            got = stream.finish()
            assert got["sent"] >= 4500 and got["lost"] == got["wrong"] == got["duplicate"] == 0, f"{got}; counted: {world.losses()}"
        wire = ike_wire.read(capture.frames())
    assert [one for one in wire.exchanges(CREATE_CHILD) if one.source == lab.OUT4[1]], "rekeyed by Postern"
    assert {child["esp_spi_in"] for child in children(world.left)}.isdisjoint(first)
    lost = drops(world.left) - before
    assert not {reason: lost[reason] for reason in LOSSES if lost[reason]}, f"{lost}; {world.losses()}"
    assert_balanced(world.left)


def test_hard_limit_stops_use_when_the_peer_does_not_rekey(world):
    """Its answers to CREATE_CHILD_SA are lost: what is sealed ends at the lifetime, and not one packet is in clear."""
    established(world)
    before = drops(world.left)

    def held_in_vain() -> int:
        now = drops(world.left) - before
        return now["sa_expired"] + now["hold_full"]

    with world.lost(world.n1, "udp sport 4500 @th,64,32 0"), world.capture() as capture:
        stream = world.stream(rate=5000, size=1000)
        wait_until(lambda: held_in_vain() > 100, 15, "the hard limit")
        stream.finish()
        frames = capture.frames()
        wire = ike_wire.read(frames)
    wire.assert_protected(1000)
    ours = [len(frame) for frame in frames if bytes(frame)[42:46] != bytes(4) and bytes(frame)[26:30] == bytes([192, 0, 2, 1])]
    assert sum(ours) - len(ours) * (14 + 20 + 8 + 8 + 8 + 16 + 2) <= LIFETIME_KB * 1024 * 1.01, "inner bytes of one SA"
    assert_balanced(world.left)


@pytest.mark.parametrize("kilobytes", [LIFETIME_KB, "disable"])
def test_without_a_volume_lifetime_volume_rekeys_nothing(world, kilobytes):
    """TS-61: three times the smallest lifetime, with it and without: rekeyed, or not at all."""
    world.configure(esp="aes128gcm16", association={"lifetime_kilobytes": kilobytes})
    world.up("postern")
    first = {child["esp_spi_in"] for child in children(world.left)}
    with world.capture("udp port 4500 and udp[8:4] = 0") as capture:
        stream = world.stream(rate=3000, size=1200)
        stream.more(3 * LIFETIME_KB * 1024 // 1200)
        stream.finish()
        wire = ike_wire.read(capture.frames())
    rekeyed = [one for one in wire.exchanges(CREATE_CHILD) if one.source == lab.OUT4[1]]
    if kilobytes == "disable":
        assert not rekeyed and {child["esp_spi_in"] for child in children(world.left)} == first
        world.ping_both()
    else:
        assert rekeyed and {child["esp_spi_in"] for child in children(world.left)}.isdisjoint(first)
