"""PPKs (RFC 8784) where the user comes by EAP. With strongSwan in both roles: who has one, who demands one, and what must not come up;
with peers made of the RFC and Python's TLS: exactly what is said, and what is not believed."""
import pytest

from certificate_lab import refused
from eap_lab import WAYS, Tls13Lab, comes, lab_of
from ike_documents import children, ike_sas
from ike_eap_script import EapTlsInitiator
from ike_script import AUTH_PAYLOAD, body, notifies, notify
from netns import wait_until

KEY, OTHER = "thirty-two bytes that both know!", "thirty-two bytes of something..."
USE_PPK, PPK_IDENTITY, NO_PPK_AUTH, AUTHENTICATION_FAILED = 16435, 16436, 16437, 24
BOTH = pytest.mark.parametrize("by", ("postern", "strongswan"))


def keyrings(ppk: tuple | None) -> list[dict]:
    """(id, key, required): a peer whose one key it is."""
    one = {"ppk": {"id": ppk[0], "key": ppk[1], "required": ppk[2]}} if ppk else {"pre_shared_key": "of no use to anybody here"}
    return [{"name": "KEYS", "peers": [{"name": "ANY4", "address": "0.0.0.0/0", **one}]}]


@pytest.fixture(scope="module", params=WAYS)
def world(request, module_scratch):
    with lab_of(request.param, module_scratch) as made:
        yield made


def configure(world, by: str, ours: tuple | None, theirs: tuple | None, **document) -> None:
    """`by` is the user."""
    more = {"ppk_id": theirs[0], "ppk_required": "yes" if theirs[2] else "no"} if theirs else None
    comes(world, by, more, keyrings=keyrings(ours), **document)
    if theirs:
        world.peer._vici.request("load-shared", {"id": "the-ppk", "type": "PPK", "data": theirs[1], "owners": [theirs[0]]})


@BOTH
@pytest.mark.parametrize("ours, theirs, used", (
    (("one", KEY, True), ("one", KEY, True), True), (("one", KEY, False), ("one", KEY, False), True), (("one", KEY, False), None, False),
    (None, ("one", KEY, False), False)), ids=("both-must", "both-may", "we-may", "strongswan-may"))
def test_used_where_both_have_it(world, by, ours, theirs, used):
    configure(world, by, ours, theirs)
    sa = world.up(by)
    assert (sa.get("ppk") == "yes") is used, sa
    assert ike_sas(world.left)[0]["ppk"] is used
    world.ping_both()
    if used:  # the successors' keys follow from the mixed one
        world.peer.rekey(child="c")
        wait_until(lambda: [child for child in world.peer.children() if child["uniqueid"] != sa["child-sas"][0]["uniqueid"]], 8, "rekeyed")
        world.peer.rekey(ike="net")
        wait_until(lambda: [one["uniqueid"] for one in world.peer.established("net")] != [sa["uniqueid"]], 8, "and its IKE SA")
        world.ping_both()


def test_an_id_that_is_not_known_is_done_without(world):
    """NO_PPK_AUTH counts then. (As responder strongSwan refuses an id that is not its own, demanded or not.)"""
    configure(world, "strongswan", ("one", KEY, False), ("two", KEY, False))
    assert world.up("strongswan").get("ppk") != "yes"
    assert ike_sas(world.left)[0]["ppk"] is False
    world.ping_both()


@BOTH
@pytest.mark.parametrize("ours, theirs", (
    (("one", KEY, True), ("one", OTHER, True)), (("one", KEY, False), ("one", OTHER, False)), (("one", KEY, True), None), (None, ("one", KEY, True)),
    (("one", KEY, True), ("two", KEY, False))), ids=("another-key", "another-key-both-may", "we-must", "strongswan-must", "another-id"))
def test_refused_where_one_has_another_or_none(world, by, ours, theirs):
    configure(world, by, ours, theirs)
    if by == "strongswan" and ours is None:  # which does not even begin with IKE_AUTH
        assert not world.peer.initiate("net", seconds=4, check=False)
    else:
        refused(world, by, "wrong_key")
    assert not ike_sas(world.left) and not world.peer.established()


def test_a_user_at_a_dynamic_map(scratch):
    with lab_of("mschapv2", scratch) as world:
        configure(world, "strongswan", ("one", KEY, True), ("one", KEY, True), dynamic=True)
        assert world.up("strongswan").get("ppk") == "yes"
        world.ping_both()
        configure(world, "strongswan", ("one", KEY, True), None, dynamic=True)
        assert "uses no PPK, which the keyring demands" in refused(world, "strongswan", "wrong_key")["summary"]


# -- with a script

def id_of(name: str) -> tuple[int, bytes]:
    return notify(PPK_IDENTITY, b"\x02" + name.encode())


@pytest.fixture()
def scripted(request, scratch):
    with Tls13Lab(scratch, keyrings=keyrings(("one", KEY, request.param))) as made:
        yield made


WHO = pytest.mark.parametrize("scripted", (True, False), ids=("must", "may"), indirect=True)


def required(scripted) -> bool:
    return scripted.left.document["ikev2"]["keyrings"][0]["peers"][0]["ppk"]["required"]


@WHO
@pytest.mark.parametrize("says, proves", ((True, True), (False, False), (True, False), (False, True)),
                         ids=("used", "left-out", "said-and-not-used", "used-and-not-said"))
def test_what_a_server_says_of_the_ppk(scripted, says, proves):
    with scripted.responder(extra=[notify(USE_PPK)]) as peer:
        peer.handshake()
        assert peer.delivered(peer.tls.says(b"\0")) == b"\0"
        said = notifies(peer.finish(KEY.encode(), KEY.encode() if proves else None, [notify(PPK_IDENTITY)] if says else []))
        assert PPK_IDENTITY not in notifies(peer.first)
        assert said[PPK_IDENTITY] == b"\x02one"
        assert said.get(NO_PPK_AUTH) == (None if required(scripted) else peer.without[4:])
        if says and proves or not (says or proves or required(scripted)):
            wait_until(lambda: children(scripted.left), 5, "a child SA")
            assert ike_sas(scripted.left)[0]["ppk"] is says
        else:
            scripted.refused("wrong_key", "without the PPK" if required(scripted) and not says else "AUTH after EAP does not verify")


def user(scripted, can: bool = True) -> EapTlsInitiator:
    peer = scripted.initiator()
    peer.begin([notify(USE_PPK)] if can else [])
    return peer


@WHO
def test_a_user_with_the_ppk(scripted):
    with user(scripted) as peer:
        assert peer.tls.hears(peer.handshake()) == b"\0"
        answer = peer.prove(peer.auth(KEY.encode()), [id_of("one")])
        assert PPK_IDENTITY not in notifies(peer.last)
        assert body(answer, AUTH_PAYLOAD) == peer.auth_of_node(KEY.encode()) and notifies(answer)[PPK_IDENTITY] == b""
        wait_until(lambda: children(scripted.left), 5, "a child SA")
        assert ike_sas(scripted.left)[0]["ppk"] is True


@WHO
def test_a_user_with_another_id_may_come_without(scripted):
    with user(scripted) as peer:
        assert peer.tls.hears(peer.handshake()) == b"\0"
        answer = peer.prove(peer.auth(OTHER.encode()), [id_of("two"), notify(NO_PPK_AUTH, peer.auth()[4:])])
        if required(scripted):
            assert AUTHENTICATION_FAILED in notifies(answer)
            scripted.refused("wrong_key", "names a PPK that its keyring does not have: two")
        else:
            assert body(answer, AUTH_PAYLOAD) == peer.auth_of_node() and PPK_IDENTITY not in notifies(answer)
            wait_until(lambda: children(scripted.left), 5, "a child SA")
            assert ike_sas(scripted.left)[0]["ppk"] is False


@WHO
@pytest.mark.parametrize("name, auth, without", (("one", None, None), ("two", KEY, False), ("two", KEY, b"\x07" * 32)),
                         ids=("not-by-the-ppk", "without-is-taken-away", "without-is-forged"))
def test_a_user_who_is_not_believed(scripted, name, auth, without):
    with user(scripted) as peer:
        assert peer.tls.hears(peer.handshake()) == b"\0"
        extra = [] if without is False else [notify(NO_PPK_AUTH, without or peer.auth()[4:])]
        answer = peer.prove(peer.auth(auth and auth.encode()), [id_of(name), *extra])
        assert AUTHENTICATION_FAILED in notifies(answer)
        scripted.refused("wrong_key", "")


@WHO
def test_a_user_who_knows_nothing_of_ppks(scripted):
    with user(scripted, can=False) as peer:
        if required(scripted):
            with pytest.raises(StopIteration):  # it is refused before EAP
                peer.handshake()
            assert AUTHENTICATION_FAILED in notifies(peer.last)
            return scripted.refused("wrong_key", "uses no PPK, which the keyring demands")
        assert peer.tls.hears(peer.handshake()) == b"\0"
        peer.finish()
        wait_until(lambda: children(scripted.left), 5, "a child SA")
        assert ike_sas(scripted.left)[0]["ppk"] is False
