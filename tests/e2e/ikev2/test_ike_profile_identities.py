"""IKE-37: a dynamic map's entry that names no profile. Which one counts follows from what the peer calls itself, or from its certificate: strongSwan
gateways with identities of each type, of which each profile has a key of its own; and certificates of two certificate maps."""
import pytest

import lab
from certificate_lab import CertificateLab
from ike_documents import children, diagnosis, ike_sas
from many_lab import ManyLab, dynamic_document, outer
from netns import wait_until

FQDN, EMAIL, KEY_ID = "three.example.org", "four@example.org", "the fifth"
PEERS = {  # strongSwan's gateway: the profile that must count, what it matches, what strongSwan calls itself
    2: ("BY-ADDRESS", {"address": outer(2)}, outer(2)), 3: ("BY-FQDN", {"fqdn": FQDN}, FQDN),
    4: ("BY-EMAIL", {"email": EMAIL}, EMAIL), 5: ("BY-KEY-ID", {"key_id": KEY_ID}, f"keyid:{KEY_ID}")}


def profiles_of(node) -> dict[str, str]:
    """By the peer's address, as `show crypto ikev2 sa` has it."""
    shown = node.show("crypto", "ikev2", "sa")["sessions"]
    return {sa["remote"]: sa["profile"] for session in shown for sa in session["sas"] if sa["state"] == "READY"}


def key(profile: str) -> str:
    return f"the key of {profile}"


def document() -> dict:
    """In the reverse of the peers' order, so that none is found by being the first."""
    made = dynamic_document()
    del made["dynamic_maps"][0]["entries"][0]["ikev2_profile"]
    (profile,), (ring,) = made["ikev2"]["profiles"], made["ikev2"]["keyrings"]
    rows = list(reversed(PEERS.values()))
    made["ikev2"]["keyrings"] = [{**ring, "name": f"K-{name}", "peers": [{**one, "pre_shared_key": key(name)} for one in ring["peers"]]} for name, _, _ in rows]
    made["ikev2"]["profiles"] = [{**profile, "name": name, "keyring": f"K-{name}", "match": {"identity_remote": [rule]}} for name, rule, _ in rows]
    return made


@pytest.fixture(scope="module")
def world(module_scratch):
    with ManyLab(module_scratch, 5, document()) as made:
        yield made


def load(world, number: int, identity: str | None = None, secret: str | None = None) -> None:
    profile, _, own = PEERS[number]
    world.load(number, local_id=identity or own, psk=secret or key(profile))


def test_each_identity_has_its_profile(world):
    """Four gateways at once, each by its own key; and traffic with each."""
    world.configure(document())
    for number in PEERS:
        load(world, number)
        assert world.peers[number].initiate("net"), number
    assert profiles_of(world.left) == {outer(number): profile for number, (profile, _, _) in PEERS.items()}
    for number in PEERS:
        assert world.ping_from(number) == 2 and world.ping_to(number) == 2, number
    shown = world.left.show("crypto", "session")["sessions"]
    assert {one["peer"]["address"]: one["profile"] for one in shown if one["profile"]} == profiles_of(world.left)


@pytest.mark.parametrize("identity", ["nobody.example.org", "nobody@example.org", "keyid:nobody", "192.0.2.99"])
def test_an_identity_of_no_profile_is_refused(world, identity):
    world.configure(document())
    load(world, 3, identity)
    assert world.peers[3].initiate("net", check=False) is False
    said = f"key-id {b'nobody'.hex()}" if identity.startswith("keyid:") else identity
    (row,) = [one for one in diagnosis(world.left, outer(3)) if one["failure"] == "wrong_identity" and one["offered"] == said]
    assert row["said_by"] == "us" and row["role"] == "responder"
    assert all(str(rule) in row["accepted"] for rule in (FQDN, EMAIL, outer(2), KEY_ID.encode().hex())), row
    assert not ike_sas(world.left) and not children(world.left)


def test_the_key_of_another_profile_is_not_taken(world):
    """The identity chooses, and its profile's key has to fit."""
    world.configure(document())
    load(world, 3, secret=key("BY-ADDRESS"))
    assert world.peers[3].initiate("net", check=False) is False
    wait_until(lambda: "wrong_key" in [one["failure"] for one in diagnosis(world.left, outer(3))], 5, "the diagnosis")
    assert not ike_sas(world.left)


# -- by certificate

MAPS = {"EAST": "east", "WEST": "west"}


class CertificateMaps(CertificateLab):
    """One strongSwan, which comes with one certificate or another; the node has a dynamic map and a profile for each certificate map."""

    def document(self, **options) -> dict:
        rules = [{"name": name, "rules": [{"field": "subject-name", "operator": "co", "value": f"cn={common}"}]} for name, common in MAPS.items()]
        made = super().document(maps=rules, **options)
        (profile,) = made["ikev2"]["profiles"]
        made["ikev2"]["profiles"] = [{**profile, "name": f"P-{name}", "match": {"certificate": [name]}} for name in reversed(MAPS)]
        made["dynamic_maps"] = [{"name": "D1", "entries": [{"sequence": 10, "transform_sets": ["T0"]}]}]
        made["crypto_maps"][0]["family"] = "ipv4"
        made["crypto_maps"][0]["entries"] = [{"sequence": 1000, "type": "ipsec-isakmp", "dynamic": "D1"}]
        return made

    def comes_as(self, common: str) -> None:
        name = f"{common}.example.org"
        self.peer.load(self.connection(2, **self.swan_ends(self.ca.issue(common, [name]), local_id=name)))


@pytest.fixture(scope="module")
def certificates(module_scratch):
    with CertificateMaps(module_scratch / "certificates") as made:
        yield made


def test_each_certificate_map_has_its_profile(certificates):
    for name, common in MAPS.items():
        certificates.down()
        certificates.comes_as(common)
        certificates.up("strongswan")
        assert profiles_of(certificates.left) == {lab.OUT4[2]: f"P-{name}"}
        certificates.ping_both()


def test_a_certificate_of_no_map_is_refused(certificates):
    certificates.down()
    certificates.comes_as("north")
    assert certificates.peer.initiate("net", check=False) is False
    wait_until(lambda: any(one["failure"] == "wrong_identity" and "certificate map" in one["summary"] and "north" in one["differs"]
                           for one in diagnosis(certificates.left, lab.OUT4[2])), 5, "the diagnosis")
    assert not ike_sas(certificates.left) and not children(certificates.left)
