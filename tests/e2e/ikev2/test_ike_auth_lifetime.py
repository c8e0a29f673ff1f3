"""AUTH_LIFETIME (RFC 4478): who answers says how long what the other proved counts, and that proves it anew before that is over. strongSwan says it
where it cannot reauthenticate by itself: to a user who has come by EAP."""
import re

import pytest

import ike_wire
import lab
import pki
from certificate_lab import OURS
from eap_lab import EapLab
from ike_documents import children, ike_sas
from ike_wire import AUTH, SA_INIT
from netns import wait_until

pytestmark = pytest.mark.usefixtures("no_stream_is_left")

LIFETIME = 16
RATE = 2000


@pytest.fixture(scope="module")
def world(module_scratch):
    with EapLab(module_scratch) as made:
        made.deep_buffers()
        yield made


@pytest.mark.alone
def test_we_reauthenticate_before_the_peers_lifetime_is_over(world):
    """RFC 4478 3: by a new IKE SA, made before the old one goes and before strongSwan has to ask; no packet of a stream is lost."""
    since = world.peer.mark()
    world.we_come(more={"reauth_time": f"{LIFETIME}s", "rand_time": "0s", "over_time": "60s", "unique": "never"})
    first = world.up("postern")
    world.peer.said(r"generating IKE_AUTH response \d+ \[[^\]]*N\(AUTH_LFT\)", since)
    spis = {child["esp_spi_in"] for child in children(world.left)}
    with world.capture("udp port 500 or (udp port 4500 and udp[8:4] = 0)") as capture:
        stream = world.stream(rate=RATE)

        def changed() -> bool:
            sas = world.peer.established()
            return len(sas) == 1 and sas[0]["uniqueid"] != first["uniqueid"]

        wait_until(changed, LIFETIME + 1, "a new IKE SA alone", 0.1, 1)
        stream.more(2000)
        got = stream.finish()
        wire = ike_wire.read(capture.frames())
    assert got["lost"] == got["wrong"] == got["duplicate"] == 0, f"{got}; counted: {world.losses()}"
    log = world.peer.log()[since:]
    _, second = [one.start() for one in re.finditer(r"IKE_SA net\[\d+\] established", log)]
    assert "did not reauthenticate as requested" not in log[:second]
    for exchange in (SA_INIT, AUTH):
        assert {one.source for one in wire.exchanges(exchange)} == {lab.OUT4[1]}, "we began it"
    (ours,), (now,) = ike_sas(world.left), world.peer.established()
    assert ours["role"] == "initiator" and int(ours["remote_spi"], 16) == int(now["responder-spi"], 16) != int(first["responder-spi"], 16)
    assert len(children(world.left)) == len(now["child-sas"]) == 1 and {child["esp_spi_in"] for child in children(world.left)}.isdisjoint(spis)
    world.ping_both()


def test_who_says_nothing_sets_no_lifetime(world):
    """The same strongSwan without it: nobody begins anew."""
    since = world.peer.mark()
    world.we_come()
    first = world.up("postern")
    assert "AUTH_LFT" not in world.peer.log()[since:]
    with world.capture("udp port 500") as capture:
        world.ping_both(count=40)
        assert not capture.frames()
    assert world.peer.established()[0]["uniqueid"] == first["uniqueid"] and len(ike_sas(world.left)) == 1


@pytest.mark.parametrize("ends", [True, False], ids=["certificate ends", "certificate does not end"])
def test_we_tell_a_user_how_long(world, ends):
    """What we proved by our certificate ends with it; strongSwan reads that and plans to come again before."""
    left = 90
    own = world.ca.issue("left", [OURS], end=pki.now() + left * pki.SECOND) if ends else None
    since = world.peer.mark()
    world.user_comes(document={"own": own} if own else {})
    world.up("strongswan")
    if ends:
        told = world.peer.said(r"received AUTH_LIFETIME of (\d+)s, scheduling reauthentication in (\d+)s", since)
        assert left / 2 <= int(told[1]) <= left and int(told[2]) <= int(told[1])
    else:
        assert "AUTH_LIFETIME" not in world.peer.log()[since:]
    world.ping_both()
