"""What strongSwan does with the kernel's ESP alone: transport mode, packets that are not in UDP unless it is forced, and the ciphers and authenticators
that its userland ESP has not."""
import pytest

import ike_documents
import ike_wire
import lab
import traffic
from ike_documents import children
from ike_lab import inside
from ike_wire import AUTH, CREATE_CHILD, SA_INIT
from netns import wait_until
from swan_guest import VmLab, comes_up, rekeyed_and_ended

pytestmark = pytest.mark.vm
BOTH = pytest.mark.parametrize("initiator", ["postern", "strongswan"])
OUTER = {4: lab.OUT4, 6: lab.OUT6}
ICV = 16  # of HMAC-SHA-256-128
IPIP, ICMP, IPV6, ICMPV6 = 4, 1, 41, 58
# NULL leaves what ESP carries readable, its trailer too.
NULL = "null-sha256"


@pytest.fixture(scope="module")
def world(module_scratch):
    with VmLab(module_scratch) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_is_left(world):
    yield
    world.peer.terminate(ike="net", seconds=30, check=False)
    world.left.postern("clear", "crypto", "session", check=False)


# -- transport mode

def ends(family: int, side: int) -> str:
    return f"{OUTER[family][side]}/{32 if family == 4 else 128}"


def of_the_ends(family: int, mode: str, beside: str | None = None, **options) -> dict:
    """The traffic between N1 and the guest themselves; `beside`: and a network's, by the same transform set."""
    made = ike_documents.gateway_document(1, esp=NULL, flows=(f"map{family}",), **options)
    made["ipsec"]["transform_sets"][0]["mode"] = mode
    rule = made["acls"][0]["rules"][0]
    made["acls"][0]["rules"] = [{**rule, "source": ends(family, 1), "destination": ends(family, 2)}, *([rule] if beside else [])]
    return made


def load(world, family: int, mode: str, **more) -> None:
    between = {"local_ts": [ends(family, 2)], "remote_ts": [ends(family, 1)], "mode": mode}
    networks = {"local_ts": [inside(2, f"map{family}")], "remote_ts": [inside(1, f"map{family}")]}
    world.peer.load(world.connection(2, flow=f"map{family}", family=family, esp_proposals=[NULL], more={"encap": "no"},
                                     children={"c": between, "d": networks}, **more))


def next_headers(frames, family: int) -> set[int]:
    """Of the ESP trailers, which nothing hides here."""
    found = set()
    for frame in frames:
        packet = bytes(frame)[14:]
        protocol, header = (packet[9], 20) if family == 4 else (packet[6], 40)
        if protocol == ike_wire.ESP_PROTOCOL and packet[0] >> 4 == family:
            length = int.from_bytes(packet[2:4], "big") if family == 4 else 40 + int.from_bytes(packet[4:6], "big")
            assert length > header
            found.add(packet[length - ICV - 1])
    return found


def modes(world) -> tuple[str, str, set[str]]:
    """As strongSwan, our IKE and our data plane say it; of one child."""
    (theirs,), (ours,) = world.peer.children(), children(world.left)
    shown = {sa["mode"] for block in world.left.show("crypto", "ipsec", "sa")["interfaces"] for flow in block["flows"] for sa in flow["sas"]}
    return theirs["mode"], ours["mode"], shown


def begins(world, initiator: str, family: int, child: str = "c") -> None:
    if initiator == "strongswan":
        world.peer.initiate("net", child, seconds=30)
    traffic.ping_until(world.n1, OUTER[family][2], 30, source=OUTER[family][1])


@BOTH
@pytest.mark.parametrize("family", [4, 6])
def test_transport_mode(world, family, initiator):
    """TS-34, RFC 7296 1.3.1: asked for and granted in either role, kept over a rekey; what is behind the ESP header is ICMP and no IP header."""
    world.left.apply(of_the_ends(family, "transport"))
    load(world, family, "transport")
    far = OUTER[family][2]
    with world.capture("not tcp") as capture:
        begins(world, initiator, family)
        assert traffic.ping(world.n1, far, 5) == 5
        assert modes(world) == ("TRANSPORT", "transport", {"transport"})
        before = world.peer.children()[0]
        world.peer.rekey(child="c")
        wait_until(lambda: [one["spi-in"] for one in world.peer.children()] not in ([], [before["spi-in"]]), 20, "a new child SA")
        assert traffic.ping(world.n1, far, 5) == 5
        assert world.peer.children()[0]["mode"] == "TRANSPORT" and children(world.left)[0]["mode"] == "transport"
        frames = capture.frames()
    wire = ike_wire.read(frames)
    wire.assert_protected(20)
    assert next_headers(frames, family) <= {ICMP if family == 4 else ICMPV6} and wire.exchanges(CREATE_CHILD)


def test_transport_for_the_ends_and_tunnel_for_networks_by_one_set(world):
    """TS-34: the same transform set and two rules; hosts' traffic has no second header, the networks' has."""
    world.left.apply(of_the_ends(4, "transport", beside="networks"))
    load(world, 4, "transport")
    with world.capture("not tcp") as capture:
        begins(world, "postern", 4)
        traffic.ping_until(world.hA, lab.host(2, "map4"), 30, source=lab.host(1, "map4"))
        assert traffic.ping(world.n1, lab.OUT4[2], 3) == 3 and traffic.ping(world.hA, lab.host(2, "map4"), 3, source=lab.host(1, "map4")) == 3
        assert sorted(one["mode"] for one in children(world.left)) == ["transport", "tunnel"]
        assert {one["name"]: one["mode"] for one in world.peer.children()} == {"c": "TRANSPORT", "d": "TUNNEL"}
        frames = capture.frames()
    ike_wire.read(frames).assert_protected(12)
    assert next_headers(frames, 4) == {ICMP, IPIP}


@BOTH
def test_who_does_not_require_it_takes_tunnel_mode(world, initiator):
    """The guest does not want transport mode; the traffic is protected all the same."""
    world.left.apply(of_the_ends(4, "transport"))
    load(world, 4, "tunnel")
    with world.capture("not tcp") as capture:
        begins(world, initiator, 4)
        assert traffic.ping(world.n1, lab.OUT4[2], 3) == 3
        assert modes(world) == ("TUNNEL", "tunnel", {"tunnel"})
        frames = capture.frames()
    ike_wire.read(frames).assert_protected(6)
    assert next_headers(frames, 4) == {IPIP}


@BOTH
def test_required_and_declined(world, initiator):
    """RFC 7296 1.3.1: as the initiator we delete the SA that came in tunnel mode, as the responder we choose no proposal. Not one ESP packet leaves."""
    world.left.apply(of_the_ends(4, "transport require"))
    load(world, 4, "tunnel")
    wanted = {"postern": ("refused", "the peer declined transport mode, which we require", "initiator"),
              "strongswan": ("no_common_child_proposal",
                             "our transform set requires transport mode, and the peer does not ask for it or is behind NAT", "responder")}[initiator]
    with world.capture("not tcp") as capture:
        if initiator == "strongswan":
            assert world.peer.initiate("net", seconds=30, check=False) is False
        else:
            assert traffic.ping(world.n1, lab.OUT4[2], 1, wait=5) == 0

        def told() -> bool:
            return wanted in [(one["failure"], one["summary"], one["role"]) for one in ike_documents.diagnosis(world.left)]

        wait_until(told, 10, f"the diagnosis; there is {ike_documents.diagnosis(world.left)}")
        wait_until(lambda: not world.peer.children(), 10, "the guest has no child")
        wire = ike_wire.read(capture.frames())
    wire.assert_nothing_clear()
    assert not wire.esp and not children(world.left)
    load(world, 4, "transport")
    world.left.postern("clear", "crypto", "session")
    begins(world, initiator, 4)
    assert modes(world) == ("TRANSPORT", "transport", {"transport"})


# -- UDP without a NAT

FORCED = {"encap": "no", "local_port": "4500", "remote_port": "4500"}


@BOTH
@pytest.mark.parametrize("forced", [True, False], ids=["forced", "not forced"])
def test_nat_force_encap(world, forced, initiator):
    """IKE-41: no packet on port 500, all ESP in UDP on 4500; without the word IKE begins on 500 and ESP is protocol 50."""
    world.left.apply(ike_documents.gateway_document(1, flows=("map4",), profile={"nat_force_encap": forced}))
    world.peer.load(world.connection(2, more=FORCED if forced else {"encap": "no"}))
    far, near = lab.host(2, "map4"), lab.host(1, "map4")
    with world.capture("not tcp") as capture:
        comes_up(world, initiator, far, near)
        sa = world.peer.established()[0]
        assert sa.get("initiator") == ("yes" if initiator == "strongswan" else None)
        encap = world.peer.children()[0].get("encap", "no")
        shown = {one["udp_encap"] for block in world.left.show("crypto", "ipsec", "sa")["interfaces"] for flow in block["flows"] for one in flow["sas"]}
        rekeyed_and_ended(world, far, near)
        wire = ike_wire.read(capture.frames())
    wire.assert_protected(20)
    assert encap == ("yes" if forced else "no") and shown == {forced}
    assert {in_udp for _, _, _, in_udp in wire.esp} == {forced}
    first = {port for one in wire.exchanges(SA_INIT) for port in (one.sport, one.dport)}
    assert first == ({4500} if forced else {500}) and wire.exchanges(AUTH)
    if forced:
        assert {port for one in wire.ike for port in (one.sport, one.dport)} == {4500}


# -- ciphers and authenticators

SUITES = ["aes128-aesxcbc", "aes128gmac", *(pytest.param(one, marks=pytest.mark.slow) for one in (
    "aes256-aesxcbc", "aes128-aescmac", "aes256-aescmac", "aes192gmac", "aes256gmac", "aes192ctr-sha256", "aes192ccm16", "aes256ccm8"))]
KERNEL = {"aesxcbc": ("integ-alg", "AES_XCBC_96"), "aescmac": ("integ-alg", "AES_CMAC_96"), "gmac": ("encr-alg", "NULL_AES_GMAC"),
          "ctr": ("encr-alg", "AES_CTR"), "ccm16": ("encr-alg", "AES_CCM_16"), "ccm8": ("encr-alg", "AES_CCM_8")}


@pytest.mark.parametrize("esp", SUITES)
def test_algorithms_of_the_kernel(world, esp):
    """Negotiated in both roles, and the kernel's packets are ours: small ones, and such as fill the path."""
    world.left.apply(ike_documents.gateway_document(1, esp=esp, flows=("map4",)))
    world.peer.load(world.connection(2, esp_proposals=[esp], more={"encap": "no"}))
    far, near = lab.host(2, "map4"), lab.host(1, "map4")
    for initiator in ("postern", "strongswan"):
        comes_up(world, initiator, far, near)
        assert traffic.ping(world.hA, far, 3, source=near, size=1300) == 3
        key, wanted = next(value for word, value in KERNEL.items() if word in esp)
        assert world.peer.children()[0][key] == wanted
        assert world.peer.established()[0].get("initiator") == ("yes" if initiator == "strongswan" else None)
        rekeyed_and_ended(world, far, near)


def test_the_other_authenticator_is_refused(world):
    """AES-CMAC is not AES-XCBC, though both have 96 bits."""
    world.left.apply(ike_documents.gateway_document(1, esp="aes128-aescmac", flows=("map4",)))
    world.peer.load(world.connection(2, esp_proposals=["aes128-aesxcbc"], more={"encap": "no"}))
    assert world.peer.initiate("net", seconds=30, check=False) is False
    wait_until(lambda: any("integrity" in (one["differs"] or "") for one in ike_documents.diagnosis(world.left)), 10, "the diagnosis")
    assert not world.peer.children() and not children(world.left)
