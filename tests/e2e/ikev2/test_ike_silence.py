"""A peer that says nothing, and one that falls silent after the float to port 4500, are two rows of the diagnosis."""
import pytest

import lab
from ike_documents import children, diagnosis
from ike_pairs import SwanLab
from netns import wait_until

PATIENCE = 90  # seven retransmissions by doubling are about a minute


def rows(made) -> set[tuple[str, str]]:
    return {(one["peer"], one["failure"]) for one in diagnosis(made.left)}


def test_silent_peers_are_told_apart(scratch):
    """IPv4: what a middlebox does that lets 500 pass and drops 4500. IPv6: nothing is answered at all. One wait for both."""
    with SwanLab(scratch, start=False, initiate="always") as made:
        made.peer.start()
        made.peer.load(made.connection(2))
        made.peer.load(made.connection(2, "net6", "map6", 6))
        with made.lost(made.n2, "meta nfproto ipv4 udp dport 4500", "meta nfproto ipv6 udp dport 500") as dropped:
            made.left.start()
            wait_until(lambda: {(lab.OUT4[2], "no_answer_after_float"), (lab.OUT6[2], "no_answer")} <= rows(made), PATIENCE,
                       f"both are diagnosed, there is {rows(made)}", 0.5)
            assert dropped() >= 4
        assert (lab.OUT4[2], "no_answer") not in rows(made) and (lab.OUT6[2], "no_answer_after_float") not in rows(made)
        for one in diagnosis(made.left):
            assert one["remedy"] and ("4500" in str(one)) == (one["failure"] == "no_answer_after_float"), one
        # `always` tries again by its back-off; what dropped the messages is gone.
        wait_until(lambda: len(children(made.left)) == 2, PATIENCE, "both come up", 0.5)
        made.ping_both("map4")
        made.ping_both("map6")
