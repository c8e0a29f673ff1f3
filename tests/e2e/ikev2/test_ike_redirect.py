"""Redirects (RFC 5685). As a client: a gateway made of the RFC (ike_script.py) sends the node to strongSwan, which never redirects by itself in
IKE_SA_INIT or IKE_AUTH. As a gateway: the node sends strongSwan, which follows by default, to another strongSwan; and a client made of the RFC."""
import contextlib
import socket

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

import ike_wire
import pki
from balance import assert_balanced
from ike_documents import children, diagnosis, gateway_document, ike_sas, wait_down
from ike_lab import PSK
from ike_script import (AUTH, AUTH_PAYLOAD, DELETE, IDR, IKE, INFORMATIONAL, NONCE, REDIRECT, REDIRECT_SUPPORTED, REDIRECTED_FROM, SA, SA_INIT,
                        ScriptedInitiator, ScriptedResponder, body, notifies, notify, prf, selectors, unchain)
from many_lab import ManyLab, network, outer
from name_server import NameServer
from netns import wait_until
from show_schema import violations
from strongswan import Connection
from traffic import ping

SUITE = {"ike": "aes128-sha256-x25519", "esp": "aes128gcm16"}
NAME = "gw2.example.net"
BESIDE = "192.0.2.12"  # the scripted gateway's other address
CERT, CERTIFIED = 37, "right.example.org"
BEHIND = "10.1.0.77"   # what both gateways of the client's network serve, at the second one


def identity(where: str) -> bytes:
    if where == NAME:
        return bytes([3, len(NAME)]) + NAME.encode()
    return b"\x01\x04" + socket.inet_aton(where)


# -- the node as a client


class ClientLab(ManyLab):
    """strongSwan at N3 serves the network of N2, where a test is the gateway."""

    def __init__(self, scratch):
        super().__init__(scratch, 3)
        try:
            self.peers[2].stop()
            self.names = NameServer(self.n1, "")
            self.gateways[3].ip_batch(*(f"address add {one}/32 dev in0" for one in ("10.2.0.2", "10.4.0.2")))
            self.n2.ip("address", "add", f"{BESIDE}/24", "dev", "out0")
            self.left.start()
        except BaseException:
            self.close()
            raise

    def down(self) -> None:
        for sa in self.peers[3].sas():
            self.peers[3].terminate(check=False, ike_id=sa["uniqueid"], force="yes")
        if ike_sas(self.left):
            self.left.postern("clear", "crypto", "session")
        wait_down(self.left, 15)


@pytest.fixture(scope="module")
def client(module_scratch):
    with ClientLab(module_scratch / "client") as made:
        yield made


@pytest.fixture
def world(client):
    client.names.say({NAME: [outer(3)]})
    client.down()
    client.left.apply(client_document(follow=False))  # what was counted towards a loop is forgotten
    client.left.apply(client_document())
    client.load(3, local_ts=[network(2)], proposals=[SUITE["ike"]])
    yield client


def client_document(follow: bool = True, **section) -> dict:
    return gateway_document(1, flows=("map4",), profile={"redirect": {"follow": follow}}, **SUITE, **section)


class Gateway(ScriptedResponder):
    def __init__(self, world, address: str = outer(2)):
        super().__init__(world.n2, address, PSK)

    def redirect_init(self, to: str, nonce: bytes | None = None, request: bytes | None = None, seconds: float = 8) -> bytes:
        """The request that is answered."""
        request = request or self.receive(SA_INIT, seconds)
        said = unchain(request[16], request[28:])
        self.spi_i = request[:8]
        self.send(self.plain(SA_INIT, 0, [notify(REDIRECT, identity(to) + (body(said, NONCE) if nonce is None else nonce))], bytes(8)))
        return request

    def answer_as(self, credential: pki.Credential, extra: list[tuple[int, bytes]], signed: pki.Credential | None = None) -> list[tuple[int, bytes]]:
        """The first request of IKE_AUTH, to a user who comes by EAP: the gateway proves itself (RFC 7296 2.16), by ECDSA (RFC 4754) with the
        key of `signed`. What the request said."""
        request = self.receive(AUTH)
        own = b"\x02\0\0\0" + CERTIFIED.encode()
        octets = self.response + self.nonce_i + prf(self.pr, own)
        r, s = decode_dss_signature((signed or credential).key.sign(octets, ec.ECDSA(hashes.SHA256())))
        self.send(self.seal(AUTH, 1, [(IDR, own), (CERT, b"\x04" + credential.certificate.public_bytes(Encoding.DER)),
                                      (AUTH_PAYLOAD, b"\x09\0\0\0" + r.to_bytes(32) + s.to_bytes(32)), *extra]))
        return self.open(request)

    def answer_delete(self) -> None:
        """RFC 5685 5, 6: the client leaves."""
        while True:
            request = self.receive(INFORMATIONAL)
            said = self.open(request)
            self.send(self.seal(INFORMATIONAL, int.from_bytes(request[20:24], "big"), []))
            if any(kind == DELETE and data[0] == IKE for kind, data in said):
                return


def said_in(request: bytes) -> dict[int, bytes]:
    return notifies(unchain(request[16], request[28:]))


def connect(world, peer: str = outer(2)) -> None:
    world.left.postern("crypto", "session", "connect", "peer", peer)


def up_at(world, number: int, seconds: float = 10) -> dict:
    def there() -> bool:
        return [sa["remote"] for sa in ike_sas(world.left)] == [outer(number)] and len(children(world.left)) == 1

    wait_until(there, seconds, f"one child SA with {outer(number)} alone; there is {ike_sas(world.left)}; {diagnosis(world.left)[:2]}")
    return ike_sas(world.left)[0]


def check_sent(world) -> None:
    """At strongSwan now, with traffic, and shown."""
    sa = up_at(world, 3)
    assert sa["redirect"] == {"follows": True, "from": outer(2), "to": None}
    assert world.ping(count=3) == 3
    text = world.left.postern("show", "crypto", "ikev2", "sa", "detail").stdout
    assert f"Redirected from: {outer(2)}" in text, text
    for command in ("show crypto ikev2 sa", "show crypto ikev2 session", "show crypto session"):
        assert not violations(command, world.left.show(*command.split()[1:]))
    peer = world.peers[3]
    peer.said(r"parsed IKE_SA_INIT request 0 \[[^\]]*N\(REDIR_FROM\)")
    assert_balanced(world.left)


@contextlib.contextmanager
def nothing_in_clear(world):
    with world.capture() as capture:
        yield
        frames = capture.frames()
    found = ike_wire.read(frames, (outer(1), outer(2), outer(3), BESIDE))
    found.assert_safe()


@pytest.mark.parametrize("to", (outer(3), NAME))
def test_sent_away_in_ike_sa_init(world, to):
    with nothing_in_clear(world), Gateway(world) as gateway:
        connect(world)
        request = gateway.redirect_init(to)
        assert REDIRECT_SUPPORTED in said_in(request) and REDIRECTED_FROM not in said_in(request)
        check_sent(world)
        assert gateway.silent(1), "nobody comes back"


def test_sent_away_in_ike_auth(world):
    with nothing_in_clear(world), Gateway(world) as gateway:
        connect(world)
        gateway.answer_init()
        gateway.answer_auth([notify(REDIRECT, identity(outer(3)))], child=False)
        gateway.answer_delete()
        check_sent(world)


def test_sent_away_later(world):
    with nothing_in_clear(world), Gateway(world) as gateway:
        connect(world)
        gateway.answer_init()
        gateway.answer_auth()
        up_at(world, 2)
        gateway.send(gateway.seal(INFORMATIONAL, 0, [notify(REDIRECT, identity(outer(3)))], response=False))
        assert gateway.open(gateway.receive(INFORMATIONAL, response=True)) == [], "an empty answer"
        gateway.answer_delete()
        check_sent(world)


def by_eap(world) -> pki.Credential:
    """The node comes by EAP; what its gateway has to show."""
    ca = pki.Authority("Test CA")
    document = gateway_document(1, flows=("map4",), remote_id=CERTIFIED, **SUITE, profile={
        "redirect": {"follow": True}, "pki_trustpoints": ["TP"], "authentication": {
            "local": {"method": "eap", "eap": {"methods": ["mschapv2"], "identity": "alice", "password": "her own password"}},
            "remote": {"method": "ecdsa-sig"}}})
    document["pki"] = {"trustpoints": [{"name": "TP", "ca_certificates": [ca.write(world.scratch, "redirect-ca")[0]]}]}
    world.left.apply(document)
    return ca.issue("right", [CERTIFIED])


def test_a_user_of_eap_is_sent_away_by_a_gateway_that_has_proved_itself(world):
    """RFC 5685 6: in the first answer of IKE_AUTH, before EAP begins."""
    credential = by_eap(world)
    with nothing_in_clear(world), Gateway(world) as gateway, Gateway(world, BESIDE) as other:
        connect(world)
        gateway.answer_init()
        said = gateway.answer_as(credential, [notify(REDIRECT, identity(BESIDE))])
        assert AUTH_PAYLOAD not in [kind for kind, _ in said], "it comes by EAP"
        assert said_in(other.receive(SA_INIT))[REDIRECTED_FROM] == identity(outer(2))
    assert_balanced(world.left)


def test_a_user_of_eap_is_not_sent_away_by_anybody_else(world):
    """The gateway's certificate, and a signature by another key."""
    credential = by_eap(world)
    before = diagnosis(world.left)[:1]
    with Gateway(world) as gateway, Gateway(world, BESIDE) as other:
        connect(world)
        gateway.answer_init()
        gateway.answer_as(credential, [notify(REDIRECT, identity(BESIDE))], signed=pki.Authority("Nobody"))
        wait_until(lambda: diagnosis(world.left)[:1] != before, 5, "it is told")
        assert diagnosis(world.left)[0]["failure"] == "wrong_key"
        assert other.silent(1) and not ike_sas(world.left)


def test_what_ends_there_begins_at_its_own_gateway(world):
    with Gateway(world) as gateway:
        connect(world)
        gateway.redirect_init(outer(3))
        up_at(world, 3)
        for sa in world.peers[3].sas():
            world.peers[3].terminate(ike_id=sa["uniqueid"])
        wait_down(world.left)
        connect(world)
        assert REDIRECTED_FROM not in said_in(gateway.redirect_init(outer(3)))
        check_sent(world)


@pytest.mark.parametrize("when", ("init", "auth", "later"))
def test_a_tunnel_is_sent_away(world, when):
    """The tunnel interface is the same and its packets go to the other gateway, which serves what the tunnel's routes lead to."""
    world.gateways[3].ip_batch("address replace 10.4.0.2/32 dev in0", "route replace 10.3.0.0/16 dev ipsec0")
    world.left.apply(gateway_document(1, flows=("tunnel4",), profile={"redirect": {"follow": True}}, initiate="on_traffic", **SUITE))
    world.load(3, local_ts=["0.0.0.0/0"], remote_ts=["0.0.0.0/0"], proposals=[SUITE["ike"]])
    with nothing_in_clear(world), Gateway(world) as gateway:
        connect(world)
        if when == "init":
            gateway.redirect_init(outer(3))
        elif when == "auth":
            gateway.answer_init()
            gateway.answer_auth([notify(REDIRECT, identity(outer(3)))], child=False)
            gateway.answer_delete()
        else:
            gateway.answer_init()
            gateway.answer_auth()
            assert up_at(world, 2)["redirect"]["from"] is None
            gateway.send(gateway.seal(INFORMATIONAL, 0, [notify(REDIRECT, identity(outer(3)))], response=False))
            assert gateway.open(gateway.receive(INFORMATIONAL, response=True)) == []
            gateway.answer_delete()
        assert up_at(world, 3)["redirect"]["from"] == outer(2)
        assert [child["interface"] for child in children(world.left)] == ["Tunnel0"]
        with world.capture("not arp", "w1") as capture:  # N3 is not behind w2
            assert world.ping("tunnel4", 3) == 3
            wire = ike_wire.read(capture.frames())
        wire.assert_protected(6)
        assert {frozenset(one[:2]) for one in wire.esp} == {frozenset((outer(1), outer(3)))}
        world.peers[3].said(r"parsed IKE_SA_INIT request 0 \[[^\]]*N\(REDIR_FROM\)")
    assert_balanced(world.left)


# -- what is not followed


def test_without_follow_nothing_is_said_and_nothing_believed(world):
    world.left.apply(client_document(follow=False))
    with world.capture(f"host {outer(3)}") as capture, nothing_in_clear(world), Gateway(world) as gateway:
        connect(world)
        request = gateway.redirect_init(outer(3))
        assert REDIRECT_SUPPORTED not in said_in(request)
        assert gateway.receive(SA_INIT) == request, "it goes on asking"
        gateway.answer_init(request=request)
        gateway.answer_auth()
        up_at(world, 2)
        gateway.send(gateway.seal(INFORMATIONAL, 0, [notify(REDIRECT, identity(outer(3)))], response=False))
        gateway.receive(INFORMATIONAL, response=True)
        assert [sa["remote"] for sa in ike_sas(world.left)] == [outer(2)]
        assert not [one for one in ike_wire.read(capture.frames()).ike if outer(3) in (one.source, one.destination)]
    assert "REDIRECT that nobody has asked for" in world.left.process.log()


def test_a_flood_of_answers_without_our_nonce_moves_nobody(world):
    with world.capture(f"host {outer(3)}") as capture, nothing_in_clear(world), Gateway(world) as gateway:
        connect(world)
        request = gateway.receive(SA_INIT)
        for at in range(500):
            gateway.redirect_init(outer(3), nonce=bytes([at % 256]) * 32 if at % 3 else b"", request=request)
        gateway.answer_init(request=request)
        gateway.answer_auth()
        assert up_at(world, 2)["redirect"]["from"] is None
        assert not [one for one in ike_wire.read(capture.frames()).ike if outer(3) in (one.source, one.destination)]
    assert_balanced(world.left)


def test_a_gateway_that_does_not_prove_itself_sends_nobody_away(world):
    with world.capture(f"host {outer(3)}") as capture, Gateway(world) as gateway:
        connect(world)
        gateway.answer_init()
        gateway.psk = b"a key of nobody"
        gateway.answer_auth([notify(REDIRECT, identity(outer(3)))], child=False, check=False)
        wait_until(lambda: diagnosis(world.left)[0]["failure"] == "wrong_key", 5, "it is told")
        assert not ike_sas(world.left)
        assert not [one for one in ike_wire.read(capture.frames()).ike if outer(3) in (one.source, one.destination)]


def test_a_loop_ends_with_its_reason(world):
    world.left.apply(client_document(redirect={"max_redirects": 3}))
    with nothing_in_clear(world), Gateway(world) as one, Gateway(world, BESIDE) as other:
        connect(world)
        came = []
        for at in range(4):
            here, there = (one, BESIDE) if at % 2 == 0 else (other, outer(2))
            came.append(said_in(here.redirect_init(there)))
        assert [REDIRECTED_FROM in said for said in came] == [False, True, True, True]
        assert came[1][REDIRECTED_FROM] == identity(outer(2)) and came[2][REDIRECTED_FROM] == identity(BESIDE)
        wait_until(lambda: diagnosis(world.left)[0]["failure"] == "redirect_loop", 5, "it is told")
        assert diagnosis(world.left)[0]["summary"] == f"sent to {outer(2)}: more than 3 redirects within 300 s"
        assert "more than 3 redirects" in world.left.postern("show", "crypto", "ikev2", "diagnose").stdout
        assert world.ping("map4", 2, wait=1) == 0, "fail closed"
    assert_balanced(world.left)


# -- the node as a gateway


class GatewayLab(ManyLab):
    """strongSwan at N2 begins; the node and strongSwan at N3 are its gateways."""

    def __init__(self, scratch):
        super().__init__(scratch, 3)
        try:
            self.gateways[3].ip("address", "add", f"{BEHIND}/32", "dev", "in0")
            self.left.start()
        except BaseException:
            self.close()
            raise

    def serve(self, profile: dict, client_wants: str = "%any", **section) -> None:
        self.down()
        self.left.apply(gateway_document(1, flows=("map4",), profile={"redirect": profile}, **SUITE, **section))
        options = {"psk": PSK, "proposals": [SUITE["ike"]], "esp_proposals": ["aes128gcm16"]}
        self.peers[3].load(Connection("net", outer(3), outer(2), [network(1)], [network(2)], **options))
        self.peers[2].load(Connection("net", outer(2), outer(1), [network(2)], [network(1)], remote_id=client_wants, **options))

    def client_at(self, number: int, seconds: float = 10) -> None:
        def there() -> bool:
            sas = self.peers[2].established()
            return [sa["remote-host"] for sa in sas] == [outer(number)] and len(self.peers[2].children()) == 1

        wait_until(there, seconds, f"strongSwan is at {outer(number)}: {self.peers[2].sas()}")


@pytest.fixture(scope="module")
def gateway_lab(module_scratch):
    with GatewayLab(module_scratch / "gateway") as made:
        yield made


def check_gone_to_second(lab) -> None:
    lab.client_at(3)
    assert ping(lab.hB, BEHIND, 3, source="10.2.0.2") == 3
    wait_down(lab.left)
    assert_balanced(lab.left)


def test_strongswan_is_sent_away_as_it_begins(gateway_lab):
    lab = gateway_lab
    lab.serve({"gateway": {"to": outer(3)}})
    with nothing_in_clear(lab):
        lab.peers[2].initiate_soon("net")
        check_gone_to_second(lab)
    lab.peers[3].said(r"parsed IKE_SA_INIT request 0 \[[^\]]*N\(REDIR_FROM\)")
    assert f"the peer is sent to {outer(3)}" in lab.left.process.log()


def test_strongswan_is_sent_away_by_the_operator(gateway_lab):
    lab = gateway_lab
    lab.serve({}, redirect={"leave_within": 30})
    with nothing_in_clear(lab):
        assert lab.peers[2].initiate("net")
        lab.client_at(1)
        assert ping(lab.hB, "10.1.0.2", 3, source="10.2.0.2") == 3
        assert ike_sas(lab.left)[0]["redirect"] == {"follows": True, "from": None, "to": None}
        said = lab.left.postern("crypto", "session", "redirect", "peer", outer(2), "to", outer(3))
        assert said.stdout == f"1 of 1 session sent to {outer(3)}\n"
        check_gone_to_second(lab)
    again = lab.left.postern("--json", "crypto", "session", "redirect", "to", outer(3)).stdout
    assert '"matched": 0' in again and '"redirected": 0' in again


def test_below_its_number_of_sessions_a_gateway_serves(gateway_lab):
    lab = gateway_lab
    lab.serve({"gateway": {"to": outer(3), "above": 1}})
    assert lab.peers[2].initiate("net")
    lab.client_at(1)
    assert ping(lab.hB, "10.1.0.2", 2, source="10.2.0.2") == 2
    assert_balanced(lab.left)


def test_who_does_not_follow_is_served_and_not_asked(gateway_lab):
    """Who answers is no client."""
    lab = gateway_lab
    lab.serve({"gateway": {"to": outer(3), "when": "init"}}, outer(1))
    lab.left.postern("crypto", "session", "connect", "peer", outer(2))  # the node begins, and is no client of anybody
    wait_until(lambda: len(children(lab.left)) == 1, 8, "up with strongSwan as the one that answers")
    said = lab.left.postern("crypto", "session", "redirect", "to", outer(3), check=False)
    assert said.stdout == f"0 of 1 session sent to {outer(3)}\n"
    assert len(children(lab.left)) == 1


# -- what strongSwan does not do: 5.9.8 follows in IKE_AUTH, and ends itself by a fault of its own


@pytest.fixture
def alone(gateway_lab):
    """N2 has no IKE of its own."""
    gateway_lab.down()
    gateway_lab.peers[2].stop()
    yield gateway_lab
    if ike_sas(gateway_lab.left):
        gateway_lab.left.postern("clear", "crypto", "session", check=False)
    gateway_lab.peers[2].start()


def serve_alone(lab, redirect: dict) -> None:
    lab.left.apply(gateway_document(1, flows=("map4",), profile={"redirect": redirect}, redirect={"leave_within": 5}, **SUITE))


NETWORKS = (selectors(("10.2.0.0", "10.2.255.255")), selectors(("10.1.0.0", "10.1.255.255")))


def test_sent_away_once_it_has_authenticated(alone):
    """RFC 5685 6: AUTH and no child; who does not leave is deleted."""
    serve_alone(alone, {"gateway": {"to": outer(3), "when": "auth"}})
    with ScriptedInitiator(alone.n2, outer(2), outer(1), PSK) as client:
        client.begin([notify(REDIRECT_SUPPORTED)])
        said = client.authenticate(*NETWORKS)
        assert notifies(said)[REDIRECT] == identity(outer(3)) and SA not in [kind for kind, _ in said]
        assert ike_sas(alone.left)[0]["redirect"] == {"follows": True, "from": None, "to": outer(3)}
        client.exchange([(DELETE, bytes([IKE, 0, 0, 0]))], INFORMATIONAL)
        wait_down(alone.left)
    with ScriptedInitiator(alone.n2, outer(2), outer(1), PSK) as client:
        client.begin([notify(REDIRECT_SUPPORTED)])
        client.authenticate(*NETWORKS)
        assert len(ike_sas(alone.left)) == 1
        wait_down(alone.left, 20)
    assert_balanced(alone.left)


@pytest.mark.parametrize("when", ("init", "auth"))
def test_who_says_nothing_or_comes_from_there_is_served(alone, when):
    serve_alone(alone, {"gateway": {"to": outer(3), "when": when}})
    for extra in ([], [notify(REDIRECTED_FROM, identity(outer(3)))]):
        with ScriptedInitiator(alone.n2, outer(2), outer(1), PSK) as client:
            assert REDIRECT not in notifies(client.begin(extra))
            said = client.authenticate(*NETWORKS)
            assert REDIRECT not in notifies(said) and SA in [kind for kind, _ in said]
            client.exchange([(DELETE, bytes([IKE, 0, 0, 0]))], INFORMATIONAL)
            wait_down(alone.left)


def test_the_answer_to_the_first_message_and_hostile_words_in_it(alone):
    """RFC 5685 3, 9: with the nonce and nothing else; REDIRECTED_FROM that is broken says that the client follows, and no more."""
    serve_alone(alone, {"gateway": {"to": NAME}})
    for extra in (notify(REDIRECT_SUPPORTED), notify(REDIRECTED_FROM, identity(outer(4))), notify(REDIRECTED_FROM), notify(REDIRECTED_FROM, bytes(300)),
                  notify(REDIRECTED_FROM, b"\x01\xff\xc0\0\2\3"), notify(REDIRECTED_FROM, b"\x09\x04" + bytes(4))):
        with ScriptedInitiator(alone.n2, outer(2), outer(1), PSK) as client:
            said = client.begin([extra])
            assert notifies(said) == {REDIRECT: identity(NAME) + client.nonce_i} and client.spi_r == bytes(8)
    wrong = ScriptedInitiator(alone.n2, outer(2), outer(1), "a key of nobody")
    serve_alone(alone, {"gateway": {"to": outer(3), "when": "auth"}})
    with wrong as client, pytest.raises(StopIteration):
        client.begin([notify(REDIRECT_SUPPORTED)])
        client.authenticate(*NETWORKS)  # refused: an answer without AUTH, and without REDIRECT
    assert not ike_sas(alone.left)
