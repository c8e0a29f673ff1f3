"""RFC 7383 with a scripted peer that knows the keys: whole messages and fragments mixed, other totals, floods before anybody has proved who it is.
Each time the number of answers, what they say, and what is left of the IKE SA."""
import pathlib
import struct

import pytest

from ike_documents import children, gateway_document, ike_sas
from ike_lab import PSK, IkeLab
from ike_pairs import ike_pid
from ike_script import AUTH, INFORMATIONAL, INVALID_IKE_SPI, ScriptedInitiator, ScriptedResponder, notifies, notify, selectors, unchain
from lab import OUT4
from netns import wait_until

FRAGMENTATION_SUPPORTED, INVALID_SYNTAX = 16430, 7
NETWORKS = selectors(("10.2.0.0", "10.2.255.255")), selectors(("10.1.0.0", "10.1.255.255"))
MOST = 256  # fragments of one message
QUIET = 0.15


@pytest.fixture(scope="module")
def world(module_scratch):
    with IkeLab(module_scratch) as made:
        made.left = made.node(1, gateway_document(1, flows=("map4",), ike="aes128-sha256-x25519", esp="aes128gcm16", fragmentation_mtu=1280))
        made.left.start()
        yield made


def heard(peer, least: int = 0) -> list[bytes]:
    """Every datagram of this IKE SA: so many at least, and then until a moment passes without one."""
    found = []
    try:
        while True:
            peer.socket.settimeout(8 if len(found) < least else QUIET)
            data, _ = peer.socket.recvfrom(65535)
            found += [data] if data[:8] == peer.spi_i else []
    except TimeoutError:
        return found
    finally:
        peer.socket.settimeout(8)


def memory(world) -> int:
    """postern-ike's resident set, in KB."""
    status = pathlib.Path(f"/proc/{ike_pid(world.left)}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


class Fragmenter(ScriptedInitiator):
    """Its IKE_AUTH: `one`, how to seal it; `said`, what it says."""

    def __init__(self, world, agreed: bool = True):
        world.left.postern("clear", "crypto", "session")
        super().__init__(world.n2, OUT4[2], OUT4[1], PSK)
        self.begin([notify(FRAGMENTATION_SUPPORTED)] if agreed else [])
        self.one, self.said = self.sealer(AUTH), self.proof(*NETWORKS)

    def whole(self) -> bytes:
        return self.one.seal(self.said)

    def cut(self, total: int) -> list[bytes]:
        return self.one.seal_fragments(self.said, total)

    def send(self, datagrams: list[bytes]) -> None:
        for data in datagrams:
            self.socket.sendto(data, (self.node, 500))

    def lives(self, world) -> None:
        """The one IKE SA and its child, and the next request is answered."""
        assert len(ike_sas(world.left)) == len(children(world.left)) == 1
        assert self.exchange([], INFORMATIONAL) == []


def placed(data: bytes, number: int, total: int) -> bytes:
    """A fragment that says it is another: its integrity check fails."""
    return data[:32] + struct.pack("!HH", number, total) + data[36:]


def spoiled(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


ALL_ANSWERED = [  # what comes, the datagrams, how many answers
    ("fragments", lambda p: p.cut(3), 1),
    ("fragments in another order, doubled", lambda p: [one for one in reversed(p.cut(4)) for _ in range(2)], 2),  # the first one asks again
    ("some fragments, then the whole", lambda p: [*p.cut(3)[:2], p.whole(), p.cut(3)[2]], 1),
    ("the whole, then its fragments", lambda p: [p.whole(), *p.cut(3)], 2),  # 2.6.1: the first of them asks for the answer again
    ("the whole, then its later fragments", lambda p: [p.whole(), *p.cut(3)[1:]], 1),
    ("a larger total takes the place of a smaller one", lambda p: [*p.cut(2)[:1], *p.cut(3)], 1),
    ("a smaller total is dropped", lambda p: [p.cut(3)[0], *p.cut(2), *p.cut(3)[1:]], 1),
    ("what is not authentic takes no place", lambda p: [spoiled(p.cut(3)[1]), placed(p.cut(3)[0], 2, 3), placed(p.cut(3)[0], 1, 200), *p.cut(3)], 1),
    ("numbers that cannot be", lambda p: [placed(p.cut(3)[0], 0, 3), placed(p.cut(3)[0], 4, 3), p.one.fragment(0, 0, 3, b"x"),
                                          p.one.fragment(0, 4, 3, b"x"), p.one.fragment(0, 1, MOST + 1, b"x"), *p.cut(3)], 1),
    ("a hundred", lambda p: p.cut(100), 1),  # 256 would fill the node's socket on a busy machine
]


@pytest.mark.parametrize("what,datagrams,answers", ALL_ANSWERED, ids=[row[0] for row in ALL_ANSWERED])
def test_one_answer_and_one_ike_sa(world, what, datagrams, answers):
    """Every answer is the same one, again."""
    with Fragmenter(world) as peer:
        peer.send(datagrams(peer))
        found = heard(peer, answers)
        assert len(found) == answers and len(set(found)) == 1, [one.hex() for one in found]
        peer.check(peer.open(found[0]))
        peer.lives(world)


def test_fragments_that_nobody_agreed_on(world):
    """2.3: they are not there; the whole message counts."""
    with Fragmenter(world, agreed=False) as peer:
        peer.send(peer.cut(3))
        assert not heard(peer) and not ike_sas(world.left)
        peer.send([peer.whole()])
        assert len(heard(peer, 1)) == 1
        peer.lives(world)


def of_two_messages(peer: Fragmenter) -> list[bytes]:
    """The middle of it is another message's."""
    first, _, last = peer.cut(3)
    return [first, peer.one.fragment(0, 2, 3, b"\xff" * 40), last]


NONSENSE = [("pieces of two messages", of_two_messages),
            ("nothing but empty fragments", lambda p: [p.one.fragment(33 if number == 1 else 0, number, 3, b"") for number in (1, 2, 3)]),
            ("fragments of a fragment", lambda p: p.one.seal_fragments([(53, b"\0\1\0\1" + b"x" * 40)], 2))]


@pytest.mark.parametrize("what,datagrams", NONSENSE, ids=[row[0] for row in NONSENSE])
def test_what_is_nonsense_once_it_is_together(world, what, datagrams):
    """RFC 7296 2.21.3: one answer, INVALID_SYNTAX, and the IKE SA is gone: what comes then is for nobody (2.21.4)."""
    with Fragmenter(world) as peer:
        peer.send(datagrams(peer))
        (answer,) = heard(peer, 1)
        assert list(notifies(peer.open(answer))) == [INVALID_SYNTAX]
        peer.send([peer.sealer(INFORMATIONAL).seal([])])
        assert all(INVALID_IKE_SPI in notifies(unchain(one[16], one[28:])) for one in heard(peer))
    assert not ike_sas(world.left) and not children(world.left)


def flood(one) -> list[bytes]:
    """Authentic fragments of ever larger totals, never the last of any; at the end more than is kept of one message. Again and again."""
    part = bytes(1200)
    once = [one.fragment(33 if number == 1 else 0, number, total, part) for total in (2, 5, 12) for number in range(1, total)]
    return (once + [one.fragment(0, number, MOST, part) for number in range(2, 32)]) * 50


def test_a_flood_before_auth(world):
    """Three megabytes of somebody who has proved nothing: no answer, and no more memory than the 32 KB that are kept of one message. The true
    message is answered behind it, once."""
    with Fragmenter(world) as peer:
        before = memory(world)
        peer.send(flood(peer.one))
        assert not heard(peer) and not ike_sas(world.left)
        assert memory(world) - before < 512, (before, memory(world))
        peer.send([peer.whole()])
        assert len(heard(peer, 1)) == 1
        peer.lives(world)


# -- the node asks

class Answering(ScriptedResponder):
    """Which has been asked for IKE_AUTH, and how to seal its answer."""

    def __init__(self, world):
        world.left.postern("clear", "crypto", "session")
        super().__init__(world.n2, OUT4[2], PSK)
        world.ping("map4", 1, wait=0.2)
        self.answer_init([notify(FRAGMENTATION_SUPPORTED)])
        said = self.open(self.receive(AUTH))
        self.one, self.said = self.sealer(AUTH, 1), self.proof(said)

    def whole(self) -> bytes:
        return self.one.seal(self.said)

    def cut(self, total: int) -> list[bytes]:
        return self.one.seal_fragments(self.said, total)


@pytest.mark.parametrize("what,datagrams", [pytest.param(row[0], row[1], id=row[0], marks=[] if "then the whole" in row[0] or "larger" in row[0] else
                                                         pytest.mark.slow) for row in ALL_ANSWERED])
def test_an_answer_is_taken_once(world, what, datagrams):
    """The same as answers of the peer's: the IKE SA comes up, and nothing is said to what comes behind."""
    with Answering(world) as peer:
        for data in datagrams(peer):
            peer.send(data)
        wait_until(lambda: len(ike_sas(world.left)) == len(children(world.left)) == 1, 5, "the IKE SA is up")
        assert not [one for one in heard(peer) if one[18] != AUTH]
        assert ike_sas(world.left)[0]["role"] == "initiator" and peer.ask(INFORMATIONAL, []) == []


def test_an_answer_that_is_nonsense_once_it_is_together(world):
    """An answer is never answered: the IKE SA is gone, and nothing is said."""
    since = len(world.left.process.log())
    with Answering(world) as peer:
        for data in of_two_messages(peer):
            peer.send(data)
        wait_until(lambda: "cannot be understood" in world.left.process.log()[since:], 8, "it is taken note of")
        assert not [one for one in heard(peer) if one[18] != AUTH] and not ike_sas(world.left) and not children(world.left)


def test_a_flood_instead_of_an_answer(world):
    with Answering(world) as peer:
        before = memory(world)
        for data in flood(peer.one):
            peer.send(data)
        assert not [one for one in heard(peer) if one[18] != AUTH] and not ike_sas(world.left)
        assert memory(world) - before < 512, (before, memory(world))
        peer.send(peer.whole())
        wait_until(lambda: len(ike_sas(world.left)) == 1, 5, "the IKE SA is up")
