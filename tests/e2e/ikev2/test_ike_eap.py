"""AUTH by EAP against strongSwan, in both roles: as the end that a user comes to, and as the user. What is refused is refused with the
reason in `show crypto ikev2 diagnose`, and no password is in anything that the node shows."""
import json
import re

import pytest

import ike_wire
import traffic
from certificate_lab import OURS, THEIRS, refused
from eap_lab import ALICE, PASSWORD, EapLab
from ike_documents import diagnosis, ike_sas
from ike_pairs import PosternPair
from ike_wire import AUTH, INFORMATIONAL, SA_INIT
from lab import OUT4, host
from mobile import Mobile
from netns import wait_until

BOTH = pytest.mark.parametrize("by", ["postern", "strongswan"])
METHODS = pytest.mark.parametrize("method,words", [("mschapv2", "EAP-MSCHAPv2"), ("md5", "EAP-MD5")], ids=["mschapv2", "md5"])


@pytest.fixture(scope="module")
def world(module_scratch):
    with EapLab(module_scratch) as made:
        yield made


def row(world) -> dict:
    return ike_sas(world.left)[0]


@METHODS
def test_a_user_comes(world, method, words):
    """strongSwan's first method is the one that we take last: a Nak leads there."""
    world.user_comes(f"eap-{method}", ["mschapv2", "md5"])
    world.up("strongswan")
    world.ping_both()
    sa = row(world)
    assert (sa["auth_sign"], sa["auth_verify"], sa["eap_identity"]) == ("ECDSA with SHA-256", words, ALICE)
    assert f"Remote EAP id: {ALICE}" in world.left.postern("show", "crypto", "ikev2", "session", "detail").stdout


@METHODS
def test_we_are_the_user(world, method, words):
    world.we_come(f"eap-{method}")
    world.up("postern")
    world.ping_both()
    sa = row(world)
    assert (sa["auth_sign"], sa["auth_verify"], sa["eap_identity"]) == (words, "ECDSA with SHA-256", ALICE)
    assert f"Local EAP id: {ALICE}" in world.left.postern("show", "crypto", "ikev2", "session", "detail").stdout


def test_both_ends_rekey(world):
    world.user_comes()
    world.up("strongswan")
    before = row(world)["local_spi"]
    with world.peer.watching("ike-rekey") as events:
        assert world.peer.rekey(ike="net") == 1
        events.next_event(8)
    world.ping_both()
    sa = row(world)
    assert sa["local_spi"] != before and sa["eap_identity"] == ALICE


def test_without_a_question_the_ike_identity_names_the_user(world):
    world.user_comes(query=False, name=THEIRS, users={THEIRS: PASSWORD})
    world.up("strongswan")
    assert row(world)["eap_identity"] == THEIRS


def test_a_user_is_lent_an_address(world):
    """RFC 7296 2.19 behind 2.16: in the first message of the peer's, answered in the last one of ours. Who does not know the password
    takes none from the pool."""
    pools = ["10.2.77.4/30"]
    world.user_comes(pools=pools, password="guessed")
    assert world.peer.initiate("net", check=False) is False
    world.left.postern("clear", "crypto", "session")
    world.user_comes(pools=pools)
    sa = world.up("strongswan")
    assert sa["local-vips"] == ["10.2.77.5"] == row(world)["assigned"] and row(world)["eap_identity"] == ALICE
    assert sa["child-sas"][0]["local-ts"] == ["10.2.77.5/32"]
    assert traffic.ping(world.hA, "10.2.77.5", 3, source=host(1, "map4")) == 3
    world.down()


def test_users_come_by_a_dynamic_map(world):
    """From an address that no document has."""
    world.user_comes(document={"dynamic": True})
    world.up("strongswan")
    world.ping_both()
    assert row(world)["eap_identity"] == ALICE
    world.user_comes(name="bob", password="guessed", document={"dynamic": True})
    refused(world, "strongswan", "wrong_password")


def test_large_messages_go_in_fragments(world):
    """The certificate is in the middle of the exchange then; the last answer has the child."""
    world.user_comes(document={"fragmentation_mtu": 576})
    world.up("strongswan")
    world.ping_both()


def mobike_said(world, by: str, since: int) -> list[str]:
    """The payloads of each IKE_AUTH message in which MOBIKE_SUPPORTED stands, of those that `by` sends, from strongSwan's log."""
    way = "generating" if by == "strongswan" else "parsed"
    return [one for one in re.findall(rf"{way} IKE_AUTH \w+ \d+ (\[.*\])", world.peer.log()[since:]) if "MOBIKE_SUP" in one]


@BOTH
def test_mobike_is_said_where_the_child_is(world, by):
    """RFC 4555 3.1: of the many messages of EAP by the user in the first one, and to it in the last one."""
    since = world.peer.mark()
    if by == "strongswan":
        world.user_comes(document={"mobike": True}, more={"mobike": "yes"})
    else:
        world.we_come(document={"mobike": True}, more={"mobike": "yes"})
    world.up(by)
    assert row(world)["mobike"] is True
    other = "postern" if by == "strongswan" else "strongswan"
    (asked,), (answered,) = mobike_said(world, by, since), mobike_said(world, other, since)
    assert "IDi" in asked and "AUTH" not in asked and "TSi" in asked, asked
    assert "AUTH" in answered and "TSi" in answered and "EAP" not in answered, answered


def test_a_user_moves_under_ping(world):
    """Its SAs go on at the new address, without another word of EAP."""
    world.user_comes(document={"mobike": True}, more={"mobike": "yes", "local_addrs": [OUT4[2], Mobile.AWAY[4]]})
    with Mobile(world, 4) as mobile:
        world.up("strongswan")
        world.ping_both()
        before = row(world)
        with world.capture("udp port 500 or (udp port 4500 and udp[8:4] = 0)") as capture:
            mobile.leave()
            wait_until(lambda: ike_sas(world.left) and row(world)["remote"] == mobile.away, 15, "Postern follows")
            wait_until(lambda: world.ping(count=1) == 1, 10, "packets reach the new place")
            wire = ike_wire.read(capture.frames())
        world.ping_both()
        after = row(world)
        assert {key: after[key] for key in ("local_spi", "remote_spi", "eap_identity")} == {
            key: before[key] for key in ("local_spi", "remote_spi", "eap_identity")} and after["eap_identity"] == ALICE
        assert INFORMATIONAL in {one.exchange for one in wire.ike} and {SA_INIT, AUTH}.isdisjoint({one.exchange for one in wire.ike})
        world.down()  # where it is, before it comes back: what is said to it there would go astray


@BOTH
@METHODS
def test_wrong_password(world, by, method, words):
    if by == "strongswan":
        world.user_comes(f"eap-{method}", password="guessed")
    else:
        world.we_come(f"eap-{method}", password="guessed")
    found = refused(world, by, "wrong_password")
    assert ALICE in found["summary"] and words in found["summary"]


def test_unknown_user(world):
    world.user_comes(users={"bob": PASSWORD})
    found = refused(world, "strongswan", "unknown_user")
    assert ALICE in found["summary"] and found["said_by"] == "us"


@BOTH
def test_no_common_method(world, by):
    if by == "strongswan":
        world.user_comes("eap-md5", ["mschapv2"])
    else:
        world.we_come("eap-md5", ["mschapv2"])
    refused(world, by, "eap_method")


def test_a_server_with_a_certificate_of_another_is_told_nothing(world):
    """No EAP packet of ours leaves before its certificate is good."""
    import pki
    world.we_come()
    other = pki.Authority("Another CA").issue("right", [THEIRS])
    swan = world.swan_ends(other)
    swan["more"]["remote"] = {"auth": "eap-mschapv2", "id": OURS, "eap_id": "%any"}
    mark = world.peer.mark()
    world.peer.load(world.connection(2, **swan))
    refused(world, "postern", "certificate")
    said = world.peer.log()[mark:]
    assert ALICE not in said and "EAP/RES" not in said


def test_a_peer_without_eap_is_refused_where_it_is_demanded(world):
    world.user_comes()
    swan = world.swan_ends(world.ca.issue("right", [THEIRS]))
    world.peer.load(world.connection(2, **swan))
    refused(world, "strongswan", "wrong_key")


def test_passwords_are_in_nothing_that_is_shown(world):
    world.user_comes(password="guessed")
    refused(world, "strongswan", "wrong_password")
    shown = world.left.process.log() + world.left.postern("config", "show").stdout
    shown += json.dumps(diagnosis(world.left)) + world.left.postern("show", "crypto", "ikev2", "profile").stdout
    for secret in (PASSWORD, "another one", "guessed"):
        assert secret not in shown and secret.encode().hex() not in shown


# -- RFC 5998: no certificate anywhere

ALONE = {"authentication": {"local": {"method": "eap", "eap": {"methods": ["mschapv2"], "identity": ALICE, "password": PASSWORD}},
                            "remote": {"method": "eap", "eap": {"methods": ["mschapv2"], "query_identity": True}}}}
USERS = [{"name": ALICE, "password": PASSWORD}]


def alone(world, local: dict, remote: dict) -> None:
    world.secret()
    world.configure(profile=ALONE, eap_users=USERS, swan={"local_id": THEIRS, "remote_id": OURS, "more": {
        "local": {"auth": "eap-mschapv2", "id": THEIRS, **local}, "remote": {"auth": "eap-mschapv2", "id": OURS, **remote}}})


def test_we_are_the_user_and_eap_is_alone(world):
    alone(world, {}, {"eap_id": "%any"})
    world.up("postern")
    world.ping_both()
    sa = row(world)
    assert (sa["auth_sign"], sa["auth_verify"], sa["eap_identity"]) == ("EAP-MSCHAPv2", "EAP-MSCHAPv2", ALICE)


def test_a_user_comes_and_eap_is_alone(world):
    """strongSwan verifies our AUTH by the method's key, and only then says that MSCHAPv2 is not good enough for it (RFC 5998 section 4)."""
    alone(world, {"eap_id": ALICE}, {})
    mark = world.peer.mark()
    assert world.peer.initiate("net", check=False) is False
    world.peer.said(f"authentication of '{OURS}' with EAP successful", mark)
    world.peer.said("EAP-only authentication requires a mutual and MSK deriving EAP method, but EAP_MSCHAPV2 is not", mark)


def test_eap_alone_between_two_nodes(scratch):
    with PosternPair(scratch, profile=ALONE, eap_users=USERS) as pair:
        for node in (pair.left, pair.right):
            sa = ike_sas(node)[0]
            assert (sa["auth_sign"], sa["auth_verify"], sa["eap_identity"]) == ("EAP-MSCHAPv2", "EAP-MSCHAPv2", ALICE)
