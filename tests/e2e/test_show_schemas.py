"""SH-29, and of each show SH-05, SH-06, SH-19, SH-20: what a node prints as JSON is what docs/schemas/show.json says, and nothing beside it."""
import copy

import jsonschema
import pytest

import documents
import lab
import traffic
from protection import protection
from show_schema import COMMANDS, SCHEMA, violations

BUNDLE = ("ah-sha256-hmac", "esp-aes", "esp-sha256-hmac", "comp-deflate")
ANY = {"action": "permit", "protocol": "ip", "source": "10.1.0.0/16", "destination": "10.2.0.0/16"}
RULES = [{"action": "deny", "protocol": "tcp", "established": True, "log": "input", "log_tag": "X"},
         {"action": "deny", "protocol": "udp", "dscp": "ef", "destination_ports": "eq 5 6", "time_range": "R"},
         {"action": "deny", "protocol": "icmp", "icmp_type": 3, "icmp_code": 1}, {"action": "deny", "precedence": 1, "tos": 2, "fragments": True},
         {"action": "deny", "protocol": "tcp", "tcp_flags": {"set": ["syn"], "clear": ["ack"]}, "source_ports": "gt 5"}, {}]


def rich(document: dict) -> dict:
    """Every option of a rule, AH around ESP in transport mode with compression, and a list that nothing uses."""
    made = copy.deepcopy(document)
    made["acls"][0]["rules"] = [{**ANY, **rule} for rule in RULES]
    made["acls"].append({"name": "IDLE", "rules": [ANY]})
    made["time_ranges"] = [{"name": "R", "start": "2026-01-01T00:00"}]
    keys = protection(0x6001, lab.OUT4[1], lab.OUT4[2], BUNDLE, "transport")
    acl = documents.permit("HOSTS", f"host {lab.OUT4[1]}", f"host {lab.OUT4[2]}", "udp", destination_ports="eq 7001")
    documents.map_entry(made, "M4", 100, acl, lab.OUT4[2], keys.session_key(), BUNDLE, "transport")
    return made


@pytest.fixture(scope="module")
def shown(module_scratch):
    """Of each command, what a node said before and after its document became rich, with and without traffic."""
    said: dict[str, list] = {command: [] for command in COMMANDS}

    def take(node) -> None:
        for command in COMMANDS:
            words = command.split()[1:] + (["0"] if command == "show interface tunnel" else [])
            said[command].append(node.show(*words))

    with lab.Pairing(module_scratch) as pair:
        take(pair.left)
        traffic.ping_until(pair.hA, lab.host(2, "map4"))
        pair.left.apply(rich(pair.left.document))
        traffic.ping(pair.hA, lab.host(2, "map4"), count=1)
        take(pair.left)
    return said


def test_the_schema_is_one():
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_shown(shown, command):
    for one in shown[command]:
        assert not violations(command, one)


def places(value, path=()):
    """Every object in it."""
    if isinstance(value, dict):
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_not_said_there_is_refused(shown, command):
    """A member that the schema does not name, and one of another type, wherever they stand."""
    whole = shown[command][-1]
    for path in places(whole):
        more = copy.deepcopy(whole)
        at(more, path)["something"] = 1
        assert violations(command, more), f"{path}: an unknown member passes"
    other = copy.deepcopy(whole)
    key = next(iter(other))
    other[key] = 1.5
    assert violations(command, other)
    del other[key]
    assert violations(command, other), "and one that is missing"
