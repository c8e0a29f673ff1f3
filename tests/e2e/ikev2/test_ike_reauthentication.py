"""strongSwan reauthenticates by itself, make before break: a second IKE SA beside the first, whose child takes over under a numbered stream."""
import pytest
from scapy.layers.inet import IP

import ike_wire
import lab
from ike_documents import children, ike_sas
from ike_pairs import SwanLab
from ike_wire import AUTH, INFORMATIONAL, SA_INIT
from netns import wait_until

pytestmark = pytest.mark.usefixtures("no_stream_is_left")

RATE = 2000
UNDER_WAY = 0.005  # seconds between a packet's leaving and its being opened


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch, flows=("map4",), right={"options": {"make_before_break": "yes"}}) as made:
        made.deep_buffers()
        yield made


def under_stream(world, back: bool) -> tuple[dict, ike_wire.Wire, set[int], list]:
    """From before until after: what the stream and the wire say, the SPIs of the SAs that are there no more, and the frames."""
    world.configure(esp="aes128gcm16", swan={"more": {"reauth_time": "8s", "rand_time": "0s", "over_time": "60s"}})
    first = world.up("strongswan")
    (child,) = children(world.left)
    with world.capture("udp") as capture:
        stream = world.stream(back=back, rate=RATE)

        def changed() -> bool:
            sas = world.peer.established()
            return len(sas) == 1 and sas[0]["uniqueid"] != first["uniqueid"]

        wait_until(changed, 15, "a new IKE SA alone")
        stream.more(2000)
        got = stream.finish()
        frames = capture.frames()
    world.peer.load(world.connection(2, esp_proposals=["aes128gcm16"]))  # no more of it
    wire = ike_wire.read(frames)
    wire.assert_safe()
    (now,), (ours,) = world.peer.established(), ike_sas(world.left)
    assert now["initiator"] == "yes" and len(now["child-sas"]) == len(children(world.left)) == 1
    assert ours["role"] == "responder" and int(ours["remote_spi"], 16) == int(now["initiator-spi"], 16) != int(first["initiator-spi"], 16)
    for exchange in (SA_INIT, AUTH):
        assert {one.source for one in wire.exchanges(exchange)} == {lab.OUT4[2]}, "strongSwan began it"
    assert got["sent"] >= 2000 and got["wrong"] == got["duplicate"] == 0, f"{got}; counted: {world.losses()}"
    world.ping_both()
    before = {int(child[key], 16) for key in ("esp_spi_in", "esp_spi_out")}
    assert before.isdisjoint(int(children(world.left)[0][key], 16) for key in ("esp_spi_in", "esp_spi_out"))
    return got, wire, before, frames


@pytest.mark.slow
@pytest.mark.alone
def test_by_strongswan_make_before_break(world):
    """What strongSwan sends meanwhile arrives, by whichever SA; one IKE SA and one child are left, which are new."""
    got, *_ = under_stream(world, back=True)
    assert got["lost"] == 0, f"{got}; counted: {world.losses()}"


@pytest.mark.alone
def test_what_we_send_while_strongswan_reauthenticates(world):
    """We answer, and go on by the old SA until strongSwan uses the new one or deletes the old (RFC 7296 2.8.3). strongSwan drops its old SA the moment it has
    our answer: lost is at most what is under way beside that."""
    got, wire, before, frames = under_stream(world, back=False)
    (answered,) = [one.time for one in wire.exchanges(INFORMATIONAL, True) if one.source == lab.OUT4[1]]
    esp = [(float(frame.time), int.from_bytes(bytes(frame)[42:46], "big")) for frame in frames if frame[IP].src == lab.OUT4[1]]
    by_old, by_new = ([time for time, spi in esp if spi and (spi in before) == old] for old in (True, False))
    assert len(by_old) + len(by_new) >= got["sent"] and by_old and by_new, "the node lost nothing"
    assert max(by_old) < answered + UNDER_WAY and min(by_new) > answered - UNDER_WAY
    assert got["lost"] <= sum(1 for time in by_old if time > answered - UNDER_WAY), f"{got}; counted: {world.losses()}"
