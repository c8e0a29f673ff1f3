"""The document changes while traffic runs: a transaction, taken back when it is not confirmed, and what it does not name is not touched."""
import concurrent.futures
import copy
import json
import signal

import pytest

import documents
import lab
import traffic
from balance import assert_balanced, drops
from capture import Capture
from ike_lab import NumberedStream
from netns import wait_until
from node import RUN

RATE = 20000
CLEAR = "net 10.0.0.0/8"  # on W's bridge; what is sealed has outer addresses of 192.0.2.0/24


@pytest.fixture(scope="module")
def pair(module_scratch):
    with lab.Pairing(module_scratch, ring_entries=8192, umem_frames=32768) as made:
        made.n1.ip("link", "set", f"pn-{made.left.name}", "txqueuelen", "20000")
        made.n2.ip("link", "set", f"pn-{made.right.name}", "txqueuelen", "20000")
        made.n1.ip("route", "add", "10.66.0.0/16", "via", lab.OUT4[2])
        made.hA.ip("route", "add", "10.66.0.0/16", "via", "10.1.0.1")
        traffic.ping_until(made.hA, lab.host(2, "map4"))
        yield made


def edited(document: dict, number: int) -> dict:
    """Another entry, and its access list, as the `number`th apply wants them. The entry of the stream stays as it is."""
    made = copy.deepcopy(document)
    other = documents.permit("OTHER", f"10.{70 + number % 7}.0.0/16", "10.99.0.0/16")
    other["rules"].insert(0, {"action": "deny" if number % 2 else "permit", "protocol": "udp", "source": "any", "destination": "10.99.1.0/24",
                              "destination_ports": f"eq {number + 1}"})
    if number % 2:
        other["rules"].append({"action": "deny", "protocol": "ip", "source": "any", "destination": "10.98.0.0/16"})
        keys = documents.fresh_pair(0x7100 + 2 * number).session_key(True)
        documents.map_entry(made, "M4", 5 if number % 4 == 1 else 20, {**other, "rules": other["rules"][1:]}, "192.0.2.77", keys, lab.TRANSFORMS)
    else:
        made["acls"].append(other)
    return made


def sas(node, map_name: str = "M4") -> dict:
    """The first flow of a map, with its counters: what was made anew counts packets from zero."""
    return next(block["flows"][0] for block in node.show("crypto", "ipsec", "sa")["interfaces"] if block["map"] == map_name)


def in_force(node) -> dict:
    return json.loads(node.postern("config", "show").stdout)


def destination(node) -> str:
    return next(acl for acl in in_force(node)["acls"] if acl["name"] == "101")["rules"][0]["destination"]


def narrowed(document: dict) -> dict:
    made = copy.deepcopy(document)
    made["acls"][0]["rules"][0]["destination"] = "10.2.0.0/17"
    return made


@pytest.mark.alone
def test_fifty_applies_leave_a_stream_alone(pair):
    """CM-19: entries and lists around the stream's entry come, go and change; the node loses not one of its packets, and none is in
    clear. (The other node's AF_XDP ring may run over while a busy machine gives it no CPU; with strongSwan there instead, ikev2/test_ike_apply.py
    allows no loss at all.)"""
    before = sas(pair.left)["counters"]["encaps"]
    overrun = drops(pair.right)["rx_overrun"]
    with Capture(pair.w, "w2", pair.scratch / "clear.pcap", CLEAR) as capture:
        stream = NumberedStream(pair.hA, pair.hB, lab.host(2, "map4"), RATE)
        stream.more(RATE // 2)
        for number in range(50):
            pair.left.apply(edited(pair.left.document, number))
        stream.more(RATE // 2)
        got = stream.finish()
        pair.left.apply(pair.left.document)
        traffic.ping(pair.hA, "10.66.0.1", count=1, wait=1)  # no entry protects it: the capture would have seen the stream
        seen = {(one["IP"].src, one["IP"].dst) for one in capture.frames() if one.haslayer("IP")}
    said = got, drops(pair.left), drops(pair.right)
    assert got["wrong"] == got["duplicate"] == 0 and got["lost"] <= drops(pair.right)["rx_overrun"] - overrun, said
    assert not +drops(pair.left), said
    # The other gateway may say that it has no way there.
    assert (lab.host(1, "map4"), "10.66.0.1") in seen and seen <= {(lab.host(1, "map4"), "10.66.0.1"), (lab.OUT4[2], lab.host(1, "map4"))}
    assert sas(pair.left)["counters"]["encaps"] - before >= got["sent"], "the same SA counted all of them"
    assert_balanced(pair.left, pair.right)


def test_diff_says_what_and_when(pair):
    document = narrowed(pair.left.document)
    document["crypto_maps"][0]["entries"][0]["session_key"] = documents.fresh_pair(0x7601).session_key(True)
    path = documents.write(document, pair.scratch / "diff.json")
    said = pair.left.postern("config", "diff", path, json_output=True)
    rows = {(row["change"], row["section"], row["name"]): row["applies"] for row in json.loads(said.stdout)["changes"]}
    assert rows == {("changed", "acls", "101"): "at once", ("changed", "crypto_maps", "M4 10"): "at the next clear crypto sa"}
    assert destination(pair.left) == "10.2.0.0/16", "nothing was changed"
    assert pair.left.postern("config", "diff", pair.left.config).stdout == "No difference.\n"
    document["interfaces"][0]["crypto_map"] = "NONE"
    documents.write(document, path)
    refused = pair.left.postern("config", "diff", path, check=False)
    assert refused.returncode == 1 and "/interfaces/0/crypto_map" in refused.stderr


def apply_for(node, document: dict, seconds: int, check: bool = True):
    path = documents.write(document, node.lab.scratch / "confirm.json")
    return node.postern("config", "apply", path, "--confirm", seconds, check=check)


def unconfirmed_files(node) -> list[str]:
    return [name for name in ("previous.json", "unconfirmed.json") if (RUN / node.name / name).exists()]


def test_unconfirmed_goes_back(pair):
    document = narrowed(pair.left.document)
    said = apply_for(pair.left, document, 2)
    assert "Goes back in 2 seconds" in said.stdout and destination(pair.left) == "10.2.0.0/17"
    assert "config confirm" in pair.left.dataplane()["state"]
    for name in unconfirmed_files(pair.left):
        assert (RUN / pair.left.name / name).stat().st_mode & 0o077 == 0, f"{name} holds keys"
    wait_until(lambda: destination(pair.left) == "10.2.0.0/16", 6, "the document before it is back")
    assert not unconfirmed_files(pair.left)
    refused = pair.left.postern("config", "confirm", check=False)
    assert refused.returncode == 1 and "nothing waits" in refused.stderr


def test_confirmed_stays(pair):
    document = narrowed(pair.left.document)
    apply_for(pair.left, document, 3)
    second = pair.left.apply(pair.left.document, check=False)
    assert second.returncode == 1 and "config confirm" in second.stderr, "one at a time"
    pair.left.process.signal(signal.SIGHUP)
    wait_until(lambda: "is not taken over: the document in force goes back" in pair.left.process.log(), 5, "SIGHUP is refused as well")
    assert destination(pair.left) == "10.2.0.0/17"
    pair.left.postern("config", "confirm")
    assert not unconfirmed_files(pair.left) and pair.left.dataplane()["state"] == "running"
    stream = traffic.stream(pair.hA, pair.hB, lab.host(2, "map4"), count=400, rate=100)  # 4 s, longer than the 3
    assert stream[1]["distinct"] == 400 and destination(pair.left) == "10.2.0.0/17"
    pair.left.apply(pair.left.document)


@pytest.mark.parametrize("seconds", (0, -1, 86401, "soon"))
def test_confirm_wants_seconds(pair, seconds):
    assert apply_for(pair.left, pair.left.document, seconds, check=False).returncode == 2
    assert not unconfirmed_files(pair.left)


def test_a_refused_apply_waits_for_no_confirmation(pair):
    pair.n1.ip("link", "add", "Tunnel7", "type", "veth", "peer", "name", "foreign7")
    document = narrowed(pair.left.document)
    document["tunnels"].append({**copy.deepcopy(document["tunnels"][0]), "number": 7, "addresses": ["172.16.7.1/30"], "routes": ["10.9.0.0/16"]})
    document["tunnels"][-1]["protection"]["session_key"] = documents.fresh_pair(0x7001).session_key(True)
    refused = apply_for(pair.left, document, 60, check=False)
    pair.n1.ip("link", "delete", "Tunnel7")
    assert refused.returncode == 1 and f"/tunnels/{len(document['tunnels']) - 1}" in refused.stderr
    assert not unconfirmed_files(pair.left) and destination(pair.left) == "10.2.0.0/16"


@pytest.mark.parametrize("late", (False, True), ids=("in time", "too late"))
def test_posternd_restarts_meanwhile(pair, late):
    """Killed, and started again before or after the time is over: the new one goes back."""
    pair.left.apply(pair.left.document)  # applied, so it is this one that comes back and not the file's
    worker = pair.left.worker_pid()
    apply_for(pair.left, narrowed(pair.left.document), 3 if late else 8)
    pair.left.kill_daemon()
    if late:
        traffic.stream(pair.hA, pair.hB, lab.host(2, "map4"), count=350, rate=100)
    pair.left.start()
    if not late:
        assert destination(pair.left) == "10.2.0.0/17", "there is time left"
    wait_until(lambda: destination(pair.left) == "10.2.0.0/16", 12, "the document before it is back")
    assert not unconfirmed_files(pair.left) and pair.left.worker_pid() == worker
    assert traffic.ping(pair.hA, lab.host(2, "map4")) == 3


def test_confirmation_survives_a_restart(pair):
    apply_for(pair.left, narrowed(pair.left.document), 60)
    pair.left.kill_daemon()
    pair.left.start()
    pair.left.postern("config", "confirm")
    pair.left.kill_daemon()
    pair.left.start()
    assert destination(pair.left) == "10.2.0.0/17", "what was confirmed is what a restart goes on with"
    pair.left.apply(pair.left.document)


def test_a_stop_ends_the_wait(pair):
    apply_for(pair.left, narrowed(pair.left.document), 60)
    assert pair.left.stop() == 0
    assert not unconfirmed_files(pair.left)
    pair.left.start()
    assert destination(pair.left) == "10.2.0.0/16", "the node's own file"
    traffic.ping_until(pair.hA, lab.host(2, "map4"))


def test_applies_at_the_same_time_are_one_after_the_other(pair):
    """Each is answered with what it changed, and what is in force in the end is one of them whole."""
    numbers = range(1, 12, 2)
    made = {number: edited(pair.left.document, number) for number in numbers}
    paths = {number: documents.write(document, pair.scratch / f"at-once-{number}.json") for number, document in made.items()}
    with concurrent.futures.ThreadPoolExecutor(len(paths)) as pool:
        answers = list(pool.map(lambda path: pair.left.postern("config", "apply", path, check=False), paths.values()))
    assert [one.returncode for one in answers] == [0] * len(paths), [one.stderr for one in answers]
    same = [number for number in numbers if pair.left.postern("config", "diff", paths[number]).stdout == "No difference.\n"]
    assert len(same) == 1
    pair.left.apply(pair.left.document)


def test_hangup_reads_the_file_again(pair):
    """And refuses one that is not valid, with the reason in the log."""
    documents.write(narrowed(pair.left.document), pair.left.config)
    pair.left.process.signal(signal.SIGHUP)
    wait_until(lambda: destination(pair.left) == "10.2.0.0/17", 5, "the file counts")
    wrong = copy.deepcopy(pair.left.document)
    wrong["acls"][0]["rules"][0]["destination"] = "10.2.0.0 0.255.0.255"
    documents.write(wrong, pair.left.config)
    pair.left.process.signal(signal.SIGHUP)
    wait_until(lambda: "is not taken over" in pair.left.process.log().rsplit("is in force", 1)[-1], 5, "it is refused")
    assert "/acls/0/rules/0/destination" in pair.left.process.log()
    assert destination(pair.left) == "10.2.0.0/17"
    documents.write(pair.left.document, pair.left.config)
    pair.left.process.signal(signal.SIGHUP)
    wait_until(lambda: destination(pair.left) == "10.2.0.0/16", 5, "and the first one again")
