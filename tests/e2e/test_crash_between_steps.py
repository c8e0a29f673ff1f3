"""A posternd that was killed between two steps: what it left in the kernel and in the worker is not what it had noted in state.json."""
import json

import pytest

import documents
import lab
import traffic
from balance import assert_balanced
from node import RUN
from test_lifecycle import FLOWS, Offered, spis


@pytest.fixture
def pair(scratch):
    with lab.Pairing(scratch) as made:
        for flow in FLOWS:
            traffic.ping_until(made.hA, lab.host(2, flow), source=lab.host(1, flow))
        yield made


def note(node):
    return RUN / node.name / "state.json"


def wider(document: dict) -> dict:
    made = documents.variant(document)
    made["acls"][0]["rules"][0].update(source="10.1.0.0/17", destination="10.2.0.0/17")
    return made


@pytest.mark.safety
@pytest.mark.parametrize("applied", ("another", "and back"))
def test_nothing_passes_in_clear_by_a_policy_that_nobody_noted(pair, applied, scratch):
    """Killed in `config apply`, behind the switch and before the note: the generation that the note names has no rows any more. With the document of
    before in force again there is nothing to do but to find that out."""
    before = note(pair.left).read_bytes()
    pair.left.apply(wider(pair.left.document))
    if applied == "and back":
        pair.left.apply(pair.left.document)
    with Offered(pair, scratch) as offered:
        offered.offered()
        pair.left.kill_daemon()
        note(pair.left).write_bytes(before)
        pair.left.start()
        offered.offered()
        for flow in FLOWS:
            traffic.ping_until(pair.hA, lab.host(2, flow), source=lab.host(1, flow))
        offered.judge()
    assert_balanced(pair.left)


@pytest.mark.parametrize("forgotten", ("all SAs", "a part of each pair"))
def test_a_start_takes_over_sas_that_nobody_noted(pair, forgotten):
    """Killed between an SA's installation in the worker and the note of it: its SPI is in use, and the next start needs it."""
    worker, before = pair.left.worker_pid(), spis(pair.left)
    pair.left.kill_daemon()
    state = json.loads(note(pair.left).read_text())
    if forgotten == "all SAs":
        state["sas"] = {}
    else:  # of each, another slot was free when its new SA came
        slots = [one["inbound_slot"] for one in state["sas"].values()]
        for one, slot in zip(state["sas"].values(), slots[1:] + slots[:1]):
            one["outbound_slot"] = slot
    note(pair.left).write_text(json.dumps(state))
    pair.left.start()
    for flow in FLOWS:
        traffic.ping_until(pair.hA, lab.host(2, flow), source=lab.host(1, flow))
        traffic.ping_until(pair.hB, lab.host(1, flow), source=lab.host(2, flow))
    assert pair.left.worker_pid() == worker and spis(pair.left) == before
    assert_balanced(pair.left)
