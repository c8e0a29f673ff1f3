"""Every cipher, hash, PRF and group that strongSwan with kernel-libipsec has, in both roles: pairwise rows, the same algorithms seen on both sides."""
import pytest

import ike_wire
from ike_documents import children, ike_sas
from ike_pairs import SwanLab
from ike_wire import AUTH, SA_INIT

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
CIPHER = {"AES_CBC": "AES-CBC", "AES_GCM_16": "AES-GCM", "CHACHA20_POLY1305": "CHACHA20-POLY1305", "AES_CCM_16": "AES-CCM", "AES_CCM_12": "AES-CCM-12",
          "AES_CCM_8": "AES-CCM-8", "AES_CTR": "AES-CTR", "3DES_CBC": "3DES", "DES_CBC": "DES", "NULL": "NULL"}
KEY_BITS = {"CHACHA20_POLY1305": 256, "3DES_CBC": 192, "DES_CBC": 64, "NULL": 0}  # with one length, which strongSwan leaves out
HASH = {"HMAC_MD5_96": "MD596", "HMAC_SHA1_96": "SHA96", "HMAC_SHA2_256_128": "SHA256", "HMAC_SHA2_384_192": "SHA384", "HMAC_SHA2_512_256": "SHA512", None: "None"}
PRF = {"PRF_HMAC_SHA1": "SHA1", "PRF_HMAC_SHA2_256": "SHA256", "PRF_HMAC_SHA2_384": "SHA384", "PRF_HMAC_SHA2_512": "SHA512"}
GROUP = {"MODP_2048": 14, "MODP_3072": 15, "MODP_4096": 16, "ECP_256": 19, "ECP_384": 20, "ECP_521": 21, "CURVE_25519": 31}


@pytest.fixture(scope="module")
def world(module_scratch):
    # As a responder strongSwan would go by its own order.
    with SwanLab(module_scratch, flows=("map4",), right={"options": {"prefer_configured_proposals": "no"}}) as made:
        yield made


def strongswan_says(sa: dict) -> tuple[dict, dict]:
    """In Postern's words."""
    child = sa["child-sas"][0]

    def key_bits(one: dict) -> int:
        return int(one["encr-keysize"]) if "encr-keysize" in one else KEY_BITS[one["encr-alg"]]

    ike = {"encr": CIPHER[sa["encr-alg"]], "keysize": key_bits(sa), "hash": HASH[sa.get("integ-alg")],
           "prf": PRF[sa["prf-alg"]], "dh_group": GROUP[sa["dh-group"]]}
    return ike, {"encr": CIPHER[child["encr-alg"]], "keysize": key_bits(child), "esp_hmac": HASH[child.get("integ-alg")]}


@pytest.mark.parametrize("ike, esp", ROWS, ids=[" ".join(row) for row in ROWS])
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
