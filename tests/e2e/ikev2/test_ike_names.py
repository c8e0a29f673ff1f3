"""Peers by name (CM-04, CM-06, IKE-57), with strongSwan at each address that a name may have, and a name server of the test's own."""
import os
import pathlib
import signal

import pytest

import cage
import safety
from balance import assert_balanced, drops
from ike_documents import children, diagnosis, gateway_document, ike_sas
from many_lab import ManyLab, network, outer
from name_server import NameServer
from netns import wait_until
from node import child_pids, gone
from show_schema import COMMANDS, violations

FAR = "10.2.0.0/16"  # behind whichever peer has the name
VPN = "vpn.example.net"


class NamesLab(ManyLab):
    def __init__(self, scratch):
        super().__init__(scratch, 3)
        try:
            self.names = NameServer(self.n1, f"{outer(2)} here.example.net\n")
            self.gateways[3].ip("address", "add", "10.2.0.2/32", "dev", "in0")  # N3 can serve the network of N2 as well
            self.left.start()
        except BaseException:
            self.close()
            raise


@pytest.fixture(scope="module")
def world(module_scratch):
    with NamesLab(module_scratch) as made:
        yield made


def document(*peers, family: int = 4, **profile) -> dict:
    """One entry, with these peers. Liveness within seconds."""
    made = gateway_document(1, flows=(f"map{family}",), esp="aes128gcm16",
                            profile={"dpd": {"mode": "periodic", "interval": 10, "retry": 2}, **profile})
    made["crypto_maps"][0]["family"] = f"ipv{family}"
    entry = made["crypto_maps"][0]["entries"][0]
    del entry["peer"]
    entry["peers"] = list(peers)
    return made


def load_both(world) -> None:
    for number in (2, 3):
        world.load(number, local_ts=[FAR])


def entry_of(world) -> dict:
    return world.left.show("crypto", "map")["maps"][0]["entries"][0]


def peer_line(world) -> str:
    lines = world.left.postern("show", "crypto", "map").stdout.splitlines()
    return next(line.strip() for line in lines if line.strip().startswith("Peer = "))


def peers_of_sas(world) -> set[str]:
    return {sa["remote"] for sa in ike_sas(world.left)}


def up_with(world, number: int, seconds: float = 8) -> None:
    wait_until(lambda: peers_of_sas(world) == {outer(number)} and children(world.left), seconds,
               f"an SA with {outer(number)} alone; there is {ike_sas(world.left)}; {diagnosis(world.left)[:2]}")


def clear_all(world) -> None:
    world.left.postern("clear", "crypto", "session")


def resolver_pid(world) -> int:
    def running() -> list[int]:
        return [pid for pid in child_pids(world.left.name)
                if pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].endswith(b"postern-resolver")]

    return wait_until(running, 5, "postern-resolver runs")[0]


def test_a_peer_by_name_is_resolved_at_load_and_shown_with_its_address(world):
    """CM-04; whoever begins."""
    world.names.say({VPN: [outer(2), outer(2, 6)]})
    world.configure(document(VPN))
    load_both(world)
    wait_until(lambda: peer_line(world) == f"Peer = {VPN} ({outer(2)})", 5, "resolved without any traffic")
    assert not ike_sas(world.left)
    assert world.peers[2].initiate("net"), "the peer finds us by its address"
    up_with(world, 2)
    clear_all(world)
    assert world.ping("map4", 2, wait=5) == 2
    up_with(world, 2)
    entry = entry_of(world)
    assert entry["peers"] == [VPN] and entry["current_peer"] == outer(2)
    assert entry["peer_names"] == [{"name": VPN, "dynamic": False, "address": outer(2), "reason": None}]
    session = world.left.show("crypto", "session")["sessions"][0]
    assert session["peer"]["address"] == outer(2) and session["peer"]["name"] == VPN and session["status"] == "UP-ACTIVE"
    assert f"name {VPN}" in world.left.postern("show", "crypto", "session", "peer", outer(2)).stdout
    assert_balanced(world.left)


def test_a_line_of_the_hosts_file_is_enough(world):
    asked = world.names.questions("here.example.net")
    world.configure(document("Here.Example.Net."))
    load_both(world)
    assert world.ping("map4", 1, wait=5) == 1
    up_with(world, 2)
    assert world.names.questions("here.example.net") == asked, "no name server was asked"


def test_a_name_of_nobody_is_down_with_its_reason_and_nothing_leaves_until_it_is_known(world):
    """CM-04's negative side; fail closed: what goes to an unresolved peer is dropped and counted."""
    world.names.say({})
    world.configure(document(VPN))
    load_both(world)
    before = drops(world.left)
    with world.capture("net 10.0.0.0/8 or udp port 500") as capture:
        assert world.ping("map4", 2, wait=1) == 0
        safety.never(capture.frames(), "packets in clear or by IKE")
    wait_until(lambda: drops(world.left)["no_outbound_sa"] >= before["no_outbound_sa"] + 2, 5, f"counted; {drops(world.left) - before}")
    reason = f"nobody has the name {VPN}"
    assert peer_line(world) == f"Peer = {VPN} (unresolved: {reason})"
    assert entry_of(world)["current_peer"] is None
    session = world.left.show("crypto", "session")["sessions"][0]
    assert session["status"].startswith("DOWN") and session["peer"]["address"] is None and session["peer"]["reason"] == reason
    text = world.left.postern("show", "crypto", "session").stdout
    assert f"Peer: (unresolved) port 500 name {VPN}\n      Reason: {reason}" in text
    failed = diagnosis(world.left)[0]
    assert failed["failure"] == "unresolved" and failed["summary"] == reason and failed["peer_name"] == VPN
    assert reason in world.left.postern("show", "crypto", "ikev2", "diagnose", "peer", VPN).stdout
    for command in COMMANDS:
        if command != "show interface tunnel":
            assert not violations(command, world.left.show(*command.split()[1:]))
    world.names.say({VPN: [outer(2)]})
    wait_until(lambda: world.ping("map4", 1, wait=1) == 1, 20, "it is asked for again, and works")
    assert_balanced(world.left)


def test_a_dynamic_name_is_followed_after_a_clear(world):
    """CM-06, IKE-57: asked for before each negotiation."""
    world.names.say({VPN: [outer(2)]})
    world.configure(document({"name": VPN, "dynamic": True}))
    load_both(world)
    assert world.ping("map4", 1, wait=5) == 1
    up_with(world, 2)
    assert peer_line(world) == f"Peer = {VPN} ({outer(2)}) dynamic"
    world.names.say({VPN: [outer(3)]})
    asked = world.names.questions(VPN)
    assert world.ping("map4") == 3 and peers_of_sas(world) == {outer(2)}, "what stands goes on"
    assert world.names.questions(VPN) == asked, "nobody is asked for what is there"
    clear_all(world)
    assert world.ping("map4", 1, wait=5) == 1
    up_with(world, 3)
    assert world.names.questions(VPN) > asked
    assert peer_line(world) == f"Peer = {VPN} ({outer(3)}) dynamic"
    assert entry_of(world)["current_peer"] == outer(3)


def test_a_dynamic_name_is_followed_for_a_new_child_too(world):
    """CM-06: after `clear crypto sa` alone the new child is with the new address; the IKE SA with the old one is nobody's loss."""
    world.names.say({VPN: [outer(2)]})
    world.configure(document({"name": VPN, "dynamic": True}))
    load_both(world)
    assert world.ping("map4", 1, wait=5) == 1
    up_with(world, 2)
    world.names.say({VPN: [outer(3)]})
    world.left.postern("clear", "crypto", "sa")
    wait_until(lambda: not children(world.left), 5, "the child is gone")
    assert world.ping("map4", 1, wait=5) == 1
    assert {sa["remote"] for sa in ike_sas(world.left) if sa["children"]} == {outer(3)}


def test_a_dynamic_name_without_an_answer_is_not_negotiated(world):
    """CM-06: the address of before does not count."""
    world.names.say({VPN: [outer(2)]})
    world.configure(document({"name": VPN, "dynamic": True}))
    load_both(world)
    assert world.ping("map4", 1, wait=5) == 1
    clear_all(world)
    world.names.say({VPN: "silent"})
    world.ping("map4", 2, wait=1)
    wait_until(lambda: diagnosis(world.left)[0]["summary"] == f"no name server answered about {VPN}", 10, "it is said")
    assert not ike_sas(world.left)


def test_a_static_name_stays_until_its_address_fails(world):
    """CM-04: re-resolved on failure, and not before."""
    world.names.say({VPN: [outer(2)]})
    world.configure(document(VPN))
    load_both(world)
    assert world.ping("map4", 1, wait=5) == 1
    world.names.say({VPN: [outer(3)]})
    clear_all(world)
    assert world.ping("map4", 1, wait=5) == 1
    up_with(world, 2)
    world.peers[2].kill()
    try:
        wait_until(lambda: world.ping("map4", 1, wait=1) == 1, 45, "liveness finds it dead, the name is asked for again")
        up_with(world, 3)
    finally:
        world.peers[2].start()


def test_of_several_peers_one_whose_name_is_nobodys_is_passed_over(world):
    """CM-05."""
    world.names.say({})
    world.configure(document("gone.example.net", outer(3)))
    load_both(world)
    wait_until(lambda: world.ping("map4", 1, wait=1) == 1, 10, "the second peer")
    up_with(world, 3)
    assert entry_of(world)["current_peer"] == outer(3)


def test_the_map_says_which_family_counts(world):
    """IPv6 by an IPv4 name server; a name without an IPv6 address is unresolved there."""
    world.names.say({VPN: [outer(2)]})
    world.configure(document(VPN, family=6))
    world.load(2, "net6", 6)
    wait_until(lambda: peer_line(world) == f"Peer = {VPN} (unresolved: {VPN} has no IPv6 address)", 5, "it has none")
    world.names.say({VPN: [outer(2), outer(2, 6)]})
    wait_until(lambda: world.ping("map6", 1, wait=1) == 1, 20, "it has one")
    assert peers_of_sas(world) == {outer(2, 6)}


def test_a_silent_name_server_holds_nobody_up(world):
    """Another entry of the same map, by address, works meanwhile."""
    world.names.say({VPN: "silent"})
    made = document(outer(3))
    made["acls"].append({"name": "OTHER", "rules": [{"action": "permit", "protocol": "ip", "source": "10.1.0.0/16", "destination": network(3)}]})
    other = {**made["crypto_maps"][0]["entries"][0], "sequence": 5, "match_address": "OTHER"}
    made["crypto_maps"][0]["entries"][0]["peers"] = [VPN]
    made["crypto_maps"][0]["entries"].insert(0, other)
    world.configure(made)
    world.load(3)
    world.ping("map4", 1, wait=0.2)
    assert world.ping_to(3, 1, wait=1) == 1
    assert world.left.show("crypto", "session")["sessions"]


def test_the_resolver_is_caged_and_replaced(world):
    """Another user than root, no capability, a filter of system calls; kill -9 of it costs nothing."""
    world.names.say({VPN: [outer(2)]})
    world.configure(document({"name": VPN, "dynamic": True}))
    load_both(world)
    pid = resolver_pid(world)
    status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    assert "0" not in status["Uid"].split() and status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"
    assert {int(status[key], 16) for key in ("CapEff", "CapPrm", "CapInh", "CapBnd")} == {0}
    for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
        words = (thread / "status").read_text()
        assert "Seccomp:\t2" in words and "CapEff:\t0000000000000000" in words
    assert world.ping("map4", 1, wait=5) == 1
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: gone(pid), 5, "it is gone")
    assert world.ping("map4") == 3
    assert resolver_pid(world) != pid
    clear_all(world)
    wait_until(lambda: world.ping("map4", 1, wait=1) == 1, 10, "names are resolved by the next one")


@pytest.mark.safety
def test_the_resolver_is_caged(world):
    world.configure(document(VPN))
    cage.assert_caged(world.left, "postern-resolver", "postern-ike", "postern-worker")
