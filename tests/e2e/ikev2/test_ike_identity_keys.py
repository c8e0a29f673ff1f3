"""IKE-36: a keyring that knows peers by what they call themselves. strongSwan gateways at addresses that no document names, each with its own key."""
import pytest

from ike_documents import diagnosis, ike_sas
from many_lab import ManyLab, dynamic_document, outer
from netns import wait_until

KEY_ID = "gateway-3"
OF_2, OF_3 = "the key of the first name", "the key of the key id"
NAME = "two.example.org"


def document() -> dict:
    made = dynamic_document(remote_id=["any"])
    made["ikev2"]["keyrings"] = [{"name": "KEYS", "peers": [
        {"name": "TWO", "identity": {"fqdn": NAME}, "pre_shared_key": OF_2},
        {"name": "THREE", "identity": {"key_id": "0x" + KEY_ID.encode().hex()}, "pre_shared_key": OF_3}]}]
    return made


@pytest.fixture(scope="module")
def world(module_scratch):
    with ManyLab(module_scratch, 3, document()) as made:
        yield made


def come(world, number: int, identity: str, key: str) -> bool:
    world.load(number, local_id=identity, psk=key)
    return world.peers[number].initiate("net", check=False)


def test_each_by_its_own_key(world):
    world.down()
    assert come(world, 2, NAME, OF_2) and come(world, 3, f"keyid:{KEY_ID}", OF_3)
    assert {(sa["remote"], sa["remote_id"]) for sa in ike_sas(world.left)} == {(outer(2), NAME), (outer(3), f"key-id {KEY_ID.encode().hex()}")}
    assert world.ping_from(2) == 2 and world.ping_from(3) == 2


@pytest.mark.parametrize("identity, key, words", [
    (NAME, OF_3, f"{NAME} does not verify"), (f"keyid:{KEY_ID}", OF_2, "does not verify"),
    (f"keyid:{KEY_ID.upper()}", OF_3, "no key for"), ("three.example.org", OF_2, "no key for three.example.org")],
    ids=("name by the other's key", "key id by the other's key", "other bytes", "unknown name"))
def test_by_another_key_or_name_nobody_comes(world, identity, key, words):
    world.down()
    assert come(world, 3, identity, key) is False
    wait_until(lambda: any(words in row["summary"] and row["failure"] == "wrong_key" for row in diagnosis(world.left, outer(3))), 8, words)
    assert not ike_sas(world.left)
