"""PPKs (RFC 8784) with strongSwan, which has them under an id and demands them or not: both roles, and what must not come up."""
import pytest

from ike_documents import diagnosis, gateway_document, ike_sas
from ike_lab import PSK, IkeLab
from ike_pairs import SwanLab
from ike_script import ScriptedResponder, notify
from lab import OUT4
from netns import wait_until

KEY, OTHER = "thirty-two bytes that both know!", "thirty-two bytes of something..."
USE_PPK, PPK_IDENTITY = 16435, 16436


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch, flows=("map4",)) as made:
        yield made


def keyrings(ppk: dict | None) -> list[dict]:
    return [{"name": "KEYS", "peers": [{"name": "ANY4", "address": "0.0.0.0/0", "pre_shared_key": PSK, **({"ppk": ppk} if ppk else {})}]}]


def configure(world, ours: tuple | None, theirs: tuple | None):
    """Each is (id, key, required), or nothing."""
    ppk = {"id": ours[0], "key": ours[1], "required": ours[2]} if ours else None
    more = {"ppk_id": theirs[0], "ppk_required": "yes" if theirs[2] else "no"} if theirs else {}
    world.peer._vici.request("clear-creds", {})
    world.configure(ike="aes128-sha256-x25519", esp="aes128-sha256", keyrings=keyrings(ppk), swan={"more": more})
    if theirs:
        world.peer._vici.request("load-shared", {"id": "the-ppk", "type": "PPK", "data": theirs[1], "owners": [theirs[0]]})


@pytest.mark.parametrize("by", ("postern", "strongswan"))
@pytest.mark.parametrize("ours, theirs, used", (
    (("one", KEY, True), ("one", KEY, True), True), (("one", KEY, False), ("one", KEY, True), True), (("one", KEY, True), ("one", KEY, False), True),
    (("one", KEY, False), ("one", KEY, False), True), (("one", KEY, False), None, False), (None, ("one", KEY, False), False)))
def test_used_where_both_have_it(world, by, ours, theirs, used):
    configure(world, ours, theirs)
    sa = world.up(by)
    assert (sa.get("ppk") == "yes") is used, sa
    assert ike_sas(world.left)[0]["ppk"] is used
    assert ("Quantum-safe" in world.left.postern("show", "crypto", "ikev2", "sa", "detail").stdout) is used
    world.ping_both()
    if used:  # the successors' keys follow from the mixed one
        world.peer.rekey(child="c")
        wait_until(lambda: [child for child in world.peer.children() if child["uniqueid"] != sa["child-sas"][0]["uniqueid"]], 8, "rekeyed")
        world.peer.rekey(ike="net")
        wait_until(lambda: [one["uniqueid"] for one in world.peer.established("net")] != [sa["uniqueid"]], 8, "and its IKE SA")
        world.ping_both()


def test_an_id_that_is_not_known_is_done_without(world):
    """NO_PPK_AUTH counts then. (As responder strongSwan refuses an id that is not its own, demanded or not.)"""
    configure(world, ("one", KEY, False), ("two", KEY, False))
    assert world.up("strongswan").get("ppk") != "yes"
    assert ike_sas(world.left)[0]["ppk"] is False
    world.ping_both()


@pytest.mark.parametrize("by", ("postern", "strongswan"))
@pytest.mark.parametrize("ours, theirs", (
    (("one", KEY, True), ("one", OTHER, True)), (("one", KEY, False), ("one", OTHER, False)), (("one", KEY, True), None), (None, ("one", KEY, True)),
    (("one", KEY, True), ("two", KEY, False)), (("one", KEY, False), ("two", KEY, True))))
def test_refused_where_one_has_another_or_none(world, by, ours, theirs):
    configure(world, ours, theirs)
    if by == "strongswan":
        assert not world.peer.initiate("net", seconds=4, check=False)
    else:
        assert world.ping("map4", 1, wait=1) == 0
        wait_until(lambda: diagnosis(world.left), 5, "the attempt has failed")
    assert not ike_sas(world.left) and not world.peer.established()


def test_a_responder_that_leaves_it_out_is_not_believed(module_scratch):
    """It says that it can, and answers as if there were none."""
    with IkeLab(module_scratch / "scripted") as made:
        node = made.node(1, gateway_document(1, flows=("map4",), ike="aes128-sha256-x25519", esp="aes128gcm16",
                                             keyrings=keyrings({"id": "one", "key": KEY})))
        node.start()
        with ScriptedResponder(made.n2, OUT4[2], PSK) as peer:
            made.ping("map4", 1, wait=0.2)
            peer.answer_init([notify(USE_PPK)])
            said = peer.answer_auth(check=False)
            assert PPK_IDENTITY in {int.from_bytes(data[2:4], "big") for kind, data in said if kind == 41}
            wait_until(lambda: any("without the PPK" in row["summary"] for row in diagnosis(node)), 5, "it is refused")
            assert not ike_sas(node)
