"""SH-29 with strongSwan: the shows of negotiated entries, before, while and after there are SAs, say what docs/schemas/show.json says."""
import pytest

import lab
import traffic
from ike_documents import children
from ike_pairs import SwanLab
from show_schema import COMMANDS, violations


@pytest.fixture(scope="module")
def shown(module_scratch):
    said: dict[str, list] = {command: [] for command in COMMANDS}
    with SwanLab(module_scratch, flows=("map4", "map6", "tunnel4")) as world:
        def take() -> None:
            for command in COMMANDS:
                words = command.split()[1:] + (["0"] if command == "show interface tunnel" else [])
                said[command] += [world.left.show(*words)] + ([world.left.show(*words, "detail")] if command == "show crypto session" else [])

        take()
        world.configure(esp="aes256gcm16", profile={"dpd": {"mode": "periodic", "interval": 10, "retry": 2}},
                        association={"lifetime_kilobytes": "disable", "lifetime_packets": 90000, "idle_time": 600})
        traffic.ping_until(world.hA, lab.host(2, "map4"))
        said["up"] = children(world.left)
        take()
        world.down()
        take()
    return said


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_shown(shown, command):
    assert shown["up"], "there were SAs"
    for one in shown[command]:
        assert not violations(command, one)
