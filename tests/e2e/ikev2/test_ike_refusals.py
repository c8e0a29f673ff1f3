"""What must not come up, in both roles; and that `show crypto ikev2 diagnose` says why, so that an operator can tell the cases apart."""
import pytest

import ike_wire
import lab
from ike_documents import children, diagnosis, ike_sas
from ike_pairs import SwanLab
from ike_wire import AUTH, COOKIE, INVALID_KE, NO_PROPOSAL_CHOSEN, SA_INIT
from netns import wait_until
from refusal import one_refused
from show_schema import violations

pytestmark = pytest.mark.long

BOTH = pytest.mark.parametrize("by", ["postern", "strongswan"])


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch, flows=("map4",)) as made:
        yield made


def refused(world, by: str, failure: str, failing: bool = True) -> dict:
    """One attempt by that side; its row of the diagnosis, with what was on the wire."""
    row, wire = one_refused(world, by, failure)
    assert not violations("show crypto ikev2 diagnose", world.left.show("crypto", "ikev2", "diagnose"))
    assert row["peer"] == lab.OUT4[2]
    assert row["summary"] and row["remedy"], row
    row["wire"] = wire
    return row


def then_works(world, by: str) -> None:
    """The same lab with the cause removed: what was refused was refused for that cause."""
    world.configure()
    world.left.postern("clear", "crypto", "session")  # no back-off is owed after that
    world.up(by)
    world.ping_both()


@BOTH
def test_wrong_key(world, by):
    world.configure(swan={"psk": "not what we share"})
    row = refused(world, by, "wrong_key")
    assert row["said_by"] == ("peer" if by == "postern" else "us")
    assert "not what we share" not in str(row) and "what the two gateways share" not in str(row)
    then_works(world, by)


@BOTH
def test_wrong_identity_of_the_peer(world, by):
    """strongSwan calls itself something that our profile does not match. With one name alone we would ask for it (IDr)."""
    world.configure(swan={"local_id": "somebody.else.example"}, remote_id=["peer.example", "third.example"])
    row = refused(world, by, "wrong_identity")
    assert "somebody.else.example" in str(row["offered"]) and "peer.example" in str(row["accepted"])
    world.configure(swan={"local_id": "peer.example"}, remote_id=["peer.example", "third.example"])
    world.left.postern("clear", "crypto", "session")
    world.up(by)


@BOTH
def test_wrong_identity_of_ours(world, by):
    """strongSwan wants another name of us: it says AUTHENTICATION_FAILED, which could also be the key, and we say so."""
    world.configure(swan={"remote_id": "hub.example"}, local_id="spoke.example")
    if by == "postern":
        row = refused(world, by, "wrong_key")
        assert row["said_by"] == "peer" and "identit" in (row["remedy"] + row["summary"])
    else:
        assert world.peer.initiate("net", check=False) is False
        wait_until(lambda: not ike_sas(world.left), 8, "nothing stays")
    world.configure(swan={"remote_id": "spoke.example"}, local_id="spoke.example")
    world.left.postern("clear", "crypto", "session")
    world.up(by)
    assert ike_sas(world.left)[0]["local_id"] == "spoke.example"


@BOTH
@pytest.mark.parametrize("theirs, differs", [("aes256-sha256-modp2048", "encryption"), ("aes128-sha512-prfsha256-modp2048", "integrity"),
                                             ("aes128-sha256-prfsha512-modp2048", "PRF"), ("aes128-sha256-ecp256", "DH group")], ids=lambda w: w)
def test_no_common_ike_proposal(world, by, theirs, differs):
    world.configure(swan={"proposals": [theirs]})
    row = refused(world, by, "no_common_ike_proposal")
    assert row["said_by"] == ("peer" if by == "postern" else "us")
    answer = row["wire"].exchanges(SA_INIT, response=True)[0]
    assert NO_PROPOSAL_CHOSEN in answer.notifies() and not row["wire"].exchanges(AUTH)
    if by == "strongswan":
        assert differs in row["differs"] and row["offered"] and row["accepted"], row
    then_works(world, by)


@BOTH
@pytest.mark.parametrize("ours, theirs, differs", [("aes128-sha256", "aes256-sha512", "encryption"), ("null-sha256", "aes128-sha256", "encryption"),
                                                  ("3des-md5", "3des-sha1", "integrity"), ("aes128ccm8", "aes128ccm16", "encryption")])
def test_no_common_child_proposal(world, by, ours, theirs, differs):
    """TS-36: no part of a set is agreed on alone. The IKE SA may live, the child does not."""
    world.configure(esp=ours, swan={"esp_proposals": [theirs]})
    row = refused(world, by, "no_common_child_proposal")
    if by == "strongswan":
        assert differs in row["differs"]
    then_works(world, by)


@BOTH
def test_selectors_without_intersection(world, by):
    world.configure(swan={"local_ts": ["10.77.0.0/16"]})
    row = refused(world, by, "selectors")
    assert row["said_by"] == ("peer" if by == "postern" else "us")
    then_works(world, by)


def test_responder_refuses_what_no_entry_permits(world):
    """CM-16: a peer that proves itself gets the flows of its entry and no others, not even beside a good one."""
    world.configure(swan={"children": {"c": {}, "wide": {"local_ts": ["10.66.0.0/16"]}}})
    world.peer.initiate("net")
    assert world.peer.initiate("net", "wide", check=False) is False
    assert len(world.peer.children()) == len(children(world.left)) == 1
    world.ping_both()
    world.down()
    assert world.peer.initiate("net", "wide", check=False) is False
    assert not children(world.left)


def test_stranger(world):
    """A peer that no entry names: another address of the same strongSwan."""
    world.configure()
    world.n2.ip("address", "replace", "192.0.2.77/24", "dev", "out0")
    try:
        stranger = world.connection(2, "stranger", local_id="192.0.2.77")
        stranger.local = "192.0.2.77"
        world.peer.load(stranger)
        with world.capture("udp") as capture:
            assert world.peer.initiate("stranger", check=False) is False
            wire = ike_wire.read(capture.frames())
        assert not wire.exchanges(AUTH, response=True) and not ike_sas(world.left)
        wait_until(lambda: [one for one in diagnosis(world.left) if one["peer"] == "192.0.2.77" and one["failure"] == "no_connection"], 5, "diagnosis")
    finally:
        world.peer.unload("stranger")
        world.n2.ip("address", "del", "192.0.2.77/24", "dev", "out0")


@BOTH
def test_narrowing(world, by):
    """The answer's selectors are a subset of the offer's: what both permit, and that alone is protected by the SA."""
    world.configure(swan={"local_ts": ["10.2.0.0/24"], "remote_ts": ["10.1.0.0/20"]})
    if by == "postern":
        assert world.ping(count=1, wait=5) == 1
    else:
        world.peer.initiate("net")
    child = children(world.left)[0]
    assert (child["local_ts"][0]["from"], child["local_ts"][0]["to"]) == ("10.1.0.0", "10.1.15.255")
    assert (child["remote_ts"][0]["from"], child["remote_ts"][0]["to"]) == ("10.2.0.0", "10.2.0.255")
    assert world.peer.children()[0]["remote-ts"] == ["10.1.0.0/20"]
    world.ping_both()


@BOTH
def test_wider_selectors_of_the_peer_are_narrowed_to_ours(world, by):
    world.configure(swan={"local_ts": ["0.0.0.0/0"], "remote_ts": ["10.0.0.0/8"]})
    world.up(by)
    child = world.peer.children()[0]
    assert (child["local-ts"], child["remote-ts"]) == (["10.2.0.0/16"], ["10.1.0.0/16"])
    world.ping_both()


@BOTH
def test_invalid_ke_and_another_try(world, by):
    """RFC 7296 1.3: the first guess of a group is wrong, the second is what the other side asked for."""
    ours, theirs = ("aes128-sha256-modp3072-x25519", "aes128-sha256-x25519") if by == "postern" else ("aes128-sha256-x25519", "aes128-sha256-modp3072-x25519")
    world.configure(ike=ours, swan={"proposals": [theirs]})
    with world.capture("udp") as capture:
        sa = world.up(by)
        wire = ike_wire.read(capture.frames())
    assert sa["dh-group"] == "CURVE_25519"
    first, second = wire.exchanges(SA_INIT)
    assert (first.group(), second.group()) == (15, 31)
    answer = wire.exchanges(SA_INIT, response=True)[0]
    assert answer.notifies()[INVALID_KE] == (31).to_bytes(2, "big")
    assert first.spis[0] == second.spis[0], "the same IKE SA tries again"


def half_open(message, where, source: str, address: str) -> None:
    """The same IKE_SA_INIT request with another SPI: the responder keeps a half-open IKE SA for it, and answers."""
    import secrets
    import socket
    with where.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.settimeout(5)
        out.bind((source, 0))
        out.sendto(secrets.token_bytes(8) + message.data[8:], (address, 500))
        out.recv(65535)


def test_cookie_is_returned(scratch):
    """RFC 7296 2.6: strongSwan demands a cookie while it has a half-open IKE SA; the second request has it in front."""
    with SwanLab(scratch, flows=("map4",), right={"options": {"cookie_threshold": 1, "block_threshold": 0}}) as made:
        made.peer.load(made.connection(2))
        with made.capture("udp") as capture:
            made.up("postern")
            request = ike_wire.read(capture.frames()).exchanges(SA_INIT)[0]
        assert COOKIE not in request.notifies()
        made.down()
        half_open(request, made.n1, lab.OUT4[1], lab.OUT4[2])
        wait_until(lambda: any(sa["state"] == "CONNECTING" for sa in made.peer.sas()), 5, "strongSwan has a half-open SA")
        with made.capture("udp") as capture:
            assert made.ping(count=1, wait=5) == 1
            wire = ike_wire.read(capture.frames())
        demand = wire.exchanges(SA_INIT, response=True)[0]
        first, second = wire.exchanges(SA_INIT)
        assert second.payloads()[0][1][4:] == demand.notifies()[COOKIE], "the first payload is the cookie as it came"
        assert second.payloads()[1:] == first.payloads(), "and nothing else changed"


def test_cookie_is_demanded(scratch):
    """The other way round: of an address with eight half-open IKE SAs a cookie is demanded, which strongSwan gives back."""
    with SwanLab(scratch, flows=("map4",)) as made:
        made.peer.load(made.connection(2))

        def setup() -> ike_wire.Wire:
            with made.capture("udp") as capture:
                made.up("strongswan")
                return ike_wire.read(capture.frames())

        before = setup()
        (request,), (answer,) = before.exchanges(SA_INIT), before.exchanges(SA_INIT, response=True)
        assert COOKIE not in answer.notifies()
        made.down()
        for _ in range(8):
            half_open(request, made.n2, lab.OUT4[2], lab.OUT4[1])
        wire = setup()
        demand, accepted = wire.exchanges(SA_INIT, response=True)
        first, second = wire.exchanges(SA_INIT)
        assert list(demand.notifies()) == [COOKIE] and demand.spis[1] == "00" * 8, "nothing is kept for it"
        assert second.payloads()[0][1][4:] == demand.notifies()[COOKIE] and COOKIE not in accepted.notifies()
        made.ping_both()
