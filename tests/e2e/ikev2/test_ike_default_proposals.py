"""IKE-32, IKE-33: what is offered where the document names no algorithms of IKE, as the first message on the wire has it; strongSwan agrees with that,
and is refused what the document has not put into force."""
import pytest

import documents
import ike_wire
from ike_pairs import SwanLab
from ike_wire import SA_INIT
from refusal import one_refused

BOTH = pytest.mark.parametrize("by", ["postern", "strongswan"])
ENCRYPTION, PRF, INTEGRITY, GROUP = 1, 2, 3, 4
# IANA's numbers. "default": AES-GCM-256, ChaCha20-Poly1305, AES-GCM-128 apart, because they have no integrity (RFC 5282 8); then AES-CBC-256 and -128.
PRFS, GROUPS = [(7, 0), (6, 0), (5, 0)], [(one, 0) for one in (19, 20, 21, 31, 14, 15, 16)]
DEFAULT = [{ENCRYPTION: [(20, 256), (28, 0), (20, 128)], PRF: PRFS, GROUP: GROUPS},
           {ENCRYPTION: [(12, 256), (12, 128)], INTEGRITY: [(14, 0), (13, 0), (12, 0)], PRF: PRFS, GROUP: GROUPS}]
LEGACY = [{ENCRYPTION: [(12, 128), (3, 0)], INTEGRITY: [(2, 0), (1, 0)], PRF: [(2, 0), (1, 0)], GROUP: [(5, 0), (2, 0)]}]
STRONG, WEAK = "aes256gcm16-prfsha512-ecp256", "aes128-sha1-modp1536"
ORPHAN = {"name": "ORPHAN", "encryption": ["aes-cbc-128"], "integrity": ["sha1"], "group": [5]}


class Lab(SwanLab):
    def put(self, theirs: str, proposals: list[dict] | None = None, policies: list[dict] | None = None):
        """The document with these and no others; what its check says."""
        self.down()
        document = self.document(flows=("map4",))
        for key, value in (("proposals", proposals), ("policies", policies)):
            document["ikev2"].pop(key)
            document["ikev2"] |= {key: value} if value is not None else {}
        self.left.apply(document)
        self.left.postern("clear", "crypto", "session")  # no back-off is owed
        self.peer.load(self.connection(2, proposals=[theirs]))
        checked = self.left.postern("config", "check", documents.write(document, self.scratch / "checked.json"))
        return checked.stdout + checked.stderr


@pytest.fixture(scope="module")
def world(module_scratch):
    with Lab(module_scratch, flows=("map4",)) as made:
        yield made


def offered(world) -> list[dict]:
    """By our first message of an attempt that comes up."""
    with world.capture("udp") as capture:
        world.up("postern")
        first = ike_wire.read(capture.frames()).exchanges(SA_INIT)[0]
    world.ping_both()
    return first.proposals()


def test_without_proposals_and_policies(world):
    assert "will not be used" not in world.put(STRONG)
    assert offered(world) == DEFAULT
    world.down()
    assert world.up("strongswan")["encr-alg"] == "AES_GCM_16"


def test_a_proposal_that_no_policy_names(world):
    """The default is offered and not the orphan, of which the check warns."""
    said = world.put(STRONG, [ORPHAN])
    assert "/ikev2/proposals/0" in said and "proposal ORPHAN is in no policy and will not be used" in said, said
    assert offered(world) == DEFAULT
    shown = world.left.show("crypto", "ikev2", "policy")
    assert "ORPHAN" not in str(shown), shown


def test_a_policy_puts_it_into_force(world):
    """The same proposal, attached: it alone is offered."""
    said = world.put(WEAK, [ORPHAN], [{"name": "POL", "proposals": ["ORPHAN"]}])
    assert "will not be used" not in said
    assert offered(world) == [{ENCRYPTION: [(12, 128)], INTEGRITY: [(2, 0)], PRF: [(2, 0)], GROUP: [(5, 0)]}]


@BOTH
@pytest.mark.parametrize("proposals", [None, [ORPHAN]], ids=["none", "an orphan"])
def test_a_peer_with_the_older_default_alone_is_refused(world, proposals, by):
    world.put(WEAK, proposals)
    one_refused(world, by, "no_common_ike_proposal")


@BOTH
def test_the_older_default_for_who_names_it(world, by):
    """Weak, and said so."""
    said = world.put(WEAK, None, [{"name": "POL", "proposals": ["default-legacy"]}])
    assert "/ikev2/policies/0/proposals/0" in said and "weak and deprecated" in said, said
    if by == "postern":
        assert offered(world) == LEGACY
    else:
        sa = world.up("strongswan")
        assert (sa["encr-alg"], sa["encr-keysize"], sa["integ-alg"], sa["dh-group"]) == ("AES_CBC", "128", "HMAC_SHA1_96", "MODP_1536")
