"""Patience is free while other tests run: the lab of test_ike_silence.py stands from the start of the session on."""
import pytest

from ike_pairs import SwanLab


class SilentLab(SwanLab):
    """Two peers that are wanted always. IPv4: port 500 is answered and 4500 is not, as a middlebox may do it. IPv6: nothing is."""

    def __init__(self, scratch):
        super().__init__(scratch, start=False, initiate="always")
        try:
            self.peer.start()
            self.peer.load(self.connection(2))
            self.peer.load(self.connection(2, "net6", "map6", 6))
            self.silence = self.enter_context(self.lost(self.n2, "meta nfproto ipv4 udp dport 4500", "meta nfproto ipv6 udp dport 500"))
            self.left.start()
        except BaseException:
            self.close()
            raise


@pytest.fixture(scope="session")
def silent_lab(tmp_path_factory):
    with SilentLab(tmp_path_factory.mktemp("silence")) as made:
        yield made


@pytest.fixture(scope="session", autouse=True)
def early(request):
    if any(item.path.name == "test_ike_silence.py" for item in request.session.items):
        request.getfixturevalue("silent_lab")
