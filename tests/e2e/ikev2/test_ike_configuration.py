"""strongSwan asks for an address (RFC 7296 2.19), as clients do: it is lent one of the pool, and only that one is behind it."""
import pytest

import traffic
from ike_documents import ike_sas
from ike_pairs import SwanLab
from lab import host

POOL = "10.2.77.0/30"  # of the network that the access list permits
NAMES = "10.1.0.53"


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch, flows=("map4",), right={"options": {"plugins": {"resolve": {}}}}) as made:
        yield made


def ask(world, configuration: dict, vips: list[str]):
    profile = {"configuration": configuration}
    world.configure(ike="aes128-sha256-x25519", esp="aes128-sha256", profile=profile, swan={"local_ts": ["dynamic"], "more": {"vips": vips}})


@pytest.mark.parametrize("wanted, lent", (("0.0.0.0", "10.2.77.1"), ("10.2.77.2", "10.2.77.2"), ("10.2.99.9", "10.2.77.2")))
def test_an_address_of_the_pool(world, wanted, lent):
    """Any, one that is free, and one that is not of the pool: then the peer gets what it had before."""
    ask(world, {"pools": [POOL], "dns": [NAMES], "subnets": ["10.1.0.0/16"]}, [wanted])
    sa = world.up("strongswan")
    ours = ike_sas(world.left)[0]
    assert ours["assigned"] == sa["local-vips"]
    assert sa["local-vips"][0] in ("10.2.77.1", "10.2.77.2") and (wanted == "0.0.0.0" or not wanted.startswith("10.2.77") or sa["local-vips"] == [lent])
    assert sa["child-sas"][0]["local-ts"] == [f"{sa['local-vips'][0]}/32"]
    # strongSwan has the address itself: it answers.
    assert traffic.ping(world.hA, sa["local-vips"][0], 3, source=host(1, "map4")) == 3
    # What is not behind that address gets no answer, though the access list would permit it.
    assert traffic.ping(world.hA, host(2, "map4"), 2, source=host(1, "map4"), wait=1) == 0
    world.down()


def test_without_a_pool_nothing_is_lent(world):
    ask(world, {"dns": [NAMES]}, ["0.0.0.0"])
    assert not world.peer.initiate("net", seconds=6, check=False)
    sas = ike_sas(world.left)
    assert not sas or sas[0]["assigned"] == []
    world.down()


def test_who_must_ask_and_does_not_gets_no_child(world):
    world.configure(ike="aes128-sha256-x25519", esp="aes128-sha256", profile={"configuration": {"pools": [POOL], "required": True}})
    assert not world.peer.initiate("net", seconds=6, check=False)
    assert not [child for sa in ike_sas(world.left) for child in sa["children"]]
    world.down()
