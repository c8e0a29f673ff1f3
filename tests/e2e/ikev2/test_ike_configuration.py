"""The configuration payload (RFC 7296 2.19) with strongSwan at the other end: it asks and is lent an address, or lends one to a tunnel."""
import json
import re

import pytest

import traffic
from ike_documents import children, diagnosis, ike_sas, wait_up
from ike_lab import inside
from ike_pairs import SwanLab
from lab import host
from many_lab import ManyLab, dynamic_document, flow_text, network, outer, temporary
from netns import wait_until
from strongswan import PLUGINS

POOL = "10.2.77.0/30"  # of the network that the access list permits
POOL6 = "2001:db8:2:0:77::/126"
NAMES = "10.1.0.53"
ASKING = {"ike": "aes128-sha256-x25519", "esp": "aes128-sha256"}


# -- strongSwan asks

@pytest.fixture(scope="module")
def world(module_scratch):
    resolver = module_scratch / "resolv.conf"
    resolver.write_text("")
    right = {"plugins": PLUGINS + " resolve", "options": {"plugins": {"resolve": {"file": resolver, "resolvconf": {"path": ""}}}}}
    with SwanLab(module_scratch, flows=("map4", "map6"), right=right) as made:
        made.resolver = resolver
        yield made


def ask(world, configuration: dict, vips: list[str] | None, flow: str = "map4"):
    swan = {"flow": flow, "family": int(flow[-1]), "local_ts": ["dynamic"], **({"more": {"vips": vips}} if vips else {})}
    world.configure(**ASKING, profile={"configuration": configuration}, swan=swan)


@pytest.mark.parametrize("wanted, lent", (("0.0.0.0", "10.2.77.1"), ("10.2.77.2", "10.2.77.2"), ("10.2.99.9", "10.2.77.1")))
def test_an_address_of_the_pool(world, wanted, lent):
    """Any, one that is free, and one that is not of the pool: then it is the one that it was lent of itself before."""
    ask(world, {"pools": [POOL], "dns": [NAMES], "subnets": ["10.1.0.0/16"], "banner": "welcome"}, [wanted])
    sa = world.up("strongswan")
    assert sa["local-vips"] == [lent]
    assert ike_sas(world.left)[0]["assigned"] == [lent]
    assert f"Assigned host addr: {lent}" in world.left.postern("show", "crypto", "ikev2", "sa", "detail").stdout
    assert sa["child-sas"][0]["local-ts"] == [f"{lent}/32"]
    assert f"nameserver {NAMES}" in world.resolver.read_text(), "strongSwan has the name server"
    # strongSwan has the address itself: it answers.
    assert traffic.ping(world.hA, lent, 3, source=host(1, "map4")) == 3
    # What is not behind that address gets no answer, though the access list would permit it.
    assert traffic.ping(world.hA, host(2, "map4"), 2, source=host(1, "map4"), wait=1) == 0
    world.down()


def test_an_ipv6_address_of_the_pool(world):
    ask(world, {"pools": [POOL6]}, ["::"], "map6")
    sa = world.up("strongswan", "map6")
    assert sa["local-vips"] == ["2001:db8:2:0:77::1"] == ike_sas(world.left)[0]["assigned"]
    assert sa["child-sas"][0]["local-ts"] == ["2001:db8:2:0:77::1/128"]
    assert traffic.ping(world.hA, "2001:db8:2:0:77::1", 3, source=host(1, "map6")) == 3
    world.down()


def test_an_address_of_each_family_in_one_request(world):
    """Both are lent; the child of an IPv4 list is about the one that it permits. Of a pool of one family only that is lent."""
    for pools, lent in (([POOL, POOL6], ["10.2.77.1", "2001:db8:2:0:77::1"]), ([POOL], ["10.2.77.1"])):
        ask(world, {"pools": pools}, ["0.0.0.0", "::"])
        sa = world.up("strongswan")
        assert sorted(sa["local-vips"]) == lent == sorted(ike_sas(world.left)[0]["assigned"])
        assert sa["child-sas"][0]["local-ts"] == ["10.2.77.1/32"]
        assert traffic.ping(world.hA, "10.2.77.1", 2, source=host(1, "map4")) == 2
        world.down()


def test_the_address_outlives_a_rekey_of_either_end(world):
    ask(world, {"pools": [POOL]}, ["0.0.0.0"])
    lent = world.up("strongswan")["local-vips"]
    for rekey in (lambda: world.peer.rekey(ike="net"), lambda: world.left.postern("crypto", "session", "rekey")):
        before = ike_sas(world.left)[0]["local_spi"]
        rekey()
        wait_until(lambda: [sa for sa in ike_sas(world.left) if sa["local_spi"] != before], 8, "rekeyed")
        wait_until(lambda: len(ike_sas(world.left)) == 1, 8, "the old one is gone")
        assert ike_sas(world.left)[0]["assigned"] == lent
    assert traffic.ping(world.hA, lent[0], 2, source=host(1, "map4")) == 2
    world.down()


def test_without_a_pool_nothing_is_lent(world):
    ask(world, {"dns": [NAMES]}, ["0.0.0.0"])
    assert not world.peer.initiate("net", seconds=6, check=False)
    sas = ike_sas(world.left)
    assert not sas or sas[0]["assigned"] == []
    world.down()


def test_who_must_ask_and_does_not_gets_no_child(world):
    ask(world, {"pools": [POOL], "required": True}, None)
    mark = world.peer.mark()
    assert not world.peer.initiate("net", seconds=6, check=False)
    world.peer.said("FAILED_CP_REQUIRED|FAIL_CP_REQ", mark)
    assert not [child for sa in ike_sas(world.left) for child in sa["children"]]
    world.down()


# -- clients that nobody knows beforehand, more of them than addresses

@pytest.fixture(scope="module")
def clients(module_scratch):
    with ManyLab(module_scratch / "clients", 4) as made:
        made.left.start()
        yield made


def come(clients, number: int, check: bool = True) -> bool:
    clients.load(number, local_ts=["dynamic"], more={"vips": ["0.0.0.0"]})
    return clients.peers[number].initiate("net", check=check, seconds=6)


def test_each_client_has_an_address_until_there_is_none(clients):
    """A dynamic map: the entry of a client is about its address alone. Of two addresses the third gets none, until one is given back."""
    clients.configure(dynamic_document(profile={"configuration": {"pools": ["10.66.0.0/30"]}}))
    clients.n1.ip("route", "replace", "10.66.0.0/30", "via", outer(2))
    for number in (2, 3):
        assert come(clients, number)
    lent = {number: clients.peers[number].established("net")[0]["local-vips"][0] for number in (2, 3)}
    assert set(lent.values()) == {"10.66.0.1", "10.66.0.2"}
    entries = temporary(clients.left)
    assert {number: flow_text(entries[outer(number)]) for number in lent} == {
        number: {(network(1), address)} for number, address in lent.items()} or {
        number: flow_text(entries[outer(number)]) for number in lent} == {
        number: {(network(1), f"{address}/32")} for number, address in lent.items()}
    mark = clients.peers[4].mark()
    assert not come(clients, 4, check=False)
    clients.peers[4].said("INTERNAL_ADDRESS_FAILURE|INT_ADDR_FAIL", mark)
    assert outer(4) not in temporary(clients.left)
    # The two others are not touched by that; each gets what is for its address.
    clients.hA.ip("route", "replace", "10.66.0.0/30", "via", "10.1.0.1", "src", "10.1.0.2")
    for number, address in lent.items():
        assert traffic.ping(clients.hA, address, 2, source="10.1.0.2") == 2, number
    # Given back.
    clients.peers[4].terminate(check=False, ike="net", force="yes")
    clients.peers[3].terminate(ike="net")
    wait_until(lambda: outer(3) not in temporary(clients.left), 8, "the third gateway's entry is gone")
    assert come(clients, 4)
    assert clients.peers[4].established("net")[0]["local-vips"] == [lent[3]]
    assert traffic.ping(clients.hA, lent[3], 2, source="10.1.0.2") == 2


# -- the other way round: Postern asks for the address of its tunnel interface

LENT = {4: "10.3.77.0/29", 6: "2001:db8:3:0:77::/125"}
ACCEPTED = {4: "10.3.0.0/16", 6: "2001:db8:3::/64"}


@pytest.fixture(scope="module")
def tunnel(module_scratch):
    with SwanLab(module_scratch / "tunnel", flows=("tunnel4",), initiate="always") as made:
        yield made


def asking(world, pool: str | None, accepted: str, family: int = 4) -> None:
    """The tunnel has no address of its own; strongSwan lends one of `pool`."""
    for name in list(world.peer._loaded):
        world.peer.unload(name)
    world.down()
    document = world.document(flows=(f"tunnel{family}",))
    del document["tunnels"][0]["addresses"]
    document["tunnels"][0]["negotiated_addresses"] = [accepted]
    more = {}
    if pool:
        name = re.sub("[^0-9a-f]", "-", pool)
        far = {"dns": [NAMES], "subnet": ["10.4.0.0/16"]} if family == 4 else {}
        world.peer._vici.request("load-pool", {name: {"addrs": pool, **far}})
        more = {"pools": [name]}
    anything = "0.0.0.0/0" if family == 4 else "::/0"
    world.peer.load(world.connection(2, flow=f"tunnel{family}", family=family, local_ts=[anything], remote_ts=["dynamic"], more=more))
    world.left.apply(document)


def tunnel_addresses(world, family: int = 4, name: str | None = None) -> list[str]:
    name = name or f"Tunnel{0 if family == 4 else 1}"
    found = json.loads(world.n1.ip("-j", f"-{family}", "address", "show", "dev", name, "scope", "global"))
    return [one["local"] for row in found for one in row.get("addr_info", []) if "local" in one]


@pytest.mark.parametrize("family", (4, 6))
def test_a_tunnel_gets_its_address_from_the_peer(tunnel, family):
    flow, name = f"tunnel{family}", f"Tunnel{0 if family == 4 else 1}"
    asking(tunnel, LENT[family], ACCEPTED[family], family)
    wait_up(tunnel.left)
    sa = tunnel.peer.established("net")[0]
    (address,) = sa["remote-vips"]
    told = ike_sas(tunnel.left)[0]["configuration"]
    assert (told["interface"], told["addresses"]) == (name, [address])
    assert (told["dns"], told["subnets"]) == (([NAMES], ["10.4.0.0/16"]) if family == 4 else ([], []))
    wait_until(lambda: tunnel_addresses(tunnel, family) == [address], 5, f"{name} has it")
    traffic.ping_until(tunnel.n1, host(2, flow), 5, source=address)  # its routes come a moment later
    assert traffic.ping(tunnel.n1, host(2, flow), 3, source=address) == 3
    assert f"Pushed IP address: {address}" in tunnel.left.postern("show", "crypto", "ikev2", "sa", "detail").stdout
    # The address outlives the keys, but not the IKE SA.
    before = ike_sas(tunnel.left)[0]["local_spi"]
    tunnel.left.postern("crypto", "session", "rekey")
    wait_until(lambda: [one["local_spi"] for one in ike_sas(tunnel.left) if one["local_spi"] != before], 8, "rekeyed")
    assert tunnel_addresses(tunnel, family) == [address]
    assert traffic.ping(tunnel.n1, host(2, flow), 3, source=address) == 3
    tunnel.peer.unload("net")
    tunnel.peer.terminate(ike="net")
    wait_until(lambda: tunnel_addresses(tunnel, family) == [], 8, "the address is gone")


def test_a_tunnel_of_both_families_gets_an_address_of_each(tunnel):
    """In one request and one answer, for one child SA."""
    for name in list(tunnel.peer._loaded):
        tunnel.peer.unload(name)
    tunnel.down()
    document = tunnel.document(flows=("tunnel4",))
    document["tunnels"][0] |= {"mode": "ipsec dual-overlay", "negotiated_addresses": list(ACCEPTED.values()),
                               "routes": [inside(2, "tunnel4"), inside(2, "tunnel6")]}
    del document["tunnels"][0]["addresses"]
    for family, addresses in LENT.items():
        tunnel.peer._vici.request("load-pool", {f"both{family}": {"addrs": addresses}})
    tunnel.peer.load(tunnel.connection(2, flow="tunnel4", local_ts=["0.0.0.0/0", "::/0"], remote_ts=["dynamic"], more={"pools": ["both4", "both6"]}))
    tunnel.left.apply(document)
    wait_up(tunnel.left)
    lent = tunnel.peer.established("net")[0]["remote-vips"]
    assert len(lent) == 2 and sorted(ike_sas(tunnel.left)[0]["configuration"]["addresses"]) == sorted(lent)
    for family in (4, 6):
        (address,) = tunnel_addresses(tunnel, family, "Tunnel0")
        assert address in lent
        traffic.ping_until(tunnel.n1, host(2, f"tunnel{family}"), 5, source=address)
        assert traffic.ping(tunnel.n1, host(2, f"tunnel{family}"), 3, source=address) == 3
    assert len(children(tunnel.left)) == 1
    tunnel.peer.unload("net")


@pytest.mark.parametrize("pool, accepted, words", ((None, ACCEPTED[4], "lends no address"), (LENT[4], "10.99.0.0/16", "an address that we do not take")))
def test_no_address_no_tunnel(tunnel, pool, accepted, words):
    """Where the peer has none, or one that the document does not allow, the IKE SA is closed and the interface stays without."""
    asking(tunnel, pool, accepted)
    wait_until(lambda: any(words in row["summary"] for row in diagnosis(tunnel.left)), 10, words)
    assert tunnel_addresses(tunnel) == []
    wait_until(lambda: not children(tunnel.left), 5, "no child SA")
