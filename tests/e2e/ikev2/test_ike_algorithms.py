"""Every cipher, hash, PRF and group that strongSwan with kernel-libipsec has, in both roles: pairwise rows, the same algorithms seen on both sides."""
import pytest

import ike_wire
import lab
import traffic
from ike_documents import GROUPS, children, ike_sas
from ike_pairs import SwanLab
from ike_wire import AUTH, CREATE_CHILD, SA_INIT
from netns import wait_until
from strongswan import PLUGINS

pytestmark = pytest.mark.long

# IKE, ESP. Every word stands in some row, every AEAD beside a MAC, and hash, PRF and group vary independently.
ROWS = [
    ("aes128-sha1-modp2048", "aes128-sha1"),
    ("aes192-sha256-modp3072", "aes192-sha256"),
    ("aes256-sha384-modp4096", "aes256-sha384"),
    ("aes128-sha512-ecp256", "aes128-sha512"),
    ("aes256-sha256-ecp384", "aes128gcm16"),
    ("aes192-sha512-ecp521", "aes256gcm16"),
    ("aes128gcm16-prfsha256-x25519", "chacha20poly1305"),
    ("aes256gcm16-prfsha384-ecp384", "aes256-sha256"),
    ("chacha20poly1305-prfsha512-x25519", "aes192-sha384"),
    ("aes256-sha1-x25519", "aes256-sha1"),
    ("aes128gcm16-prfsha512-modp2048", "aes128-sha384"),
    ("aes256gcm16-prfsha1-ecp521", "aes256-sha512"),
    ("chacha20poly1305-prfsha256-modp4096", "aes128-sha256"),
    ("aes128-sha384-modp3072", "aes192-sha512"),
    ("aes256-sha512-prfsha256-x25519", "aes192gcm16"),
    ("aes192gcm16-prfsha384-ecp256", "aes192-sha1"),
]
# Of ESP alone: every cipher and authenticator that kernel-libipsec has beside those above.
QUICK = "aes128-sha256-x25519"
ESP_ROWS = ["aes128ccm16", "aes192ccm12", "aes128ccm8", "aes256ccm16", "aes128ctr-sha256", "aes256ctr-sha512", "3des-md5", "3des-sha1", "des-sha256",
            "null-sha1", "null-sha256", "null-md5", "aes128-md5"]  # AES-XCBC, AES-CMAC and AES-GMAC it negotiates and cannot do
ROWS += [(QUICK, esp) for esp in ESP_ROWS]
# Of IKE alone: the guide's older ciphers, hashes and groups, and what other vendors like.
WEAK_AND_RARE = ["aes128ctr-sha256-modp1024", "aes256ctr-sha512-ecp224", "aes192ctr-aesxcbc-prfaesxcbc-ecp256bp", "aes128ccm16-prfsha256-modp1536",
                 "aes256ccm12-prfaescmac-ecp384bp", "aes128ccm8-prfmd5-modp768", "3des-md5-modp1024", "3des-sha1-modp2048s224", "des-sha256-modp768",
                 "aes128-aesxcbc-modp2048s256", "aes256-aescmac-prfaescmac-modp1024s160", "aes128-md5-ecp192", "aes256-sha256-ecp224bp",
                 "aes128-sha512-prfaesxcbc-ecp512bp", "aes128-sha256-modp6144", "aes128-sha256-modp8192"]
ROWS += [(ike, "aes128-sha256") for ike in WEAK_AND_RARE]
# One of each kind; the others with --full.
SIZES = [(QUICK, esp) for esp in ("aes192ctr-sha256", "aes192ccm16", "aes128ccm12", "aes256ccm12", "aes192ccm8", "aes256ccm8")]
SIZES += [(f"{cipher}-prfsha256-x25519", "aes128-sha256") for cipher in (
    "aes192ccm16", "aes256ccm16", "aes128ccm12", "aes192ccm12", "aes192ccm8", "aes256ccm8")]
ROWS += [pytest.param(*row, marks=pytest.mark.slow) for row in SIZES]
PFS = [group if group in ("modp2048", "modp4096", "ecp256", "ecp521", "x25519", "ecp256bp") else pytest.param(group, marks=pytest.mark.slow) for group in GROUPS]
CIPHER = {"AES_CBC": "AES-CBC", "AES_GCM_16": "AES-GCM", "CHACHA20_POLY1305": "CHACHA20-POLY1305", "AES_CCM_16": "AES-CCM", "AES_CCM_12": "AES-CCM-12",
          "AES_CCM_8": "AES-CCM-8", "AES_CTR": "AES-CTR", "3DES_CBC": "3DES", "DES_CBC": "DES", "NULL": "NULL"}
KEY_BITS = {"CHACHA20_POLY1305": 256, "3DES_CBC": 192, "DES_CBC": 64, "NULL": 0}  # with one length, which strongSwan leaves out
HASH = {"HMAC_MD5_96": "MD596", "HMAC_SHA1_96": "SHA96", "HMAC_SHA2_256_128": "SHA256", "HMAC_SHA2_384_192": "SHA384", "HMAC_SHA2_512_256": "SHA512", "AES_XCBC_96": "AES-XCBC", "AES_CMAC_96": "AES-CMAC", None: "None"}
PRF = {"PRF_HMAC_MD5": "MD5", "PRF_AES128_XCBC": "AES-XCBC", "PRF_AES128_CMAC": "AES-CMAC", "PRF_HMAC_SHA1": "SHA1", "PRF_HMAC_SHA2_256": "SHA256", "PRF_HMAC_SHA2_384": "SHA384", "PRF_HMAC_SHA2_512": "SHA512"}
GROUP = {"MODP_2048": 14, "MODP_3072": 15, "MODP_4096": 16, "ECP_256": 19, "ECP_384": 20, "ECP_521": 21, "CURVE_25519": 31,
         "MODP_768": 1, "MODP_1024": 2, "MODP_1536": 5, "MODP_6144": 17, "MODP_8192": 18, "MODP_1024_160": 22, "MODP_2048_224": 23,
         "MODP_2048_256": 24, "ECP_192": 25, "ECP_224": 26, "ECP_224_BP": 27, "ECP_256_BP": 28, "ECP_384_BP": 29, "ECP_512_BP": 30}


@pytest.fixture(scope="module")
def world(module_scratch):
    # As a responder strongSwan would go by its own order.
    right = {"options": {"prefer_configured_proposals": "no"}, "plugins": f"{PLUGINS} xcbc cmac md5"}
    with SwanLab(module_scratch, flows=("map4",), right=right) as made:
        yield made


def strongswan_says(sa: dict) -> tuple[dict, dict]:
    """In Postern's words."""
    child = sa["child-sas"][0]

    def key_bits(one: dict) -> int:
        return int(one["encr-keysize"]) if "encr-keysize" in one else KEY_BITS[one["encr-alg"]]

    ike = {"encr": CIPHER[sa["encr-alg"]], "keysize": key_bits(sa), "hash": HASH[sa.get("integ-alg")],
           "prf": PRF[sa["prf-alg"]], "dh_group": GROUP[sa["dh-group"]]}
    return ike, {"encr": CIPHER[child["encr-alg"]], "keysize": key_bits(child), "esp_hmac": HASH[child.get("integ-alg")]}


@pytest.mark.parametrize("ike, esp", ROWS, ids=[" ".join(getattr(row, "values", row)) for row in ROWS])
def test_both_sides_agree(world, ike, esp):
    world.configure(ike=ike, esp=esp)
    for by in ("postern", "strongswan"):
        sa = world.up(by)
        world.ping_both()
        theirs_ike, theirs_esp = strongswan_says(sa)
        ours = ike_sas(world.left)[0]
        assert {key: ours[key] for key in theirs_ike} == theirs_ike
        assert {key: ours["children"][0][key] for key in theirs_esp} == theirs_esp
        assert ours["role"] == ("initiator" if by == "postern" else "responder")
        child = children(world.left)[0]
        assert (int(child["esp_spi_in"], 16), int(child["esp_spi_out"], 16)) == (int(sa["child-sas"][0]["spi-out"], 16),
                                                                               int(sa["child-sas"][0]["spi-in"], 16))
        world.down()


def one_child(world, group: str, but: set[str]) -> set[str]:
    """The SPI of the one child that is left after a rekey with that group, as both ends see it."""
    def is_so() -> bool:
        ours, theirs = children(world.left), world.peer.children()
        return (len(ours) == len(theirs) == 1 and ours[0]["esp_spi_in"] not in but and ours[0]["pfs_group"] == GROUPS[group]
                and GROUP.get(theirs[0].get("dh-group")) == GROUPS[group])

    wait_until(is_so, 12, f"one child, of {group}: {world.peer.children()}")
    return {children(world.left)[0]["esp_spi_in"]}


@pytest.mark.parametrize("group", PFS)
def test_pfs_by_both(world, group):
    """TS-44 to TS-53: a rekey of the child with a key exchange of the group, begun by either side; ours because its volume is used up."""
    world.configure(ike=QUICK, esp=f"aes128-sha256-{group}", association={"lifetime_kilobytes": 2560})
    world.up("postern")
    with world.capture("udp port 4500 and udp[8:4] = 0") as capture:
        first = {child["esp_spi_in"] for child in children(world.left)}
        world.peer.rekey(child="c")
        second = one_child(world, group, first)
        traffic.stream(world.hA, world.hB, lab.host(2, "map4"), count=1700, rate=4000, size=1200, quiet=0.2)
        one_child(world, group, first | second)
        asked = ike_wire.read(capture.frames()).exchanges(CREATE_CHILD)
    assert [one.source for one in asked] == [lab.OUT4[2], lab.OUT4[1]]
    world.ping_both()
    world.down()


def test_all_of_them_at_once_choose_the_initiators_first(world):
    """IKE-30: the initiator's order decides, whoever it is."""
    mine = "aes192-aes128-sha512-sha256-ecp256-x25519-modp2048"
    theirs = "aes128-aes192-sha256-sha512-x25519-modp2048-ecp256"
    for by, keysize, hashed, group in (("postern", "192", "HMAC_SHA2_512_256", "ECP_256"), ("strongswan", "128", "HMAC_SHA2_256_128", "CURVE_25519")):
        world.configure(ike=mine, swan={"proposals": [theirs]})
        sa = world.up(by)
        assert (sa["encr-keysize"], sa["integ-alg"], sa["dh-group"]) == (keysize, hashed, group)
        world.down()


def test_only_the_last_of_each_list_is_common(world):
    """IKE-27: several transforms per type in one proposal; also more than one ESP set."""
    world.configure(ike="aes256-aes192-aes128-sha512-sha384-sha1-modp3072-modp2048", esp=["aes256gcm16", "aes256-sha512", "aes128-sha1"],
                    swan={"proposals": ["aes128-sha1-modp2048"], "esp_proposals": ["aes128-sha1"]})
    for by in ("postern", "strongswan"):
        with world.capture("udp") as capture:
            sa = world.up(by)
            wire = ike_wire.read(capture.frames())
        assert (sa["encr-keysize"], sa["integ-alg"], sa["dh-group"], sa["child-sas"][0]["integ-alg"]) == ("128", "HMAC_SHA1_96", "MODP_2048", "HMAC_SHA1_96")
        # Postern's first guess of a group is wrong here, so there is one round more when it initiates.
        assert len(wire.exchanges(SA_INIT)) == (2 if by == "postern" else 1) and len(wire.exchanges(AUTH)) == 1
        world.down()
