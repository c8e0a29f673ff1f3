"""Certificates that are long, changed on the way, or at their end: chains of 4096-bit keys over a narrow path, SIGNATURE_HASH_ALGORITHMS
that somebody strips, and reauthentication before a certificate ends under a numbered stream."""
import contextlib

import pytest

import ike_wire
import lab
import pki
from balance import drops
from certificate_lab import OURS, THEIRS, CertificateLab, refused
from ike_documents import children, diagnosis, ike_sas
from ike_wire import AUTH, CREATE_CHILD, SA_INIT
from netns import wait_until

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("no_stream_is_left")]

BOTH = pytest.mark.parametrize("by", ["postern", "strongswan"])
PATH = 1280
SIGNATURE_HASH_ALGORITHMS, UNKNOWN_STATUS = 16431, 0xA000
RATE = 20000


@pytest.fixture(scope="module")
def world(module_scratch):
    with CertificateLab(module_scratch, right={"options": {"fragment_size": PATH}}, dataplane={"umem_frames": 32768, "ring_entries": 16384}) as made:
        made.deep_buffers()
        yield made


# -- RFC 7383 where it is needed

@pytest.fixture(scope="module")
def long_chain():
    """Root, intermediate CA and two ends, each with an RSA key of 4096 bits: an IKE_AUTH of more than 4,000 bytes."""
    root = pki.Authority("Long Root", kind="rsa4096")
    between = pki.Authority("Long Intermediate", root, kind="rsa4096")
    return root, between, between.issue("left", [OURS], "rsa4096"), between.issue("right", [THEIRS], "rsa4096")


def narrow(world):
    """To neither gateway comes an IKE message in a packet longer than the path takes, nor one in IP fragments."""
    stack = contextlib.ExitStack()
    for where, source in ((world.n1, lab.OUT4[2]), (world.n2, lab.OUT4[1])):
        stack.enter_context(world.lost(where, f"ip saddr {source} udp dport 4500 meta length > {PATH}", f"ip saddr {source} ip frag-off & 0x3fff != 0"))
    return stack


def with_long_chain(world, long_chain, **document) -> None:
    root, between, ours, theirs = long_chain
    swan = world.swan_ends(theirs, authority=root)
    world.peer._vici.request("load-cert", {"type": "X509", "flag": "CA", "data": between.pem})
    world.configure(own=ours, chain=[between], authorities=[root], swan=swan, **document)


def auth_packets(wire, source: str) -> list[int]:
    """Lengths of IKE_AUTH's datagrams from there, as IP packets."""
    return [len(one.data) + 28 + 4 for one in wire.ike if one.exchange == AUTH and one.source == source]


@BOTH
def test_a_chain_of_4096_bits_over_1280_bytes(world, long_chain, by):
    with_long_chain(world, long_chain, fragmentation_mtu=PATH)
    with narrow(world), world.capture("udp port 4500") as capture:
        world.up(by)
        world.ping_both()
        wire = ike_wire.read(capture.frames())
    ours, theirs = (auth_packets(wire, lab.OUT4[side]) for side in (1, 2))
    assert max(ours + theirs) <= PATH and sum(ours) > 3000 and sum(theirs) > 3000, (ours, theirs)
    assert len(ours) >= 3 and len(theirs) >= 3, "certificates of both ends came in fragments"
    sa = ike_sas(world.left)[0]
    assert (sa["auth_sign"], sa["auth_verify"]) == ("RSA-PSS with SHA-256", "RSA with SHA-384"), sa


def test_the_same_chain_without_fragments_does_not_pass(world, long_chain):
    with_long_chain(world, long_chain, fragmentation_mtu=0)
    with narrow(world):
        assert not world.peer.initiate("net", seconds=6, check=False)
        assert not ike_sas(world.left)
        world.down()


# -- a downgrade on the way (RFC 7427 §4, §6)

def place_of_hashes(world) -> dict[str, int]:
    """Where in each side's IKE_SA_INIT the type of the notify stands, by sender: bytes from the start of the UDP header."""
    with world.capture("udp port 500") as capture:
        world.up("postern")
        wire = ike_wire.read(capture.frames())
    world.down()
    with world.capture("udp port 500") as capture:
        world.up("strongswan")
        theirs = ike_wire.read(capture.frames())
    world.down()
    wanted = SIGNATURE_HASH_ALGORITHMS.to_bytes(2, "big")
    found = {}
    for one in [*wire.ike, *theirs.ike]:
        if one.exchange != SA_INIT or one.response:
            continue
        at = one.data.index(b"\0" * 2 + wanted)  # protocol 0, no SPI, type
        found[one.source] = 8 + at + 2
    return found


@contextlib.contextmanager
def stripped(world, source: str, at: int):
    """Whoever sits on the path makes of the notify one of a type that nobody knows."""
    rule = f"ip saddr {source} udp dport 500 @th,{at * 8},16 {SIGNATURE_HASH_ALGORITHMS} counter @th,{at * 8},16 set {UNKNOWN_STATUS} udp checksum set 0"
    world.w.run("nft", "-f", "-", input=f"table bridge strip {{ chain on {{ type filter hook forward priority 0; {rule}; }}; }}")
    try:
        yield lambda: "packets 0 " not in world.w.run("nft", "list", "table", "bridge", "strip").stdout
    finally:
        world.w.run("nft", "delete", "table", "bridge", "strip")


def test_stripped_signature_hash_algorithms(world):
    """The receiver falls back to the older methods and signs by them; but what was signed is what was sent, and the change comes to light
    at the first AUTH, whoever began. Without the change the same ends agree on RFC 7427's method."""
    world.configure(swan=world.swan_ends(world.ca.issue("right", [THEIRS])))
    places = place_of_hashes(world)
    with stripped(world, lab.OUT4[2], places[lab.OUT4[2]]) as seen:
        row = refused(world, "strongswan", "wrong_key")
        assert seen()
    assert "does not verify" in row["summary"] and "right" in row["summary"], row
    with stripped(world, lab.OUT4[1], places[lab.OUT4[1]]) as seen:
        row = refused(world, "postern", "wrong_key")
        assert seen()
    assert "the peer refused our authentication" in row["summary"], row
    world.left.postern("clear", "crypto", "session")  # and with it the pause after a failure
    world.up("postern")
    world.ping_both()


# -- reauthentication (R43-01, RFC 7296 §2.8.3)

def spi(world) -> str | None:
    """Of the only IKE SA; nothing while there are two."""
    found = {sa["local_spi"] for sa in ike_sas(world.left)}
    return found.pop() if len(found) == 1 else None


@pytest.mark.alone
@pytest.mark.parametrize("back", [pytest.param(False, marks=pytest.mark.slow), True], ids=["out", "in"])
def test_reauthentication_before_the_certificate_ends(world, back):
    """Our certificate has a quarter of a minute left when the IKE SA comes up. It is renewed, and before the old one ends another IKE SA is made
    beside the first, with new children, and the first one closed; the new one has the new certificate's time. Nothing is lost either way,
    though strongSwan sends into its new child before we can have read and verified its answer: the worker waits with those packets."""
    key = pki.make_key("ecdsa256")
    ending = world.ca.issue("left", [OURS], key=key, end=pki.now() + 15 * pki.SECOND)
    world.configure(own=ending, swan=world.swan_ends(world.ca.issue("right", [THEIRS])))
    world.up("postern")
    before, lifetime = spi(world), ike_sas(world.left)[0]["life_s"]
    assert 5 <= lifetime <= 15, "the IKE SA does not outlive the certificate"
    world.left.apply(world.document(own=world.ca.issue("left", [OURS], key=key)))
    assert spi(world) == before, "a renewed certificate disturbs nobody"
    before_drops = drops(world.left)
    with world.capture("udp port 500 or (udp port 4500 and udp[8:4] = 0)") as capture:
        stream = world.stream(back=back, rate=RATE)
        wait_until(lambda: spi(world) not in (None, before), 40, "another IKE SA stands alone")
        stream.more(10000)
        got = stream.finish()
        wire = ike_wire.read(capture.frames())
    assert got["sent"] >= 20000 and got["wrong"] == got["duplicate"] == 0, f"{got}; counted: {world.losses()}"
    assert got["lost"] == 0 and not (drops(world.left) - before_drops)["no_sa"], f"{got}; counted: {world.losses()}"
    assert [one.source for one in wire.exchanges(SA_INIT)] == [lab.OUT4[1]] and not wire.exchanges(CREATE_CHILD)
    assert ike_sas(world.left)[0]["life_s"] > 3600 and len(children(world.left)) == 1
    world.ping_both()


def test_nobody_outlives_a_certificate_that_is_not_renewed(world):
    """With the certificate ends the IKE SA, and its children with it; the next attempt says which one is over."""
    end = pki.now() + 12 * pki.SECOND
    world.configure(own=world.ca.issue("left", [OURS], end=end), swan=world.swan_ends(world.ca.issue("right", [THEIRS])))
    world.up("postern")
    wait_until(lambda: not ike_sas(world.left), 25, "the IKE SA is gone")
    wait_until(lambda: not world.peer.established(), 5, "for the peer too")
    wait_until(lambda: pki.now() > end, 2, "the certificate ends, which the IKE SA did within its last second")
    assert world.ping(count=1, wait=1) == 0
    wait_until(lambda: [row for row in diagnosis(world.left) if row["failure"] == "credential"], 8, "it is told")
    row = next(row for row in diagnosis(world.left) if row["failure"] == "credential")
    assert "left" in row["summary"] and "clock says" in row["summary"], row


def theirs_ends(world, seconds: int) -> None:
    """The peer's certificate has so long left when the IKE SA comes up, which does not outlive it."""
    key = pki.make_key("ecdsa256")
    world.theirs_end = pki.now() + seconds * pki.SECOND
    world.configure(swan=world.swan_ends(world.ca.issue("right", [THEIRS], key=key, end=world.theirs_end)))
    world.renewed = world.ca.issue("right", [THEIRS], key=key)
    wait_until(lambda: world.ping(count=1) == 1, 5, "it is up, however lately an attempt has failed")
    assert 3 <= ike_sas(world.left)[0]["life_s"] <= seconds


def test_reauthentication_before_the_peers_certificate_ends(world):
    """Its renewal is loaded into strongSwan, which tells nobody: we ask for it, before the end of the first, by another IKE SA."""
    theirs_ends(world, 12)
    before = spi(world)
    world.peer.load(world.connection(2, **world.swan_ends(world.renewed)))
    assert spi(world) == before, "a renewed certificate disturbs nobody"
    with world.capture("udp port 500 or (udp port 4500 and udp[8:4] = 0)") as capture:
        wait_until(lambda: spi(world) not in (None, before), 12, "another IKE SA stands alone")
        wire = ike_wire.read(capture.frames())
    assert [one.source for one in wire.exchanges(SA_INIT)] == [lab.OUT4[1]] and not wire.exchanges(CREATE_CHILD)
    assert ike_sas(world.left)[0]["life_s"] > 3600 and len(children(world.left)) == 1
    world.ping_both()


@pytest.mark.slow
def test_nobody_outlives_the_peers_certificate_that_is_not_renewed(world):
    theirs_ends(world, 12)
    wait_until(lambda: not ike_sas(world.left) and not children(world.left), 25, "the IKE SA is gone")
    wait_until(lambda: not world.peer.established(), 5, "for the peer too")
    wait_until(lambda: pki.now() > world.theirs_end, 2, "the certificate ends, which the IKE SA did within its last second")
    assert world.ping(count=1, wait=1) == 0
    wait_until(lambda: [row for row in diagnosis(world.left, lab.OUT4[2]) if row["failure"] == "certificate"], 8, "it is told")
    row = next(row for row in diagnosis(world.left, lab.OUT4[2]) if row["failure"] == "certificate")
    assert "right" in row["summary"] and "has expired" in row["summary"] and "clock says" in row["differs"], row
