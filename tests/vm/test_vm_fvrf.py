"""IKE and ESP through a front-door VRF, with strongSwan on the host, whose own kernel may have no VRFs."""
import copy
import json

import pytest

import ike_documents
import ike_wire
import kernel
import lab as labs
import traffic
from guests import STACK_MODULES, node_image
from ike_lab import PSK, IkeLab
from ike_wire import AUTH, CREATE_CHILD, SA_INIT
from netns import wait_until
from node import PROGRAMS
from run_vm import Guest

pytestmark = pytest.mark.vm


def document(red: str, elsewhere: str) -> dict:
    """The entry names no profile: the VRF that its interface is in decides (IKE-37). `red`, `elsewhere`: keys of the two profiles."""
    made = ike_documents.gateway_document(1, flows=("map4",))
    made["vrfs"] = [{"name": "red", "table": 10}]
    for interface in made["interfaces"]:
        interface["vrf"] = "red"
        interface["addresses"] = [one for one in interface["addresses"] if ":" not in one and not one.startswith("10.3.")]
    made["crypto_maps"][0]["entries"][0].pop("ikev2_profile")
    profile = made["ikev2"]["profiles"][0]
    other = copy.deepcopy(profile)
    profile["match"]["fvrf"], profile["keyring"] = "red", "RED"
    other |= {"name": "MAIN", "keyring": "MAIN"}
    made["ikev2"]["profiles"] = [other, profile]
    made["ikev2"]["keyrings"] = [{"name": name, "peers": [{"name": "PEER", "address": labs.OUT4[2], "pre_shared_key": key}]}
                                 for name, key in (("RED", red), ("MAIN", elsewhere))]
    return made


class FrontDoor(IkeLab):
    """The guest (A, N1) - W - N2 (strongSwan) - hB."""

    def __init__(self, scratch):
        super().__init__(scratch)
        try:
            self.n1.ip("link", "del", "out0")
            self.w.ip("tuntap", "add", "w1", "mode", "tap")
            self.w.ip("link", "set", "w1", "up", "master", "br0")
            self.peer = self.swan(2)
            self.peer.start()
            self.peer.load(self.connection(2))
            debian = kernel.obtain()
            with node_image(debian, {}, document("not the peer's", PSK), PROGRAMS, scenario="fvrf",
                            modules=["virtio_net", "virtio_pci", *STACK_MODULES], more={"good": document(PSK, "not the peer's")}) as image:
                self.guest = self.enter_context(Guest(debian, image, netns=self.w.name, tap="w1", memory=1024))
            self.guest.wait_for("BOOTED", 120)
        except BaseException:
            self.close()
            raise


@pytest.fixture(scope="module")
def world(module_scratch):
    with FrontDoor(module_scratch) as made:
        with made.capture("not tcp") as capture:
            made.told = dict(one.split(" ", 1) for one in _until_done(made.guest))
            made.wire = ike_wire.read(capture.frames())
        yield made


def _until_done(guest: Guest) -> list[str]:
    """What it printed as DATA; a FAIL is an error."""
    import time
    deadline, found = time.monotonic() + 240, []
    while True:
        word, _, rest = guest.next_mark(deadline).partition(" ")
        if word == "FAIL":
            raise guest.failed(rest)
        if word == "DATA":
            found.append(rest)
        if word == "PASS":
            found.append(f"{rest.split(' ', 1)[0]} {{}}")
        if word == "DONE":
            return found


def test_the_profile_of_the_vrf_decides(world):
    """With its key exchanged for the one of the global VRF's profile nothing came up; with it all does."""
    failures = [one["failure"] for one in json.loads(world.told["diagnose"])["attempts"]]
    assert "wrong_key" in failures
    [session] = json.loads(world.told["session"])["sessions"]
    [sa] = session["sas"]
    assert sa["fvrf"] == "10" and sa["profile"] == "PEER" and sa["state"] == "READY"
    sockets = json.loads(world.told["ike"])["sockets"]
    assert {(one["fvrf"], one["port"]) for one in sockets if one["family"] == "ipv4"} == {(10, 500), (10, 4500)}


def test_postern_initiates_and_nothing_is_in_clear(world):
    world.wire.assert_protected(10)
    assert {one.source for one in world.wire.exchanges(SA_INIT)} == {labs.OUT4[1]} and len(world.wire.exchanges(AUTH, response=True)) >= 1


def test_strongswan_initiates_rekeys_and_deletes(world):
    """The responder's side of the same, from a host behind strongSwan into the VRF."""
    near, far = labs.host(1, "map4"), labs.host(2, "map4")
    world.peer.terminate(ike="net", seconds=30)
    with world.capture("not tcp") as capture:
        world.peer.initiate("net", seconds=30)
        traffic.ping_until(world.hB, near, 30, source=far)
        assert traffic.ping(world.hB, near, 5, source=far, wait=5) == 5
        before = world.peer.children()[0]["spi-in"]
        world.peer.rekey(child="c")
        wait_until(lambda: [one["spi-in"] for one in world.peer.children()] not in ([], [before]), 30, "a new child SA")
        assert traffic.ping(world.hB, near, 5, source=far, wait=5) == 5
        wire = ike_wire.read(capture.frames())
    wire.assert_protected(20)
    assert len(wire.exchanges(SA_INIT)) >= 1 and {one.source for one in wire.exchanges(SA_INIT)} == {labs.OUT4[2]}
    assert wire.exchanges(CREATE_CHILD)
