"""An attempt that must not come up, and what the diagnosis says of it."""
import ike_wire
import lab
import safety
from ike_documents import children, diagnosis
from netns import wait_until


def attempts(world) -> dict[tuple, int]:
    """How often each kind of attempt with the lab's peer has failed."""
    return {tuple(str(one[key]) for key in ("failure", "role", "said_by", "summary", "child", "offered", "accepted", "differs")): one["count"]
            for one in diagnosis(world.left, lab.OUT4[2])}


def one_refused(world, by: str, failure: str) -> tuple[dict, ike_wire.Wire]:
    """One attempt by that side: no child, no ESP, no clear packet; the diagnosis has a new row or a higher count for it."""
    before = attempts(world)
    with world.capture() as capture:
        if by == "postern":
            assert world.ping(count=1, wait=1) == 0
        else:
            assert world.peer.initiate("net", check=False) is False

        def told() -> bool:
            return any(count > before.get(key, 0) and key[0] == failure for key, count in attempts(world).items())

        try:
            wait_until(told, 8, f"diagnosis {failure}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {diagnosis(world.left)}\n{world.peer.log()[-2000:]}") from None
        wire = ike_wire.read(capture.frames())
    wire.assert_nothing_clear()
    safety.never(wire.esp, "ESP of an SA that must not be")
    assert not children(world.left) and not world.peer.children()
    row = next(one for one in diagnosis(world.left, lab.OUT4[2]) if one["failure"] == failure)
    assert row["role"] == ("initiator" if by == "postern" else "responder")
    return row, wire
