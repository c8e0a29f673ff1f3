"""Both ends begin before either has heard of the other, with strongSwan at the other end (RFC 7296 2.8.1, 2.8.2, 2.25): every pair of rekeys
and deletes. That every message is lost, doubled or late meanwhile is tests/ike/test_session_collisions.cpp's."""
import pytest

import lab
import traffic
from ike_documents import children, ike_sas
from ike_pairs import SwanLab
from netns import wait_until

pytestmark = pytest.mark.long

IKE_ON_4500 = "udp dport 4500 @th,64,32 0"  # behind the non-ESP marker: what is ESP passes


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch, flows=("map4",)) as made:
        yield made


def by_volume(world) -> None:
    """The child's volume is used up: Postern rekeys it."""
    traffic.stream(world.hA, world.hB, lab.host(2, "map4"), count=1700, rate=4000, size=1200, quiet=0.2)


OURS = {"rekey ike": lambda world: world.left.postern("crypto", "session", "rekey"), "rekey child": by_volume,
        "delete ike": lambda world: world.left.postern("clear", "crypto", "session"),
        "delete child": lambda world: world.left.postern("clear", "crypto", "sa")}
THEIRS = {"rekey ike": lambda world: world.peer.rekey(ike="net"), "rekey child": lambda world: world.peer.rekey(child="c"),
          "delete ike": lambda world: world.peer.terminate_soon(ike="net"), "delete child": lambda world: world.peer.terminate_soon(child="c")}


def crossing(world, ours: str, theirs: str) -> tuple[set, set]:
    """The first datagram of each is lost, so that both requests are outstanding when the first arrives. What there was before: our SPI of
    the IKE SA, and those of the child."""
    world.configure(association={"lifetime_kilobytes": 2560})
    world.up("postern")
    before = own_spis(world), pairs(world)[0]
    with world.lost(world.n1, IKE_ON_4500) as at_left, world.lost(world.n2, IKE_ON_4500) as at_right:
        THEIRS[theirs](world)
        wait_until(at_left, 5, "strongSwan has asked")
        OURS[ours](world)
        wait_until(at_right, 5, "Postern has asked")
    return before


def own_spis(world) -> set[str]:
    return {sa["local_spi"] for sa in ike_sas(world.left)}


def pairs(world) -> tuple[set, set]:
    """SPIs of the children of either end, in the order of Postern's."""
    return ({(int(one["esp_spi_in"], 16), int(one["esp_spi_out"], 16)) for one in children(world.left)},
            {(int(one["spi-out"], 16), int(one["spi-in"], 16)) for one in world.peer.children()})


def agreed(world, ikes: int, *counts: int) -> bool:
    """Both ends have so many IKE SAs and one of these numbers of children, the same."""
    ours, theirs = pairs(world)
    return len(ike_sas(world.left)) == len(world.peer.sas()) == ikes and ours == theirs and len(ours) in counts


@pytest.mark.parametrize("theirs", [one for one in THEIRS if one.startswith("rekey")])
@pytest.mark.parametrize("ours", [one for one in OURS if one.startswith("rekey")])
def test_rekeys_cross(world, ours, theirs):
    ike, child = crossing(world, ours, theirs)

    def over() -> bool:
        """The one that was asked for last cannot be refused for good."""
        rekeyed = {"rekey ike": own_spis(world).isdisjoint(ike), "rekey child": pairs(world)[0].isdisjoint(child)}
        return agreed(world, 1, 1) and (rekeyed[ours] or rekeyed[theirs])

    wait_until(over, 20, "one IKE SA with one child, of which both ends say the same")
    world.ping_both()
    if ours == theirs == "rekey ike":
        assert pairs(world)[0] == child, "the child goes on"


@pytest.mark.parametrize("ours, theirs", [(ours, theirs) for ours in OURS for theirs in THEIRS if "delete" in ours + theirs])
def test_deletes_cross(world, ours, theirs):
    before = crossing(world, ours, theirs)[1]
    ikes = 0 if "delete ike" in (ours, theirs) else 1
    # Whose rekey of a child comes too late may make another one (RFC 7296 2.25.1).
    counts = (0, 1) if ikes and "rekey child" in (ours, theirs) else (0,)
    wait_until(lambda: agreed(world, ikes, *counts), 20, "both ends say the same of what is left")
    assert pairs(world)[0].isdisjoint(before)
    # What the packet asks for may meet the rekey and be told TEMPORARY_FAILURE (RFC 7296 2.25.2), which takes longer than it is held.
    traffic.ping_until(world.hA, lab.host(2, "map4"), 20, source=lab.host(1, "map4"))
    world.ping_both()
