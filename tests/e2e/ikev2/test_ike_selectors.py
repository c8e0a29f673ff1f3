"""IKE-47: several selectors in one child SA, of either end and of both families, with strongSwan at the other end."""
import os

import pytest

import ike_wire
import lab
import traffic
from ike_documents import children, ike_sas, wait_down
from ike_lab import PSK, inside
from ike_pairs import SwanLab
from ike_script import (CREATE_CHILD, DELETE, ESP, IKE, INFORMATIONAL, NON_FIRST_FRAGMENTS_ALSO, NONCE, SA, TSI, TSR, ScriptedInitiator, notifies, notify,
                        proposal, selectors)

pytestmark = pytest.mark.long

MOST = 16  # as is configured by default
PAIRS = 32  # that an SA holds
NEAR = (lab.host(1, "map4"), "10.1.1.2")
BOTH = pytest.mark.parametrize("by", ["postern", "strongswan"])


@pytest.fixture(scope="module")
def world(module_scratch):
    """hB has an address in each of the networks 10.2.0/24 to 10.2.16/24, and so has strongSwan, which wants one for its route; hA has one
    in 10.1.0/24 and 10.1.1/24."""
    with SwanLab(module_scratch, flows=("map4",)) as made:
        for where, device, last in ((made.hB, "eth0", 2), (made.n2, "in0", 1)):
            where.ip_batch(*(f"address add 10.2.{number}.{last}/16 dev {device}" for number in range(1, MOST + 1)))
        made.hA.ip("address", "add", f"{NEAR[1]}/16", "dev", "eth0")
        yield made


def host(number: int) -> str:
    return f"10.2.{number}.2"


def networks(count: int) -> list[str]:
    return [f"10.2.{number}.0/24" for number in range(count)]


def shown(child: dict) -> list[str]:
    return sorted(one["text"] for one in child["remote_ts"])


@BOTH
@pytest.mark.parametrize("count", (2, MOST))
def test_selectors_of_one_child(world, by, count):
    """strongSwan offers so many, or narrows ours to so many; each carries packets, and what lies beside them has no SA."""
    world.configure(swan={"local_ts": networks(count)})
    world.up(by)
    (child,) = children(world.left)
    assert shown(child) == sorted(networks(count)) == sorted(world.peer.children()[0]["local-ts"])
    with world.capture() as capture:
        for number in (0, 1, count - 1):
            assert traffic.ping(world.hA, host(number), 2, source=lab.host(1, "map4")) == 2, host(number)
        if count < MOST:
            assert traffic.ping(world.hA, host(count), 1, source=lab.host(1, "map4"), wait=1) == 0
        wire = ike_wire.read(capture.frames())
    wire.assert_protected(6)
    world.down()


def two_sided(count: int) -> dict:
    return {"local_ts": networks(count), "remote_ts": ["10.1.0.0/24", "10.1.1.0/24"]}


@BOTH
def test_as_many_pairs_as_an_sa_holds(world, by):
    """Two of ours, sixteen of strongSwan's, in one child: every pair carries packets."""
    world.configure(swan=two_sided(MOST))
    world.up(by)
    (child,) = children(world.left)
    assert len(child["local_ts"]) * len(child["remote_ts"]) == PAIRS
    assert shown(child) == sorted(networks(MOST)) == sorted(world.peer.children()[0]["local-ts"])
    with world.capture() as capture:
        for near in NEAR:
            for number in (0, MOST - 1):
                assert traffic.ping(world.hA, host(number), 2, source=near) == 2, (near, number)
        wire = ike_wire.read(capture.frames())
    wire.assert_protected(8)
    world.down()


def test_more_pairs_than_an_sa_holds_are_not_agreed_on(world):
    """Of two and seventeen, where the document takes seventeen: sixteen of the latter, which both ends then have, and it stays up."""
    world.configure(swan=two_sided(MOST + 1), max_selectors=PAIRS)
    mark = world.peer.mark()
    world.up("strongswan")
    (child,) = children(world.left)
    assert shown(child) == sorted(networks(MOST)) == sorted(world.peer.children()[0]["local-ts"])
    world.peer.said(r"parsed IKE_AUTH response 1 \[.*N\(ADD_TS_POSS\)", mark)
    for near in NEAR:
        assert traffic.ping(world.hA, host(MOST - 1), 2, source=near) == 2, near
    assert len(children(world.left)) == 1 == len(world.peer.children())
    world.down()


def test_more_selectors_than_are_taken(world):
    """The first sixteen are taken, and strongSwan is told that there could be more (RFC 7296 2.9)."""
    world.configure(swan={"local_ts": networks(MOST + 1)})
    mark = world.peer.mark()
    world.up("strongswan")
    (child,) = children(world.left)
    assert shown(child) == sorted(networks(MOST)) == sorted(world.peer.children()[0]["local-ts"])
    world.peer.said(r"parsed IKE_AUTH response 1 \[.*N\(ADD_TS_POSS\)", mark)
    assert traffic.ping(world.hA, host(MOST - 1), 2, source=lab.host(1, "map4")) == 2
    with world.capture() as capture:
        assert traffic.ping(world.hA, host(MOST), 1, source=lab.host(1, "map4"), wait=1) == 0
        ike_wire.read(capture.frames()).assert_nothing_clear()
    world.down()


ANY = ["0.0.0.0/0", "::/0"]


@BOTH
def test_one_child_of_both_families(scratch, by):
    """A tunnel of both families: one IKE SA, one child with a selector of each, over IPv4."""
    with SwanLab(scratch, start=False, flows=("tunnel4",), initiate="on_traffic") as made:
        document = made.document()
        document["tunnels"][0] |= {"mode": "ipsec dual-overlay", "addresses": ["172.16.0.1/30", "2001:db8:a::1/64"],
                                   "routes": [inside(2, "tunnel4"), inside(2, "tunnel6")]}
        lab.documents.write(document, made.left.config)
        made.peer.start()
        made.left.start()
        made.peer.load(made.connection(2, flow="tunnel4", local_ts=ANY, remote_ts=ANY))
        made.up(by, "tunnel4")
        (child,) = children(made.left)
        assert [[one["text"] for one in child[side]] for side in ("local_ts", "remote_ts")] == [ANY, ANY]
        with made.capture() as capture:
            for flow in ("tunnel4", "tunnel6"):
                made.ping_both(flow)
            wire = ike_wire.read(capture.frames())
        wire.assert_protected(16)
        assert wire.spis() == {int(child["esp_spi_in"], 16), int(child["esp_spi_out"], 16)}
        assert len(ike_sas(made.left)) == 1 == len(made.peer.children())


def test_later_fragments_are_not_agreed_on(world):
    """RFC 7296 1.3.1: NON_FIRST_FRAGMENTS_ALSO counts where both say it. We do not, in IKE_AUTH or later, and the SA is what it is without."""
    world.down()
    world.left.apply(world.document(ike="aes128-sha256-x25519", esp="aes128gcm16"))
    world.peer.stop()
    try:
        found = []
        for extra in ([notify(NON_FIRST_FRAGMENTS_ALSO)], []):
            with ScriptedInitiator(world.n2, lab.OUT4[2], lab.OUT4[1], PSK) as client:
                client.begin()
                ends = selectors(("10.2.0.0", "10.2.255.255")), selectors(("10.1.0.0", "10.1.255.255"))
                first = client.authenticate(*ends, extra)
                more = client.exchange([proposal(ESP, os.urandom(4), [(1, 20, 128), (5, 0, 0)]), (NONCE, os.urandom(32)), (TSI, ends[0]), (TSR, ends[1]), *extra],
                                       CREATE_CHILD)
                for answer in (first, more):
                    assert SA in [kind for kind, _ in answer] and NON_FIRST_FRAGMENTS_ALSO not in notifies(answer)
                made = children(world.left)
                assert len(made) == 2
                found.append([{key: one[key] for key in ("flow", "local_ts", "remote_ts", "mode", "encr", "name")} for one in made])
                client.exchange([(DELETE, bytes([IKE, 0, 0, 0]))], INFORMATIONAL)
                wait_down(world.left)
        assert found[0] == found[1]
    finally:
        world.peer.start()
