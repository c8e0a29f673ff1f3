"""CM-19 with negotiated keys: fifty applies around the entry of a stream that strongSwan receives."""
import copy

import pytest

from balance import assert_balanced
from ike_documents import children
from ike_pairs import SwanLab
from lab import OUT4

RATE = 20000


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch, flows=("map4",)) as made:
        made.deep_buffers()
        made.n1.ip("route", "add", "10.66.0.0/16", "via", OUT4[2])
        made.hA.ip("route", "add", "10.66.0.0/16", "via", "10.1.0.1")
        made.configure()
        yield made


def edited(document: dict, number: int) -> dict:
    """Entries with other peers, and a rule in front of the stream's own: it counts from the next packet on, for its own packets."""
    made = copy.deepcopy(document)
    made["acls"].append({"name": "OTHER", "rules": [{"action": "permit", "protocol": "udp", "source": f"10.{70 + number % 9}.0.0/16",
                                                     "destination": "10.99.0.0/16", "destination_ports": f"eq {number + 1}"}]})
    if number % 2:
        first = made["crypto_maps"][0]["entries"][0]
        made["crypto_maps"][0]["entries"].append({**first, "sequence": 5 if number % 4 == 1 else 20, "match_address": "OTHER", "peer": "192.0.2.77"})
    if number % 3 == 0:
        made["acls"][0]["rules"].insert(0, {"action": "deny" if number % 2 else "permit", "protocol": "tcp", "source": "10.1.0.0/16",
                                            "destination": "10.2.200.0/24"})
    return made


@pytest.mark.alone
def test_fifty_applies_leave_a_negotiated_stream_alone(world):
    world.up("postern")
    before = {child["esp_spi_in"] for child in children(world.left)}
    theirs = [child["uniqueid"] for child in world.peer.children()]
    with world.capture("net 10.0.0.0/8") as capture:
        stream = world.stream(rate=RATE)
        stream.more(RATE // 2)
        for number in range(50):
            world.left.apply(edited(world.document(), number))
        stream.more(RATE // 2)
        got = stream.finish()
        world.left.apply(world.document())
        world.hA.run("ping", "-c", 1, "-W", 1, "10.66.0.1", check=False)
        seen = [one for one in capture.frames() if one.haslayer("UDP") or one.haslayer("ICMP")]
    assert got["lost"] == got["wrong"] == got["duplicate"] == 0, (got, world.losses())
    assert {one["IP"].dst for one in seen} == {"10.66.0.1"}, "the capture sees what is in clear, and that alone is"
    assert {child["esp_spi_in"] for child in children(world.left)} == before
    assert [child["uniqueid"] for child in world.peer.children()] == theirs, "strongSwan heard of none of it"
    assert_balanced(world.left)
