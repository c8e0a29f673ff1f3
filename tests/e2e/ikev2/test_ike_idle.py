"""A child SA that carried nothing for its idle time is deleted; its IKE SA stays, and the next packet brings the child back."""
import time

import pytest

from ike_documents import children, ike_sas
from netns import wait_until

pytestmark = pytest.mark.long

IDLE = 60


@pytest.mark.slow  # a minute without traffic
def test_an_idle_child_is_deleted(idle_lab):
    made = idle_lab
    if time.monotonic() - made.since < IDLE - 5:
        assert len(children(made.left)) == 1, "not before its time"
    wait_until(lambda: not children(made.left) and not made.peer.children(), IDLE + 15, "both ends have deleted it", 0.5)
    assert len(ike_sas(made.left)) == 1 == len(made.peer.established())
    made.ping_both()
    assert len(children(made.left)) == 1
