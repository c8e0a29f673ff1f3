"""IKE-37: the profile is chosen by the local address that the peer comes to, where no entry names one; strongSwan at the other end."""
import pytest

from ike_documents import ike_sas
from ike_pairs import SwanLab
from lab import OUT4
from refusal import one_refused

BOTH = pytest.mark.parametrize("by", ["postern", "strongswan"])
SECOND = "192.0.2.11"
KEYS = {OUT4[1]: "the key of the first address", SECOND: "the key of the second address"}
NAMES = {OUT4[1]: "first.example.org", SECOND: "second.example.org"}


class TwoAddresses(SwanLab):
    """N1 has two addresses. Each has a profile, with a key and a name of ours of its own; the entry names none. The first profile of the
    document is the second address's, so that the order alone would choose the other one."""

    def __init__(self, scratch):
        super().__init__(scratch, start=False, flows=("map4",))
        try:
            self.n1.ip("address", "add", f"{SECOND}/24", "dev", "out0")
            self.peer.start()
            self.at(OUT4[1])
            self.left.start()
        except BaseException:
            self.close()
            raise

    def document(self, own: str = OUT4[1], **options) -> dict:
        made = super().document(own4=own, **options)
        (profile,) = made["ikev2"]["profiles"]
        (ring,) = made["ikev2"]["keyrings"]
        made["ikev2"]["keyrings"] = [{**ring, "name": f"KEYS-{number}", "peers": [{**ring["peers"][0], "pre_shared_key": KEYS[address]}]}
                                     for number, address in enumerate(KEYS)]
        made["ikev2"]["profiles"] = [{**profile, "name": f"AT-{number}", "keyring": f"KEYS-{number}", "identity_local": {"fqdn": NAMES[address]},
                                      "match": {"identity_remote": [{"address": OUT4[2]}], "address_local": address}}
                                     for number, address in reversed(list(enumerate(KEYS)))]
        del made["crypto_maps"][0]["entries"][0]["ikev2_profile"]
        return made

    def at(self, own: str, key: str | None = None) -> None:
        """strongSwan knows that address of ours, by its name and key."""
        made = self.connection(2, remote_id=NAMES[own], psk=key or KEYS[own])
        made.remote = [own]
        self.peer.load(made)


@pytest.fixture(scope="module")
def world(module_scratch):
    with TwoAddresses(module_scratch) as made:
        yield made


@BOTH
@pytest.mark.parametrize("own", KEYS, ids=["first", "second"])
def test_the_local_address_chooses_the_profile(world, own, by):
    world.down()
    world.left.apply(world.document(own))
    world.at(own)
    sa = world.up(by)
    assert (sa["remote-host"], sa["remote-id"]) == (own, NAMES[own])
    assert ike_sas(world.left)[0]["local"] == own
    world.ping_both()


@BOTH
def test_the_key_of_the_other_address_is_not_taken(world, by):
    world.down()
    world.left.apply(world.document(SECOND))
    world.at(SECOND, KEYS[OUT4[1]])
    one_refused(world, by, "wrong_key")
    world.left.postern("clear", "crypto", "session")
