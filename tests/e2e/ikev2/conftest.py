"""Patience is free while other tests run: the labs of test_ike_silence.py and test_ike_idle.py stand from the start of the session on. (Of several
processes any may get those files; they begin with them.)"""
import os
import time

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


class IdleLab(SwanLab):
    """One child that nobody uses any more, with the shortest idle time there is."""

    def __init__(self, scratch):
        super().__init__(scratch, flows=("map4",), association={"idle_time": 60})
        try:
            self.peer.load(self.connection(2))
            self.up("postern")
            self.ping_both()
            self.since = time.monotonic()
        except BaseException:
            self.close()
            raise


@pytest.fixture(scope="session")
def idle_lab(tmp_path_factory):
    with IdleLab(tmp_path_factory.mktemp("idle")) as made:
        yield made


@pytest.fixture(scope="session", autouse=True)
def early(request):
    files = {item.path.name for item in request.session.items}
    for file, lab in (("test_ike_silence.py", "silent_lab"), ("test_ike_idle.py", "idle_lab")):
        if file in files and "PYTEST_XDIST_WORKER" not in os.environ:
            request.getfixturevalue(lab)


@pytest.fixture
def no_stream_is_left(world):
    """Of a test that failed beside its stream; for files whose `world` has some."""
    yield
    world.end_streams()
