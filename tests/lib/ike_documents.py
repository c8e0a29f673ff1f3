"""Configuration documents with negotiated keys. Algorithms are given in strongSwan's words and translated here, in one place."""
import documents
import lab
from ike_lab import PSK, inside
from lab import OUT4, OUT6
from netns import wait_until
from node import Node

IKE_CIPHERS = {"aes128": "aes-cbc-128", "aes192": "aes-cbc-192", "aes256": "aes-cbc-256", "aes128gcm16": "aes-gcm-128",
               "aes192gcm16": "aes-gcm-192", "aes256gcm16": "aes-gcm-256", "chacha20poly1305": "chacha20-poly1305", "3des": "3des", "des": "des"}
IKE_CIPHERS |= {f"aes{bits}ctr": f"aes-ctr-{bits}" for bits in (128, 192, 256)}
IKE_CIPHERS |= {f"aes{bits}ccm{icv}": f"aes-ccm-{short}{bits}" for bits in (128, 192, 256) for icv, short in ((16, ""), (12, "12-"), (8, "8-"))}
IKE_HASHES = {"aesxcbc": "aes-xcbc", "aescmac": "aes-cmac"}  # whose words differ
ESP_CIPHERS = {"aes128": "esp-aes", "aes192": "esp-aes 192", "aes256": "esp-aes 256", "aes128gcm16": "esp-gcm",
               "aes192gcm16": "esp-gcm 192", "aes256gcm16": "esp-gcm 256", "chacha20poly1305": "esp-chacha20-poly1305",
               "3des": "esp-3des", "des": "esp-des", "null": "esp-null"}
ESP_CIPHERS |= {f"aes{bits}{word}": f"{name} {bits}" for bits in (128, 192, 256) for word, name in (
    ("ccm16", "esp-aes-ccm"), ("ccm12", "esp-aes-ccm-12"), ("ccm8", "esp-aes-ccm-8"), ("ctr", "esp-aes-ctr"), ("gmac", "esp-gmac"))}
ESP_INTEGRITY = {"sha1": "esp-sha-hmac", "sha256": "esp-sha256-hmac", "sha384": "esp-sha384-hmac", "sha512": "esp-sha512-hmac",
                 "md5": "esp-md5-hmac", "aesxcbc": "esp-aes-xcbc-mac", "aescmac": "esp-aes-cmac"}
GROUPS = {"modp2048": 14, "modp3072": 15, "modp4096": 16, "ecp256": 19, "ecp384": 20, "ecp521": 21, "x25519": 31,
          "modp768": 1, "modp1024": 2, "modp1536": 5, "modp6144": 17, "modp8192": 18, "modp1024s160": 22, "modp2048s224": 23,
          "modp2048s256": 24, "ecp192": 25, "ecp224": 26, "ecp224bp": 27, "ecp256bp": 28, "ecp384bp": 29, "ecp512bp": 30}


def proposal(words: str, name: str = "IKE") -> dict:
    """"aes128-sha256-modp2048", "aes256gcm16-prfsha384-ecp384"; several of a type are a list."""
    made: dict = {"name": name, "encryption": [], "integrity": [], "prf": [], "group": []}
    for word in words.split("-"):
        if word in IKE_CIPHERS:
            made["encryption"].append(IKE_CIPHERS[word])
        elif word in GROUPS:
            made["group"].append(GROUPS[word])
        elif word.startswith("prf"):
            made["prf"].append(IKE_HASHES.get(word[3:], word[3:]))
        else:
            made["integrity"].append(IKE_HASHES.get(word, word))
    return {key: value for key, value in made.items() if value}


def transforms(words: str) -> list[str]:
    """"aes128-sha256", "aes256gcm16", of AH "ah_sha256", and compressed "aes128-sha256-comp"; a group is not part of a set: pfs()."""
    return [transform(word) for word in words.split("-") if word not in GROUPS]


def transform(word: str) -> str:
    if word.startswith("ah_"):
        return ESP_INTEGRITY[word[3:]].replace("esp-", "ah-")
    return "comp-deflate" if word == "comp" else ESP_CIPHERS.get(word) or ESP_INTEGRITY[word]


def pfs(words: str) -> dict:
    return next(({"pfs": f"group{GROUPS[word]}"} for word in words.split("-") if word in GROUPS), {})


def identity(text: str) -> dict:
    """As strongSwan guesses the type."""
    if text.replace(".", "").isdigit() or ":" in text:
        return {"address": text}
    return {"email": text} if "@" in text else {"fqdn": text}


def gateway_document(side: int, *, ike: str | list[str] = "aes128-sha256-modp2048", esp: str | list[str] = "aes128-sha256", psk: str = PSK,
                     flows: tuple[str, ...] = ("map4", "map6"), own4: str | None = None, local_id: str | None = None,
                     remote_id: str | list[str] = "any", plain_side: str = "tap", initiate: str | None = None, profile: dict | None = None,
                     association: dict | None = None, acl4: list[dict] | None = None, dataplane: dict | None = None, beside: str | None = None,
                     **section) -> dict:
    """Gateway `side` of the lab. map4 and map6 are map entries, tunnel4 and tunnel6 tunnel interfaces; `section` goes into "ikev2".
    `beside`: a second entry of map4's map with the same peer, for the networks of tunnel4 and with a transform set of its own."""
    other = 3 - side
    document = documents.empty(f"N{side}")
    document["dataplane"] = {"plain_side": plain_side, **(dataplane or {})}
    esps, ikes = ([one] if isinstance(one, str) else one for one in (esp, ike))
    document["ipsec"]["transform_sets"] = [{"name": f"T{i}", "transforms": transforms(one)} for i, one in enumerate(esps)]
    sets = [f"T{i}" for i in range(len(esps))]
    document["ikev2"] = _ikev2(ikes, psk, local_id, remote_id, profile or {}, section)
    common = {"ikev2_profile": "PEER", **pfs(esps[0]), **({"security_association": association} if association else {})}
    outer = {4: (own4 or OUT4[side], OUT4[other]), 6: (OUT6[side], OUT6[other])}
    out0 = documents.interface(document, "out0", [f"{outer[4][0]}/24", f"{OUT6[side]}/64"])
    documents.interface(document, "in0", lab.inside_addresses(side), inside=True)
    for flow in flows:
        family = int(flow[-1])
        if flow.startswith("map"):
            entry = {"sequence": 10, "type": "ipsec-isakmp", "match_address": f"ACL{family}", "peer": outer[family][1],
                     "transform_sets": sets, **common, **({"initiate": initiate} if initiate else {})}
            rules = acl4 if acl4 and family == 4 else [{"action": "permit", "protocol": "ip" if family == 4 else "ipv6",
                                                       "source": inside(side, flow), "destination": inside(other, flow)}]
            document["acls"].append({"name": f"ACL{family}", "rules": rules})
            document["crypto_maps"].append({"name": f"M{family}", "entries": [entry]})
            out0["crypto_map" if family == 4 else "ipv6_crypto_map"] = f"M{family}"
            if beside and family == 4:
                _entry_beside(document, entry, inside(side, "tunnel4"), inside(other, "tunnel4"), beside)
            continue
        document["ipsec"]["profiles"] = [{"name": "P", "transform_sets": sets, **common, **({"initiate": initiate} if initiate else {})}]
        document["tunnels"].append({
            "number": 0 if family == 4 else 1, "mode": f"ipsec ipv{family}", "source": outer[family][0], "destination": outer[family][1],
            "addresses": [f"172.16.0.{side}/30" if family == 4 else f"2001:db8:a::{side}/64"], "protection": {"profile": "P"},
            "routes": [inside(other, flow)]})
    return document


def _entry_beside(document: dict, first: dict, near: str, far: str, esp: str) -> None:
    document["ipsec"]["transform_sets"].append({"name": "BESIDE", "transforms": transforms(esp)})
    document["acls"].append({"name": "ACLBESIDE", "rules": [{"action": "permit", "protocol": "ip", "source": near, "destination": far}]})
    document["crypto_maps"][-1]["entries"].append({**first, "sequence": 20, "match_address": "ACLBESIDE", "transform_sets": ["BESIDE"]})


def _ikev2(ikes: list[str], psk: str, local_id: str | None, remote_id: str | list[str], profile: dict, section: dict) -> dict:
    remote = [remote_id] if isinstance(remote_id, str) else remote_id
    one = {"name": "PEER", "match": {"identity_remote": [each if each == "any" else identity(each) for each in remote]},
           "authentication": {"local": {"method": "pre-share"}, "remote": {"method": "pre-share"}}, "keyring": "KEYS", **profile}
    if local_id:
        one["identity_local"] = identity(local_id)
    return {"proposals": [proposal(words, f"IKE{i}") for i, words in enumerate(ikes)],
            "policies": [{"name": "POL", "proposals": [f"IKE{i}" for i in range(len(ikes))]}],
            "keyrings": [{"name": "KEYS", "peers": [{"name": "ANY4", "address": "0.0.0.0/0", "pre_shared_key": psk},
                                                    {"name": "ANY6", "address": "::/0", "pre_shared_key": psk}]}],
            "profiles": [one], **section}


# -- what a node says

def ike_sas(node: Node) -> list[dict]:
    """Of `show crypto ikev2 session`: established IKE SAs, with "children"."""
    return [sa for session in node.show("crypto", "ikev2", "session")["sessions"] for sa in session["sas"] if sa["state"] == "READY"]


def children(node: Node, lingering: bool = False) -> list[dict]:
    """Child SAs that send. The inbound SA of one that was rekeyed or deleted may linger a while for packets on their way."""
    return [child for sa in ike_sas(node) for child in sa["children"] if child["outbound"] or lingering]


def wait_up(node: Node, count: int = 1, seconds: float = 8) -> list[dict]:
    wait_until(lambda: len(children(node)) == count, seconds, f"{count} child SAs at {node.name}")
    return children(node)


def wait_down(node: Node, seconds: float = 8) -> None:
    wait_until(lambda: not ike_sas(node), seconds, f"{node.name} has no IKE SA left")


def diagnosis(node: Node, peer: str | None = None) -> list[dict]:
    """Failed attempts, newest first."""
    return node.show("crypto", "ikev2", "diagnose", *(["peer", peer] if peer else []))["attempts"]
