"""Several peers of one map entry (CM-05, CM-07, CM-13) and SAs by pair of hosts (CM-09, CM-10), with strongSwan at each peer."""
import time

import pytest

import lab
import safety
import traffic
from balance import DropWatch, assert_balanced
from ike_documents import children, diagnosis, gateway_document, ike_sas, wait_up
from many_lab import ManyLab, host, network, outer
from netns import wait_until

pytestmark = pytest.mark.long

FAR = "10.2.0.0/16"  # behind whichever peer works


@pytest.fixture(scope="module")
def world(module_scratch):
    with ManyLab(module_scratch, 3) as made:
        # N3 can serve the network of N2 as well.
        made.gateways[3].ip("address", "add", "10.2.0.2/32", "dev", "in0")
        made.left.start()
        yield made


def document(**entry) -> dict:
    """One entry with the peers N2 and N3, liveness within seconds."""
    made = gateway_document(1, flows=("map4",), esp=["aes128gcm16", "aes256-sha256"],
                            profile={"dpd": {"mode": "periodic", "interval": 10, "retry": 2}})
    one = made["crypto_maps"][0]["entries"][0]
    del one["peer"]
    one |= {"peers": [outer(2), outer(3)], **entry}
    return made


def load_both(world, **options) -> None:
    for number in (2, 3):
        world.load(number, local_ts=[FAR], **options)


def current(world) -> str:
    return world.left.show("crypto", "map")["maps"][0]["entries"][0]["current_peer"]


def up_with(world, number: int, seconds: float = 8) -> None:
    wait_until(lambda: {sa["remote"] for sa in ike_sas(world.left)} == {outer(number)} and children(world.left), seconds,
               f"an SA with {outer(number)} alone; there is {ike_sas(world.left)}; {diagnosis(world.left)[:2]}")


def clear_all(world) -> None:
    world.left.postern("clear", "crypto", "session")


def test_a_dead_peer_is_left_for_the_next_which_stays(world):
    """CM-05: from the first SA to the second peer's by liveness, without a clear packet; back up, the first is not preferred. CM-13."""
    world.configure(document())
    load_both(world, esp_proposals=["aes256-sha256", "aes128gcm16"])
    with world.capture("net 10.0.0.0/8") as capture:
        assert world.ping("map4", 1, wait=5) == 1
        up_with(world, 2)
        assert current(world) == outer(2)
        first = children(world.left)[0]
        world.peers[2].kill()
        up_with(world, 3, 45)
        wait_until(lambda: world.ping("map4", 1, wait=1) == 1, 5, "traffic by the second peer")
        assert current(world) == outer(3)
        assert children(world.left)[0]["encr"] == first["encr"], "the order of transform sets is that of the entry with each peer"
        safety.never(capture.frames(), "clear packets")
    world.peers[2].start()
    clear_all(world)
    assert world.ping("map4", 1, wait=5) == 1
    up_with(world, 3)
    entry = world.left.show("crypto", "map")["maps"][0]["entries"][0]
    assert entry["peers"] == [outer(2), outer(3)], "in the document's order"
    assert_balanced(world.left)


def test_a_peer_that_refuses_is_left_too(world):
    """Nothing answers at the first for this connection: no proposal of its is ours."""
    world.configure(document())
    world.load(2, local_ts=[FAR], proposals=["aes256-sha512-ecp521"])
    world.load(3, local_ts=[FAR])
    world.ping("map4", 2, wait=3)
    up_with(world, 3)
    assert world.ping("map4") == 3


def test_the_default_peer_comes_back_after_a_clear(world):
    """CM-07: not while the other works."""
    world.configure(document(default_peer=True))
    load_both(world)
    world.peers[2].stop()
    try:
        world.ping("map4", 1, wait=1)
        up_with(world, 3, 30)
        assert "Peer = 192.0.2.2 default" in world.left.postern("show", "crypto", "map").stdout
    finally:
        world.peers[2].start()
    assert world.ping("map4") == 3 and current(world) == outer(3), "the default alone is no reason to move"
    clear_all(world)
    assert world.ping("map4", 1, wait=5) == 1
    up_with(world, 2)


@pytest.mark.slow  # a minute without traffic
def test_the_default_peer_comes_back_after_an_idle_time(world):
    """CM-07, CM-08: an entry with `default_peer` and one without are both at the second peer when their SAs end for want of traffic, though
    liveness goes on asking; the first goes to the first peer again, the other stays."""
    flows = {"c": ("10.1.0.0/16", FAR, lab.host(1, "map4"), lab.host(2, "map4")),
             "d": ("10.3.0.0/16", "10.4.0.0/16", lab.host(1, "tunnel4"), lab.host(2, "tunnel4"))}
    made = document(default_peer=True, security_association={"idle_time": 60})
    made["acls"].append({"name": "STAYS", "rules": [{"action": "permit", "protocol": "ip", "source": flows["d"][0], "destination": flows["d"][1]}]})
    made["crypto_maps"][0]["entries"].append({**made["crypto_maps"][0]["entries"][0], "sequence": 20, "match_address": "STAYS", "default_peer": False})
    world.configure(made)
    load_both(world, children={name: {"local_ts": [far], "remote_ts": [near]} for name, (near, far, _, _) in flows.items()})
    world.gateways[3].ip("address", "replace", f"{flows['d'][3]}/32", "dev", "in0")
    world.n1.ip("route", "replace", "10.4.0.0/16", "via", outer(2))

    def touch(name: str, wait: float = 5) -> int:
        return traffic.ping(world.hA, flows[name][3], 1, source=flows[name][2], wait=wait)

    world.peers[2].stop()
    try:
        wait_until(lambda: touch("c", 1) and touch("d", 1), 40, "both at the second peer")
    finally:
        world.peers[2].start()
        world.load(2, children={name: {"local_ts": [far], "remote_ts": [near]} for name, (near, far, _, _) in flows.items()})
    assert {sa["remote"] for sa in ike_sas(world.left)} == {outer(3)}
    last = time.monotonic()
    wait_until(lambda: not children(world.left), 75, "both are deleted", 0.5)
    assert time.monotonic() - last >= 55, "not before their time"
    assert touch("c") == 1 and touch("d") == 1
    where = {child["name"].split(" out0")[0]: sa["remote"] for sa in ike_sas(world.left) for child in sa["children"] if child["outbound"]}
    assert where == {"M4 10": outer(2), "M4 20": outer(3)}


def test_either_peer_may_begin(world):
    world.configure(document())
    load_both(world)
    assert world.peers[3].initiate("net")
    up_with(world, 3)
    assert world.ping("map4") == 3 and current(world) == outer(3)


# -- by pair of hosts: those at the far end are addresses of N3 itself, since strongSwan's userspace IPsec wants an own one in each selector

def hosts_document(limit: int | None) -> dict:
    made = gateway_document(1, flows=("map4",), esp="aes128gcm16",
                            acl4=[{"action": "permit", "protocol": "ip", "source": network(1), "destination": network(3)}])
    made["crypto_maps"][0]["entries"][0] |= {"peer": outer(3), **({"per_host_limit": limit} if limit else {})}
    return made


def add_hosts(world) -> None:
    world.hA.ip("address", "replace", "10.1.0.3/16", "dev", "eth0")
    for last in (2, 3, 4):
        world.gateways[3].ip("address", "replace", f"10.13.0.{last}/32", "dev", "in0")


def ping_pair(world, near: str, far: str, count: int = 2, wait: float = 3) -> int:
    """The first packet of a pair waits for its SA, or is lost."""
    traffic.ping(world.hA, far, 1, source=near, wait=wait)
    return traffic.ping(world.hA, far, count, source=near, wait=1)


def idents(world) -> set[tuple[str, str]]:
    return {(child["local_ts"][0]["text"], child["remote_ts"][0]["text"]) for child in children(world.left)}


def test_each_pair_of_hosts_has_its_own_sas(world):
    """CM-09: two by two hosts are four pairs of SAs with host selectors, none carries the other's packets; strongSwan, whose selectors are
    the networks, narrows. Without the setting they are one (CM-18)."""
    add_hosts(world)
    pairs = {(near, far) for near in ("10.1.0.2", "10.1.0.3") for far in ("10.13.0.2", "10.13.0.3")}
    world.configure(hosts_document(8))
    world.load(3)
    for near, far in sorted(pairs):
        assert ping_pair(world, near, far) == 2
    assert idents(world) == {(f"{near}/32", f"{far}/32") for near, far in pairs}
    assert len({child["flow"] for child in children(world.left)}) == 4 == len(world.peers[3].children())
    assert {tuple(sorted(child["remote-ts"])) for child in world.peers[3].children()} == {("10.1.0.2/32",), ("10.1.0.3/32",)}
    counts = {child["local-ts"][0] + child["remote-ts"][0]: int(child["packets-in"]) for child in world.peers[3].children()}
    assert all(count >= 2 for count in counts.values()), counts
    assert len(ike_sas(world.left)) == 1
    world.configure(hosts_document(None))
    world.load(3)
    for near, far in sorted(pairs):
        assert ping_pair(world, near, far) == 2
    assert idents(world) == {(network(1), network(3))}
    assert_balanced(world.left)


@pytest.mark.slow
def test_pairs_beyond_the_limit_are_dropped_and_those_that_are_there_stay(world):
    """CM-10: counted, logged, nobody is evicted; room comes back with a pair that ends."""
    add_hosts(world)
    world.configure(hosts_document(2))
    world.load(3)
    for far in ("10.13.0.2", "10.13.0.3"):
        assert ping_pair(world, "10.1.0.2", far) == 2
    before = {child["esp_spi_in"] for child in children(world.left)}
    with world.capture("net 10.0.0.0/8") as capture, DropWatch(world.left, "no_outbound_sa", 3):
        assert ping_pair(world, "10.1.0.2", "10.13.0.4", wait=1) == 0
        assert not capture.frames()
    assert {child["esp_spi_in"] for child in children(world.left)} == before
    assert "limit" in diagnosis(world.left, outer(3))[0]["summary"]
    assert ping_pair(world, "10.1.0.2", "10.13.0.3") == 2
    victim = next(child for child in children(world.left) if child["remote_ts"][0]["text"] == "10.13.0.3/32")
    world.left.postern("clear", "crypto", "sa", "spi", victim["esp_spi_in"])
    wait_until(lambda: len(children(world.left)) == 1, 8, "one pair is gone")
    wait_until(lambda: ping_pair(world, "10.1.0.2", "10.13.0.4", wait=1) == 2, 45, "room for another")
    assert len(children(world.left)) == 2


def test_pairs_live_through_edits_of_other_entries(world):
    """CM-19."""
    add_hosts(world)
    made = hosts_document(4)
    world.configure(made)
    world.load(3)
    assert ping_pair(world, "10.1.0.2", "10.13.0.3") == 2
    before = wait_up(world.left)[0]
    made["acls"].append({"name": "MORE", "rules": [{"action": "permit", "protocol": "ip", "source": "10.3.0.0/16", "destination": "10.4.0.0/16"}]})
    made["crypto_maps"][0]["entries"].append({**made["crypto_maps"][0]["entries"][0], "sequence": 20, "match_address": "MORE"})
    world.left.apply(made)
    assert {child["esp_spi_in"] for child in children(world.left)} == {before["esp_spi_in"]}
    assert ping_pair(world, "10.1.0.2", "10.13.0.3") == 2
    assert {child["esp_spi_in"] for child in children(world.left)} == {before["esp_spi_in"]}
