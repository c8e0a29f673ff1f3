"""A peer that says nothing, and one that falls silent after the float to port 4500, are two rows of the diagnosis."""
import pytest

import lab
from ike_documents import children, diagnosis
from netns import wait_until

pytestmark = pytest.mark.long

PATIENCE = 90  # an attempt is given up after about a minute, most of which has passed by now


def rows(made) -> set[tuple[str, str]]:
    return {(one["peer"], one["failure"]) for one in diagnosis(made.left)}


def test_silent_peers_are_told_apart(silent_lab):
    made = silent_lab
    try:
        wait_until(lambda: {(lab.OUT4[2], "no_answer_after_float"), (lab.OUT6[2], "no_answer")} <= rows(made), PATIENCE, "both are diagnosed", 0.5)
    except AssertionError as error:
        raise AssertionError(f"{error}; there is {rows(made)}") from None
    assert made.silence() >= 4, "messages were dropped"
    assert rows(made) == {(lab.OUT4[2], "no_answer_after_float"), (lab.OUT6[2], "no_answer")}, "neither is taken for the other"
    for one in diagnosis(made.left):
        assert one["remedy"] and ("4500" in one["remedy"]) == (one["failure"] == "no_answer_after_float"), one
    assert not children(made.left)
    # What dropped the messages goes away; the operator does not want to wait for the back-off.
    made.n2.run("nft", "flush", "table", "inet", "lost")
    made.left.postern("clear", "crypto", "session")
    wait_until(lambda: len(children(made.left)) == 2, PATIENCE, "both come up", 0.2)
    made.ping_both("map4")
    made.ping_both("map6")
