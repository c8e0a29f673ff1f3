"""IKE SAs without a child (RFC 6023) with strongSwan (`childless`): who begins so, who answers, and who does not want it."""
import pytest

import ike_wire
from eap_lab import WAYS, comes, lab_of
from ike_documents import diagnosis, ike_sas, wait_up
from ike_pairs import SwanLab
from lab import OUT4
from netns import wait_until


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch, flows=("map4",)) as made:
        made.n1.ip("route", "replace", "10.4.0.0/16", "via", OUT4[2])
        yield made


def configure(world, ours: str, theirs: str, **more):
    # PFS: the first child's key exchange is its own, which only a CREATE_CHILD_SA exchange can do.
    world.configure(ike="aes128-sha256-x25519", esp="aes128-sha256-ecp256", profile={"childless": ours},
                    swan={"more": {"childless": theirs}}, **more)


@pytest.mark.parametrize("by, ours, theirs, alone", (
    ("postern", "prefer", "allow", True), ("postern", "force", "allow", True), ("postern", "prefer", "never", False), ("postern", "allow", "allow", False),
    ("postern", "force", "force", True), ("strongswan", "allow", "force", True), 
    ("strongswan", "force", "force", True), ("strongswan", "never", "allow", False), ("strongswan", "prefer", "allow", False)))
def test_the_child_comes_after_the_ike_sa(world, by, ours, theirs, alone):
    configure(world, ours, theirs)
    with world.capture() as capture:
        world.up(by)
        world.ping_both()
        wire = ike_wire.read(capture.frames())
    assert len(wire.exchanges(ike_wire.AUTH)) == 1
    assert len(wire.exchanges(ike_wire.CREATE_CHILD)) == (1 if alone else 0)
    # The group is the child's own, or there is none before its first rekey.
    assert (world.peer.children()[0].get("dh-group") == "ECP_256") is alone


def test_two_children_each_in_an_exchange_of_its_own(world):
    configure(world, "force", "allow", beside="aes128gcm16")
    two = {"beside": {"local_ts": ["10.4.0.0/16"], "remote_ts": ["10.3.0.0/16"], "esp_proposals": ["aes128gcm16-ecp256"]}}
    world.peer.load(world.connection(2, proposals=["aes128-sha256-x25519"], esp_proposals=["aes128-sha256-ecp256"],
                                     children={"c": {}, **two}, more={"childless": "allow"}))
    with world.capture() as capture:
        assert world.ping("map4", 1, wait=5) == 1
        assert world.ping("tunnel4", 1, wait=5) == 1
        wire = ike_wire.read(capture.frames())
    assert len(wire.exchanges(ike_wire.CREATE_CHILD)) == 2
    assert {child["dh-group"] for child in world.peer.children()} == {"ECP_256"}


def test_a_peer_that_does_not_do_it_gets_none_where_it_is_demanded(world):
    configure(world, "force", "never")
    assert world.ping("map4", 1, wait=1) == 0
    wait_until(lambda: any("without a child" in row["summary"] for row in diagnosis(world.left)), 5, "the diagnosis says why")
    assert not ike_sas(world.left)


def test_who_does_not_do_it_refuses_it(world):
    configure(world, "never", "force")
    assert not world.peer.initiate("net", seconds=4, check=False)
    assert not ike_sas(world.left)
    # And its child in IKE_AUTH is refused where a child must not come so.
    configure(world, "force", "never")
    mark = world.peer.mark()
    assert not world.peer.initiate("net", seconds=4, check=False)
    world.peer.said("NO_ADD_SAS|NO_ADDITIONAL_SAS", mark)
    assert not [child for sa in ike_sas(world.left) for child in sa["children"]]


def test_it_has_no_other_consequences(world):
    """Rekeys of both, and the end."""
    configure(world, "force", "allow")
    world.up("postern")
    before = wait_up(world.left)[0]["esp_spi_in"]
    world.peer.rekey(child="c")
    wait_until(lambda: wait_up(world.left)[0]["esp_spi_in"] != before, 8, "the child is rekeyed")
    world.peer.rekey(ike="net")
    world.ping_both()
    world.down()


# -- where the user comes by EAP

@pytest.fixture(scope="module", params=WAYS)
def eap_world(request, module_scratch):
    with lab_of(request.param, module_scratch) as made:
        yield made


def user(world, by: str, ours: str, theirs: str) -> None:
    comes(world, by, {"childless": theirs}, ike="aes128-sha256-x25519", esp="aes128-sha256-ecp256", profile={"childless": ours})


@pytest.mark.parametrize("by, ours, theirs, alone", (
    ("postern", "prefer", "allow", True), ("postern", "force", "force", True), ("postern", "prefer", "never", False),
    ("strongswan", "allow", "force", True), ("strongswan", "never", "allow", False)))
def test_a_user_comes_without_a_child(eap_world, by, ours, theirs, alone):
    user(eap_world, by, ours, theirs)
    with eap_world.capture() as capture:
        eap_world.up(by)
        eap_world.ping_both()
        wire = ike_wire.read(capture.frames())
    assert len(wire.exchanges(ike_wire.CREATE_CHILD)) == (1 if alone else 0)
    assert (eap_world.peer.children()[0].get("dh-group") == "ECP_256") is alone


def test_a_server_that_does_not_do_it_gets_none_where_it_is_demanded(eap_world):
    user(eap_world, "postern", "force", "never")
    assert eap_world.ping("map4", 1, wait=1) == 0
    wait_until(lambda: any("without a child" in row["summary"] for row in diagnosis(eap_world.left)), 5, "the diagnosis says why")
    assert not ike_sas(eap_world.left)


def test_a_user_without_a_child_is_refused_where_it_is_not_done(eap_world):
    user(eap_world, "strongswan", "never", "force")
    assert not eap_world.peer.initiate("net", seconds=4, check=False)
    assert not ike_sas(eap_world.left)
    # And its child in IKE_AUTH is refused where a child must not come so.
    user(eap_world, "strongswan", "force", "never")
    mark = eap_world.peer.mark()
    assert not eap_world.peer.initiate("net", seconds=4, check=False)
    eap_world.peer.said("NO_ADD_SAS|NO_ADDITIONAL_SAS", mark)
    assert not [child for sa in ike_sas(eap_world.left) for child in sa["children"]]
