"""Dynamic crypto maps (DM-01 to DM-14, 18, 19): strongSwan gateways that N1 does not know beforehand."""
import json

import pytest

import documents
import ike_wire
import safety
from balance import DropWatch, assert_balanced, drops
from ike_documents import children, diagnosis, ike_sas, wait_up
from many_lab import ManyLab, dynamic_document, flow_text, host, network, outer, permit, temporary
from netns import wait_until
from node import RUN

INSIDE = (network(1), "10.0.0.0/8")  # what N1 lets dynamic peers have, seen from N1


@pytest.fixture(scope="module")
def world(module_scratch):
    with ManyLab(module_scratch, 4) as made:
        made.left.start()
        yield made


def come(world, number: int, check: bool = True, **options) -> bool:
    world.load(number, **options)
    return world.peers[number].initiate("net", check=check)


def gone(world, *numbers: int) -> None:
    wait_until(lambda: not set(temporary(world.left)) & {outer(number) for number in numbers}, 8, f"entries of {numbers} are gone")


@pytest.mark.alone
def test_peers_come_and_go_without_touching_each_other(world):
    """DM-04, DM-12, DM-13: three unknown addresses; a stream of the first loses nothing while the others come and go."""
    world.configure(dynamic_document())
    with world.capture() as capture:
        come(world, 2)
        assert world.ping_from(2) == 2 and world.ping_to(2) == 2
        assert set(temporary(world.left)) == {outer(2)}
        stream = world.stream("map4", rate=2000)
        stream.more(500)
        for number in (3, 4):
            come(world, number)
            assert world.ping_from(number) == 2, "from the peer"
            assert world.ping_to(number) == 2, "return traffic goes by the temporary entry"
        entries = temporary(world.left)
        assert set(entries) == {outer(2), outer(3), outer(4)}
        assert all(flow_text(entries[outer(k)]) == {(network(1), network(k))} for k in (2, 3, 4))
        assert len({entry["seq"] for entry in entries.values()}) == 3 and all(entry["seq"] >= 65536 for entry in entries.values())
        for number in (3, 4):
            world.peers[number].terminate(ike="net")
        gone(world, 3, 4)
        stream.more(500)
        got = stream.finish()
        wire = ike_wire.read(capture.frames())
    assert got["lost"] == got["wrong"] == got["duplicate"] == 0, got
    wire.assert_protected(1000)
    assert set(temporary(world.left)) == {outer(2)}
    world.peers[2].terminate(ike="net")
    gone(world, 2)
    assert not children(world.left)
    assert_balanced(world.left)


def test_the_entry_survives_rekeys_of_both_ends(world):
    world.configure(dynamic_document([{"sequence": 10, "security_association": {"lifetime_seconds": 120}}]))
    come(world, 3)
    assert world.ping_to(3) == 2
    first, entry = wait_up(world.left)[0], temporary(world.left)[outer(3)]
    world.peers[3].rekey(child="c")
    wait_until(lambda: {c["esp_spi_in"] for c in children(world.left)}.isdisjoint({first["esp_spi_in"]}), 8, "rekeyed by the peer")
    assert world.ping_to(3) == 2 and world.ping_from(3) == 2
    assert temporary(world.left)[outer(3)]["acl"] == entry["acl"]
    assert {c["flow"] for c in children(world.left)} == {first["flow"]}
    # DM-10: the template's lifetime, not the document's 3600.
    assert entry["lifetime"]["seconds"] == 120 and children(world.left)[0]["life_s"] == 120


def test_the_first_template_that_fits_is_taken(world):
    """DM-01, DM-18: entries out of order in the document; the peer fits the second by sequence alone."""
    acls = [permit("OTHER", (network(1), "10.99.0.0/16")), permit("MINE", INSIDE), permit("LATE", INSIDE)]
    entries = [{"sequence": 30, "match_address": "LATE"}, {"sequence": 20, "match_address": "MINE"}, {"sequence": 10, "match_address": "OTHER"}]
    world.configure(dynamic_document(entries, acls))
    come(world, 3)
    assert temporary(world.left)[outer(3)]["created_from"] == {"dynamic_map": "D1", "seq": 20}
    text = world.left.postern("show", "crypto", "map").stdout
    assert "Dynamic map template tag: D1" in text and "dynamic (created from dynamic map D1/20)" in text, text
    shown = world.left.show("crypto", "dynamic-map", "tag", "D1")["dynamic_maps"][0]
    assert [(one["seq"], one["acl"]["name"], one["temporary_entries"]) for one in shown["entries"]] == [
        (10, "OTHER", 0), (20, "MINE", 1), (30, "LATE", 0)]
    assert shown["used_by"] == ["M4 1000"]
    assert 'Crypto Map Template"D1" 20' in world.left.postern("show", "crypto", "dynamic-map").stdout
    assert world.left.postern("show", "crypto", "dynamic-map", "tag", "NONE", check=False).returncode != 0


@pytest.mark.parametrize("asked, taken", [("10.13.0.0/17", True), ("10.13.0.0/16", True), ("10.12.0.0/15", False), ("10.13.0.2/32", True)])
def test_a_proposal_lies_inside_a_permit(world, asked, taken):
    """DM-06: a part is taken as it is, more than the permit is refused, not narrowed."""
    world.configure(dynamic_document([{"sequence": 10, "match_address": "A"}], [permit("A", (network(1), network(3)))]))
    assert come(world, 3, check=False, local_ts=[asked]) is taken
    if taken:
        assert flow_text(temporary(world.left)[outer(3)]) == {(network(1), asked)}
    else:
        assert not temporary(world.left) and not children(world.left)
        assert diagnosis(world.left, outer(3))[0]["failure"] == "selectors"


def test_what_the_list_denies_is_not_to_be_had(world):
    world.configure(dynamic_document([{"sequence": 10, "match_address": "A"}],
                                     [permit("A", INSIDE, deny=((network(1), "10.13.7.0/24"),))]))
    assert not come(world, 3, check=False), "the whole network holds what is denied"
    assert not come(world, 3, check=False, local_ts=["10.13.7.8/32"])
    assert come(world, 3, local_ts=["10.13.0.0/22"])
    assert flow_text(temporary(world.left)[outer(3)]) == {(network(1), "10.13.0.0/22")}


def test_the_list_filters_packets_too(world):
    """DM-07: clear packets that the template's list permits are dropped, in both directions; others pass."""
    world.configure(dynamic_document([{"sequence": 10, "match_address": "A"}], [permit("A", (network(1), network(3)))]))
    world.gateways[3].ip("route", "replace", network(1), "via", outer(1))
    world.gateways[4].ip("route", "replace", network(1), "via", outer(1))
    try:
        with DropWatch(world.left, "clear_text", 2):
            assert world.ping_from(3, wait=1) == 0
        with DropWatch(world.left, "no_outbound_sa", 1), world.capture(f"dst host {host(3)}", "w3") as capture:
            assert world.ping_to(3, 1, wait=1) == 0
            safety.never(capture.frames(), "clear packets of the protected flow")
        assert world.ping_from(4) == 2, "no rule is about that one"
    finally:
        for number in (3, 4):
            world.gateways[number].ip("route", "replace", network(1), "dev", "ipsec0")


def test_a_list_of_everything_leaves_the_nodes_own_traffic_alone(world):
    """DM-08: warned of and taken; IKE and ESP of the node pass a filter that drops everything else in clear."""
    made = dynamic_document([{"sequence": 10, "match_address": "A"}], [permit("A", ("any", "any"))])
    checked = world.left.postern("config", "check", documents.write(made, world.scratch / "any.json"))
    assert "any to any" in checked.stdout + checked.stderr
    world.configure(made)
    assert come(world, 3) and world.ping_from(3) == 2 and world.ping_to(3) == 2
    world.gateways[4].ip("route", "replace", network(1), "via", outer(1))
    try:
        with DropWatch(world.left, "clear_text", 2):
            assert world.ping_from(4, wait=1) == 0
    finally:
        world.gateways[4].ip("route", "replace", network(1), "dev", "ipsec0")


@pytest.mark.parametrize("acls", [[], [{"name": "A", "family": "ipv4", "rules": []}]], ids=["missing", "empty"])
def test_a_list_that_is_missing_or_empty_drops_everything(world, acls):
    """DM-05, against DM-04: no list at all filters nothing."""
    world.configure(dynamic_document([{"sequence": 10, "match_address": "A"}], acls))
    world.gateways[4].ip("route", "replace", network(1), "via", outer(1))
    try:
        with DropWatch(world.left, "clear_text", 2):
            assert world.ping_from(4, wait=1) == 0
        assert not come(world, 3, check=False), "and no proposal is taken"
        world.configure(dynamic_document([{"sequence": 10, "match_address": "A"}], [permit("A", (network(1), network(3)))]))
        assert world.ping_from(4) == 2
        assert come(world, 3) and world.ping_from(3) == 2
        world.configure(dynamic_document())
        assert world.ping_from(4) == 2
    finally:
        world.gateways[4].ip("route", "replace", network(1), "dev", "ipsec0")


def test_only_listed_peers_may_use_an_entry(world):
    """DM-09."""
    world.configure(dynamic_document([{"sequence": 10, "peers": [outer(3)]}]))
    assert not come(world, 2, check=False)
    assert diagnosis(world.left, outer(2))[0]["failure"] == "no_connection"
    assert come(world, 3) and world.ping_to(3) == 2
    assert set(temporary(world.left)) == {outer(3)}


@pytest.mark.parametrize("word, theirs, group", [("group14", "modp2048", 14), (True, "modp768", 1)], ids=["group14", "bare"])
def test_pfs_is_demanded(world, word, theirs, group):
    """DM-11: of the children behind the first, whose keys are those of the IKE SA. The guide's bare form is group 1."""
    world.configure(dynamic_document([{"sequence": 10, "pfs": word}]))
    assert world.left.show("crypto", "dynamic-map")["dynamic_maps"][0]["entries"][0]["pfs"] == f"group{group}"
    two = {"c": {}, "d": {"local_ts": ["10.33.0.0/16"]}}
    world.gateways[3].ip("address", "replace", "10.33.0.2/32", "dev", "in0")
    come(world, 3, children=two)
    assert not world.peers[3].initiate("net", "d", check=False)
    two["d"]["esp_proposals"] = [f"aes128gcm16-{theirs}"]
    world.load(3, children=two)
    assert world.peers[3].initiate("net", "d")
    assert len(children(world.left)) == 2 and {c["pfs_group"] for c in children(world.left)} == {None, group}


def test_the_limit_refuses_and_disturbs_nobody(world):
    world.configure(dynamic_document(limit=1))
    come(world, 3)
    before = {c["esp_spi_in"] for c in children(world.left)}
    assert not come(world, 4, check=False)
    assert diagnosis(world.left, outer(4))[0]["summary"].endswith("which is its limit")
    assert {c["esp_spi_in"] for c in children(world.left)} == before and world.ping_to(3) == 2
    world.peers[3].terminate(ike="net")
    gone(world, 3)
    world.peers[4].terminate(ike="net", check=False)
    assert come(world, 4) and world.ping_to(4) == 2


def test_edits_wait_for_the_next_negotiation(world):
    """DM-19: what is there keeps its SAs and its parameters; a clear of it alone brings the new ones; a template that goes takes its own."""
    two = [permit("A", (network(1), network(3))), permit("B", (network(1), network(4)))]
    entries = [{"sequence": 10, "match_address": "A"}, {"sequence": 20, "match_address": "B"}]
    world.configure(dynamic_document(entries, two))
    for number in (3, 4):
        come(world, number)
    before = {c["flow"]: c["esp_spi_in"] for c in children(world.left)}
    entries[0]["security_association"] = {"lifetime_seconds": 600}
    world.left.apply(dynamic_document(entries, two))
    assert {c["flow"]: c["esp_spi_in"] for c in children(world.left)} == before
    assert {c["life_s"] for c in children(world.left)} == {3600}
    world.left.postern("clear", "crypto", "sa", "peer", outer(3))
    gone(world, 3)
    assert set(temporary(world.left)) == {outer(4)}
    world.peers[3].terminate(ike="net", check=False)
    assert world.peers[3].initiate("net")
    assert {c["life_s"] for c in children(world.left)} == {3600, 600}
    world.left.apply(dynamic_document(entries[1:], two))
    gone(world, 3)
    assert set(temporary(world.left)) == {outer(4)} and world.ping_to(4) == 2
    assert before[next(c["flow"] for c in children(world.left))] == children(world.left)[0]["esp_spi_in"]


def test_a_new_posternd_and_a_new_ike_daemon_find_the_entries(world):
    """The entries are those of the SAs in the data plane: who comes back finds them there."""
    from ike_pairs import ike_pid
    import os
    import signal
    world.configure(dynamic_document())
    come(world, 3)
    entry = temporary(world.left)[outer(3)]
    world.left.kill_daemon()
    world.left.start()
    assert temporary(world.left)[outer(3)]["acl"] == entry["acl"]
    assert world.ping_to(3) == 2 and world.ping_from(3) == 2
    pid = ike_pid(world.left)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: ike_pid(world.left) != pid, 8, "another postern-ike")
    assert world.ping_to(3) == 2, "the SAs of the former life go on"
    world.peers[3].terminate(check=False, ike="net", force="yes")
    assert world.peers[3].initiate("net")
    wait_until(lambda: len(temporary(world.left)) == 1, 8, "one entry again")
    assert world.ping_to(3) == 2 and world.ping_from(3) == 2


@pytest.mark.safety
def test_a_peer_that_came_and_went_leaves_no_hole_after_a_crash(world):
    """The policy in force is not the one that a killed posternd last planned for a document: the next one goes on with that which is there."""
    world.configure(dynamic_document([{"sequence": 10, "match_address": "A"}], [permit("A", (network(1), network(3)))]))
    come(world, 3)
    world.peers[3].terminate(ike="net")
    gone(world, 3)
    before = drops(world.left)["no_outbound_sa"]
    world.left.kill_daemon()
    with world.capture(f"dst host {host(3)}", "w3") as capture:
        pinging = world.hA.spawn("ping", "-n", "-i", "0.01", "-W", "1", "-I", host(1), host(3), name="ping-through")
        world.left.start()
        assert world.ping_to(3, 2, wait=1) == 0
        pinging.end()
        assert drops(world.left)["no_outbound_sa"] > before, "they were offered"
        safety.never(capture.frames(), "clear packets of the protected flow")
    assert come(world, 3) and world.ping_to(3) == 2 and world.ping_from(3) == 2


def test_a_note_of_slots_that_postern_ike_has_by_now_is_not_believed(world):
    """A posternd that was killed amid a change of manual SAs notes slots that are another's when the next one reads it."""
    world.configure(dynamic_document())
    come(world, 3)
    before = {c["esp_spi_in"] for c in children(world.left)}
    world.left.kill_daemon()
    note = RUN / world.left.name / "state.json"
    state = json.loads(note.read_text())
    state["sas"] = {f"gone {slot}": {"inbound_slot": slot, "outbound_slot": slot, "flows": []} for slot in range(64)}
    note.write_text(json.dumps(state))
    world.left.start()
    assert {c["esp_spi_in"] for c in children(world.left)} == before
    assert world.ping_to(3) == 2 and world.ping_from(3) == 2


def test_ipv6(world):
    """DM-14."""
    world.configure(dynamic_document(family=6))
    come(world, 3, family=6)
    assert world.ping_from(3, family=6) == 2 and world.ping_to(3, family=6) == 2
    assert flow_text(temporary(world.left)[outer(3, 6)]) == {(network(1, 6), network(3, 6))}
    assert "Crypto Map IPv6" in world.left.postern("show", "crypto", "map").stdout
    world.configure(dynamic_document())
    assert not ike_sas(world.left)
