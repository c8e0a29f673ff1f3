"""strongSwan asks for an address (RFC 7296 2.19), as clients do: it is lent one of the pool, and only that one is behind it."""
import json

import pytest

import traffic
from ike_documents import children, diagnosis, ike_sas, wait_up
from ike_pairs import SwanLab
from lab import host
from netns import wait_until

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


# -- the other way round: Postern asks for the address of its tunnel interface

LENT = "10.3.77.0/29"


@pytest.fixture(scope="module")
def tunnel(module_scratch):
    with SwanLab(module_scratch / "tunnel", flows=("tunnel4",)) as made:
        yield made


def asking(world, pool: str | None = LENT, accepted: str = "10.3.0.0/16") -> None:
    """Tunnel0 has no address of its own; strongSwan lends one of `pool`."""
    world.down()
    document = world.document()
    del document["tunnels"][0]["addresses"]
    document["tunnels"][0]["negotiated_addresses"] = [accepted]
    more = {}
    if pool:
        world.peer._vici.request("load-pool", {pool.replace("/", "-"): {"addrs": pool, "dns": NAMES}})
        more = {"pools": [pool.replace("/", "-")]}
    world.peer.load(world.connection(2, flow="tunnel4", local_ts=["0.0.0.0/0"], remote_ts=["dynamic"], more=more))
    world.left.apply(document)


def tunnel_addresses(world) -> list[str]:
    found = json.loads(world.n1.ip("-j", "-4", "address", "show", "dev", "Tunnel0").stdout)
    return [one["local"] for one in found[0]["addr_info"]]


def test_a_tunnel_gets_its_address_from_the_peer(tunnel):
    asking(tunnel)
    wait_up(tunnel.left)
    sa = tunnel.peer.established("net")[0]
    (address,) = sa["remote-vips"]
    told = ike_sas(tunnel.left)[0]["configuration"]
    assert (told["interface"], told["addresses"], told["dns"]) == ("Tunnel0", [address], [NAMES])
    wait_until(lambda: tunnel_addresses(tunnel) == [address], 5, "Tunnel0 has it")
    assert traffic.ping(tunnel.n1, host(2, "tunnel4"), 3, source=address) == 3
    assert f"Pushed IP address: {address}" in tunnel.left.postern("show", "crypto", "ikev2", "sa", "detail")
    # The address outlives the keys, but not the IKE SA.
    before = ike_sas(tunnel.left)[0]["local_spi"]
    tunnel.left.postern("crypto", "session", "rekey")
    wait_until(lambda: [one["local_spi"] for one in ike_sas(tunnel.left) if one["local_spi"] != before], 8, "rekeyed")
    assert tunnel_addresses(tunnel) == [address]
    assert traffic.ping(tunnel.n1, host(2, "tunnel4"), 3, source=address) == 3
    tunnel.peer.unload("net")
    tunnel.peer.terminate(ike="net")
    wait_until(lambda: tunnel_addresses(tunnel) == [], 8, "the address is gone")


@pytest.mark.parametrize("pool, accepted, words", ((None, "10.3.0.0/16", "lends no address"), (LENT, "10.99.0.0/16", "an address that we do not take")))
def test_no_address_no_tunnel(tunnel, pool, accepted, words):
    """Where the peer has none, or one that the document does not allow, the IKE SA is closed and the interface stays without."""
    asking(tunnel, pool, accepted)
    wait_until(lambda: any(words in row["summary"] for row in diagnosis(tunnel.left)), 10, words)
    assert tunnel_addresses(tunnel) == []
    wait_until(lambda: not children(tunnel.left), 5, "no child SA")
