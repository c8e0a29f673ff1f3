"""The request window (RFC 7296 2.3, IKE-45). strongSwan never keeps more than one request; a peer made of the RFC (ike_script.py) says that
it does."""
import pytest

from ike_documents import children, gateway_document, ike_sas, wait_up
from ike_lab import PSK, IkeLab
from ike_script import CREATE_CHILD, INFORMATIONAL, NONCE, SET_WINDOW_SIZE, ScriptedResponder, notify
from lab import OUT4
from netns import wait_until

SUITE = {"ike": "aes128-sha256-x25519", "esp": "aes128gcm16"}
RULES = [{"action": "permit", "protocol": "ip", "source": "10.1.0.0/16", "destination": f"10.2.{n}.0/24"} for n in range(6)]


@pytest.fixture
def scripted(tmp_path):
    with IkeLab(tmp_path) as made:
        made.left = made.node(1, gateway_document(1, flows=("map4",), acl4=RULES, initiate="always", **SUITE))
        made.left.start()
        yield made


def message_id(data: bytes) -> int:
    return int.from_bytes(data[20:24], "big")


class Peer(ScriptedResponder):
    def requests(self, count: int) -> dict[int, bytes]:
        """So many different ones, and no other within a moment; what is sent again is the same."""
        found = {}
        while len(found) < count:
            data = self.receive(CREATE_CHILD)
            assert found.setdefault(message_id(data), data) == data
        return found

    def nothing_new(self, known: dict[int, bytes]) -> bool:
        try:
            while True:
                data = self.receive(CREATE_CHILD, 0.7)
                if known.get(message_id(data)) != data:
                    return False
        except AssertionError:
            return True

    def accept(self, request: bytes) -> None:
        self.send(self.seal(CREATE_CHILD, message_id(request), [(NONCE, bytes(range(32))), *self.child(self.open(request))]))


def detail(node) -> dict:
    return ike_sas(node)[0]


@pytest.mark.parametrize("window", (None, 3, 64))
def test_as_many_at_once_as_the_peer_keeps(scripted, window):
    width = min(window or 1, 5)  # ours is five
    with Peer(scripted.n2, OUT4[2], PSK) as peer:
        peer.answer_init()
        said = peer.answer_auth([notify(SET_WINDOW_SIZE, window.to_bytes(4, "big"))] if window else [])
        assert said
        first = peer.requests(width)
        assert sorted(first) == list(range(2, 2 + width)) and peer.nothing_new(first)
        sa = detail(scripted.left)
        assert sa["window"] == {"local": 5, "remote": window or 1} and sa["queued"]["local"] == 5 and sa["msgid"]["local_next"] == 2 + width
        text = scripted.left.postern("show", "crypto", "ikev2", "session", "detail").stdout
        assert f"Remote window: {window or 1}" in " ".join(text.split()) and "Local req queued: 5" in " ".join(text.split())
        answered = set()
        if width > 1:  # the oldest is what the window hangs on
            answered.add(2 + width - 1)
            peer.accept(first.pop(2 + width - 1))
            assert width == 5 or peer.nothing_new(first)
        while first:
            number = max(first)
            peer.accept(first.pop(number))
            answered.add(number)
            while not first and len(answered) < 5:
                request = peer.receive(CREATE_CHILD)
                if message_id(request) not in answered:
                    first[message_id(request)] = request
        wait_up(scripted.left, 6)
        assert detail(scripted.left)["queued"] == {"local": 0, "remote": 0}


def test_requests_of_the_peer_within_our_window_and_outside(scripted):
    with Peer(scripted.n2, OUT4[2], PSK) as peer:
        peer.answer_init()
        peer.answer_auth()
        peer.requests(1)
        ask = {number: peer.seal(INFORMATIONAL, number, [], response=False) for number in range(7)}
        for number in (6, 5, 4, 2, 1, 1):  # 0 to 4 are within it
            peer.send(ask[number])
        wait_until(lambda: detail(scripted.left)["queued"]["remote"] == 3, 3, "three wait for their turn")
        peer.send(ask[0])
        assert [message_id(peer.receive(INFORMATIONAL, response=True)) for _ in range(3)] == [0, 1, 2]
        peer.send(ask[3])
        assert [message_id(peer.receive(INFORMATIONAL, response=True)) for _ in range(2)] == [3, 4]
        assert detail(scripted.left)["msgid"]["remote_next"] == 5, "what was outside is forgotten"
        peer.send(ask[2])
        assert message_id(peer.receive(INFORMATIONAL, response=True)) == 2, "asked for again, within the window"
        assert len(children(scripted.left)) == 1
