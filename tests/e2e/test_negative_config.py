"""Documents that must not start a node or change one: exit status, message with the JSON path, and nothing moved."""
import copy

import pytest

import documents
import lab
import traffic
from node import PROGRAMS
from netns import run, wait_until

GOOD = lab.gateway_document(1, lab.fresh_flows())


def broken(change) -> dict:
    document = copy.deepcopy(GOOD)
    change(document)
    return document


def entry(document: dict) -> dict:
    return document["crypto_maps"][0]["entries"][0]


def key(document: dict) -> dict:
    return entry(document)["session_key"]["inbound"]["esp"]


# name: (what is done to a good document, the JSON path that the message must name)
CASES = {
    "unknown key": (lambda d: d.update(colour="red"), "/colour"),
    "unknown nested key": (lambda d: entry(d).update(pfs="group14"), "/crypto_maps/0/entries/0/pfs"),
    "wrong type": (lambda d: d["acls"][0].update(rules="all"), "/acls/0/rules"),
    "no version": (lambda d: d.pop("version"), "version"),
    "future version": (lambda d: d.update(version=2), "/version"),
    "AEAD with manual keys": (lambda d: d["ipsec"]["transform_sets"][0].update(transforms=["esp-gcm"]), "/crypto_maps/0/entries/0"),
    "cipher key too short": (lambda d: key(d).update(cipher="00" * 15), "/crypto_maps/0/entries/0/session_key/inbound/esp/cipher"),
    "odd hex digits": (lambda d: key(d).update(cipher="0" * 31), "/crypto_maps/0/entries/0/session_key/inbound/esp/cipher"),
    "not hex": (lambda d: key(d).update(cipher="zz" * 16), "/crypto_maps/0/entries/0/session_key/inbound/esp/cipher"),
    "no authenticator": (lambda d: key(d).pop("authenticator"), "/crypto_maps/0/entries/0/session_key/inbound/esp"),
    "reserved SPI": (lambda d: key(d).update(spi=255), "/crypto_maps/0/entries/0/session_key/inbound/esp/spi"),
    "two permits": (lambda d: d["acls"][0]["rules"].append(dict(d["acls"][0]["rules"][0], destination="10.7.0.0/16")), "/crypto_maps/0/entries/0"),
    "no such ACL": (lambda d: entry(d).update(match_address="nobody"), "/crypto_maps/0/entries/0/match_address"),
    "no such transform set": (lambda d: entry(d).update(transform_set="nobody"), "/crypto_maps/0/entries/0/transform_set"),
    "no such map": (lambda d: d["interfaces"][0].update(crypto_map="nobody"), "/interfaces/0/crypto_map"),
    "two peers": (lambda d: entry(d).update(peer=["192.0.2.2", "192.0.2.3"]), "/crypto_maps/0/entries/0/peer"),
    "map of the other family": (lambda d: d["interfaces"][0].update(ipv6_crypto_map="M4"), "/interfaces/0/ipv6_crypto_map"),
    "tunnel twice": (lambda d: d["tunnels"].append(d["tunnels"][0]), "/tunnels/2"),
    "SPI twice": (lambda d: d["tunnels"][0]["protection"]["session_key"]["inbound"]["esp"].update(spi=key(d)["spi"]), "spi"),
    "secret file relative": (lambda d: key(d).update(cipher={"file": "keys/a"}), "/crypto_maps/0/entries/0/session_key/inbound/esp/cipher"),
}


@pytest.mark.parametrize("name", CASES)
def test_check_refuses(name, scratch):
    change, path = CASES[name]
    file = documents.write(broken(change), scratch / "c.json")
    done = run([PROGRAMS / "postern", "config", "check", file], check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert path in done.stdout + done.stderr
    assert GOOD["crypto_maps"][0]["entries"][0]["session_key"]["inbound"]["esp"]["authenticator"] not in done.stdout + done.stderr


def test_check_accepts_the_good_one(scratch):
    done = run([PROGRAMS / "postern", "config", "check", documents.write(GOOD, scratch / "c.json")], check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("mode,accepted", [(0o600, True), (0o640, False), (0o604, False)])
def test_secret_files_that_others_can_read(mode, accepted, scratch):
    file = scratch / "key"
    file.write_text("00112233445566778899aabbccddeeff")
    file.chmod(mode)
    document = broken(lambda d: key(d).update(cipher={"file": str(file)}))
    done = run([PROGRAMS / "postern", "config", "check", documents.write(document, scratch / "c.json")], check=False)
    assert (done.returncode == 0) is accepted, done.stdout + done.stderr


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"version": 1, "version": 1}', "\x00", '{"version": 1e999}', "[" * 100000])
def test_not_even_a_document(text, scratch):
    file = scratch / "c.json"
    file.write_text(text)
    file.chmod(0o600)
    done = run([PROGRAMS / "postern", "config", "check", file], check=False)
    assert done.returncode == 1 and done.stdout + done.stderr


def test_a_bad_document_starts_nothing(scratch):
    with lab.Gateways(scratch) as made:
        node = made.node(1, broken(CASES["AEAD with manual keys"][0]))
        before = made.n1.devices()
        process = node.launch()
        assert process.wait(15) != 0
        assert "nonce" in process.log()
        assert made.n1.devices() == before and not node.traces()


def test_a_missing_interface_is_said_and_taken_up_later(scratch):
    """An inside interface that is not there yet: what can be protected is, `show` names the rest, and its coming is noticed."""
    with lab.Gateways(scratch) as made:
        flows = lab.fresh_flows()
        document = lab.gateway_document(1, flows)
        documents.interface(document, "late0", ["10.77.0.1/16"])
        node = made.node(1, document)
        node.start()
        wait_until(lambda: "late0" in node.dataplane()["state"], 10, "the missing interface is named")
        assert node.dataplane()["state"].startswith("degraded")
        made.n1.ip("link", "add", "late0", "type", "veth", "peer", "name", "late1")
        made.n1.ip("link", "set", "late0", "up")
        wait_until(lambda: node.dataplane()["state"] == "running", 15, "the interface is taken up")
        assert "10.77.0.1/16" in made.n1.ip("address", "show", "dev", "late0")


@pytest.mark.parametrize("name", ["unknown key", "two permits", "SPI twice", "no such map"])
def test_apply_changes_nothing(name, scratch):
    with lab.Pairing(scratch) as made:
        traffic.ping_until(made.hA, lab.host(2, "map4"))
        shown, generation = made.left.postern("config", "show").stdout, made.left.dataplane()["generation"]
        document = copy.deepcopy(made.left.document)
        CASES[name][0](document)
        done = made.left.apply(document, check=False)
        assert done.returncode == 1 and CASES[name][1] in done.stdout + done.stderr
        assert made.left.postern("config", "show").stdout == shown
        assert made.left.dataplane()["generation"] == generation
        assert traffic.ping(made.hA, lab.host(2, "map4")) == 3
