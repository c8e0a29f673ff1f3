"""Packets balance after every end-to-end test, whatever it is about: conftest.py wraps each test function in `judged()`.

Judged is every node that runs: when its lab ends, and those of labs that outlive the test when the test function returns. A test in which counters die
with a killed process, or devices with their counters, says so: @pytest.mark.unbalanced("why"). What it leaves uneven is not the next test's fault."""
import functools
import weakref

from balance import assert_balanced, excess, settled_excess
from netns import CommandFailed
from node import Node

_since: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # of a node: what was uneven before this test; None: to be asked for
_excused: list[str] = []


def _uneven(node: Node) -> dict[str, int] | None:
    """None: a node that was stopped, killed or torn down by its test tells nothing until it is started again."""
    if node.process is None or not node.process.running():
        return None
    try:
        return excess(node)
    except CommandFailed:
        return None


def judge(node: Node) -> None:
    """An AssertionError when packets of this node went nowhere since the test began. Whoever comes next begins with what is."""
    before, _since[node] = _since.get(node) or None, None
    uneven = None if _excused else _uneven(node)
    if uneven is None:
        return
    if any(uneven.values()) and uneven != before:
        assert_balanced(node, since=before)
    _since[node] = before or {}


def _begin(excuse: str | None) -> None:
    _excused[:] = [excuse] if excuse else []
    for node in Node.LIVING:
        if node in _since and _since[node] is None and _uneven(node) is not None:
            _since[node] = settled_excess(node)


def judged(function, excuse: str | None):
    """The test function with its judgement."""
    @functools.wraps(function)
    def call(**arguments):
        _begin(excuse)
        try:
            function(**arguments)
            for node in Node.LIVING:
                judge(node)
        except BaseException:
            _excused[:] = ["it failed already, and may have ended anywhere"]
            _since.update(dict.fromkeys(Node.LIVING))
            raise

    return call


def install(items) -> None:
    """For the test functions of `items`."""
    Node.judge = staticmethod(judge)
    for item in items:
        marker = item.get_closest_marker("unbalanced")
        assert marker is None or len(marker.args) == 1 and marker.args[0], f"{item.nodeid}: why are its packets uneven?"
        item.obj = judged(item.obj, marker and marker.args[0])
