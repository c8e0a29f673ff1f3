"""TS-37, CM-19..22, CM-28: edits count from the next negotiation on, and clear is what brings it about; what a clear does not name goes on."""
import json

import pytest

import documents
from ike_documents import children
from ike_lab import inside
from ike_pairs import SwanLab
from lab import OUT4
from netns import wait_until


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch, flows=("map4",), esp="aes128-sha256", beside="aes256-sha256") as made:
        made.n1.ip("route", "replace", "10.4.0.0/16", "via", OUT4[2])
        made.deep_buffers()
        yield made


def up(world) -> dict[str, str]:
    own = {name: {"local_ts": [inside(2, flow)], "remote_ts": [inside(1, flow)], "esp_proposals": ["aes128-sha256", "aes256-sha256", "aes256gcm16"]}
           for name, flow in (("c", "map4"), ("d", "tunnel4"))}
    world.configure(swan={"children": own})
    for flow in ("map4", "tunnel4"):
        assert world.ping(flow, 1, wait=5) == 1
    wait_until(lambda: len(children(world.left)) == 2 == len(world.peer.children()), 8, "two children")
    return spis(world)


def spis(world) -> dict[str, str]:
    return {child["name"].split(" out0")[0]: child["esp_spi_in"] for child in children(world.left)}


def cipher(world, entry: str = "M4 10") -> tuple:
    return next((child["encr"], child["keysize"]) for child in children(world.left) if child["name"].startswith(entry + " "))


@pytest.mark.alone
def test_an_edited_transform_set_counts_from_the_next_negotiation_on(world):
    before, old = up(world), cipher(world)
    document = world.document(esp="aes256gcm16")
    stream = world.stream(rate=4000)
    stream.more(2000)
    path = documents.write(document, world.scratch / "edit.json")
    said = json.loads(world.left.postern("config", "diff", path, json_output=True).stdout)["changes"]
    assert {(row["name"], row["applies"]) for row in said} == {("T0", "at the next negotiation")}, said
    world.left.apply(document)
    stream.more(4000)
    assert spis(world) == before and cipher(world) == old, "the old SAs carry on"
    got = stream.finish()
    assert got["lost"] == got["wrong"] == 0, (got, world.losses())
    world.left.postern("clear", "crypto", "sa", "map", "M4")
    world.ping_both()
    wait_until(lambda: "M4 10" in spis(world), 8, "negotiated anew")
    assert cipher(world) != old and cipher(world)[1] == 256, "with the new set"


def test_a_lifetime_counts_from_the_next_negotiation_on(world):
    """CM-28, TS-62: the entry without one shows the global one; SAs that are up keep theirs."""
    before = up(world)
    document = world.document(association={"lifetime_seconds": 1200})
    world.left.apply(document)
    entry = world.left.show("crypto", "map", "tag", "M4")["maps"][0]["entries"][0]
    assert entry["lifetime"]["seconds"] == 1200 and spis(world) == before
    world.left.apply(world.document())
    entry = world.left.show("crypto", "map", "tag", "M4")["maps"][0]["entries"][0]
    assert entry["lifetime"] == {"seconds": 3600, "kilobytes": 4608000} and spis(world) == before


def test_a_description_comes_changes_and_goes_beside_the_sas(world):
    """IKE-58: printed by `show crypto session detail`, and by --json; no SA notices."""
    before = up(world)
    peer = OUT4[2]
    for text, printed in ((None, "(none)"), ("Branch office", "Branch office"), ("Zürich", "Zürich"), (None, "(none)")):
        document = world.document()
        if text is not None:
            document["ikev2"]["peer_descriptions"] = [{"peer": "192.0.2.250", "description": "another"}, {"peer": peer, "description": text}]
        world.left.apply(document)
        said = world.left.postern("show", "crypto", "session", "peer", peer, "detail").stdout
        assert {line.strip() for line in said.splitlines() if "Desc:" in line} == {f"Desc: {printed}"}
        rows = world.left.show("crypto", "session", "peer", peer)["sessions"]
        assert rows and {row["peer"]["description"] for row in rows} == {text}
        assert spis(world) == before


@pytest.mark.parametrize("words, gone", [((), {"M4 10", "M4 20"}), (("peer", OUT4[2]), {"M4 10", "M4 20"}), (("map", "M4"), {"M4 10", "M4 20"}),
                                         (("interface", "out0"), {"M4 10", "M4 20"}), (("peer", "192.0.2.77"), set()), (("map", "NONE"), set()),
                                         (("interface", "in0"), set())], ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")
def test_clear_takes_what_it_names(world, words, gone):
    """CM-20, CM-21, CM-22: the peer is told, the IKE SA stays, traffic brings them back; what is not named keeps its SPI."""
    before, ike = up(world), world.peer.established()[0]["uniqueid"]
    theirs = {child["uniqueid"] for child in world.peer.children()}
    world.left.postern("clear", "crypto", "sa", *words)
    if not gone:
        assert spis(world) == before and {child["uniqueid"] for child in world.peer.children()} == theirs
        return
    wait_until(lambda: theirs.isdisjoint(child["uniqueid"] for child in world.peer.children()), 8, "strongSwan was told")
    for flow in ("map4", "tunnel4"):
        world.ping_both(flow)
    assert set(spis(world)) == gone and set(spis(world).values()).isdisjoint(before.values())
    assert [one["uniqueid"] for one in world.peer.established()] == [ike]


@pytest.mark.parametrize("end", ("in", "out"))
def test_clear_of_one_entry(world, end):
    """CM-23: the SA with this destination, protocol and SPI, and its pair; every other one stays, also where one of the three differs."""
    before = up(world)
    first = next(child for child in children(world.left) if child["name"].startswith("M4 10 "))
    destination, spi = (OUT4[1], first["esp_spi_in"]) if end == "in" else (OUT4[2], first["esp_spi_out"])
    for words in ((destination, "ah", spi), (OUT4[2] if end == "in" else OUT4[1], "esp", spi), (destination, "esp", "0x77")):
        refused = world.left.postern("clear", "crypto", "sa", "entry", *words, check=False)
        assert refused.returncode == 1 and "no such SA" in refused.stderr, words
    assert spis(world) == before
    world.left.postern("clear", "crypto", "sa", "entry", destination, "esp", spi)
    wait_until(lambda: "M4 10" not in spis(world) or spis(world)["M4 10"] != before["M4 10"], 8, "it is gone")
    world.ping_both("map4")
    assert spis(world)["M4 10"] != before["M4 10"] and spis(world)["M4 20"] == before["M4 20"]
