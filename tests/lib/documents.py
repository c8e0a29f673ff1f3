"""Configuration documents for the labs, with fresh random keys. The one place that knows the document's shape."""
import copy
import dataclasses
import json
import os
import pathlib
import secrets

from mutation import mutated

CIPHER_BYTES = {"esp-aes": 16, "esp-aes 192": 24, "esp-aes 256": 32, "esp-3des": 24, "esp-des": 8, "esp-null": 0}
AUTH_BYTES = {"esp-sha-hmac": 20, "esp-sha256-hmac": 32, "esp-sha384-hmac": 48, "esp-sha512-hmac": 64, "esp-md5-hmac": 16,
              "esp-aes-xcbc-mac": 16, "esp-aes-cmac": 16}
SCAPY_AUTH = {"esp-sha-hmac": "HMAC-SHA1-96", "esp-sha256-hmac": "SHA2-256-128"}


@dataclasses.dataclass(frozen=True)
class Sa:
    """One direction with manual keys."""
    spi: int
    cipher_key: bytes
    auth_key: bytes
    transforms: tuple[str, str] = ("esp-aes", "esp-sha256-hmac")

    def as_json(self) -> dict:
        cipher = {"cipher": self.cipher_key.hex()} if self.cipher_key else {}
        return {"esp": {"spi": self.spi, **cipher, "authenticator": self.auth_key.hex()}}


def fresh_sa(spi: int, transforms: tuple[str, str] = ("esp-aes", "esp-sha256-hmac")) -> Sa:
    return Sa(spi, secrets.token_bytes(CIPHER_BYTES[transforms[0]]), secrets.token_bytes(AUTH_BYTES[transforms[1]]), transforms)


@dataclasses.dataclass(frozen=True)
class Pair:
    """Both directions of a flow between the left and the right node."""
    to_right: Sa
    to_left: Sa

    def session_key(self, left: bool) -> dict:
        inbound, outbound = (self.to_left, self.to_right) if left else (self.to_right, self.to_left)
        return {"inbound": inbound.as_json(), "outbound": outbound.as_json()}


def fresh_pair(spi: int, transforms: tuple[str, str] = ("esp-aes", "esp-sha256-hmac")) -> Pair:
    return Pair(fresh_sa(spi, transforms), fresh_sa(spi + 1, transforms))


def empty(hostname: str) -> dict:
    return {"version": 1, "system": {"hostname": hostname}, "dataplane": {"plain_side": "tap"}, "acls": [],
            "ipsec": {"transform_sets": [], "profiles": []}, "crypto_maps": [], "interfaces": [], "tunnels": []}


def transform_set(document: dict, transforms: tuple[str, ...], mode: str = "tunnel") -> str:
    """Its name, once it is in the document."""
    name = "T-" + "-".join(transforms).replace("esp-", "").replace(" ", "-") + ("" if mode == "tunnel" else "-" + mode.replace(" ", "-"))
    sets = document["ipsec"]["transform_sets"]
    if all(one["name"] != name for one in sets):
        sets.append({"name": name, "transforms": list(transforms), "mode": mode})
    return name


def interface(document: dict, name: str, addresses: list[str], **more) -> dict:
    made = {"name": name, "addresses": addresses, **more}
    document["interfaces"].append(made)
    return made


def map_entry(document: dict, map_name: str, sequence: int, acl: dict, peer: str, keys: dict, transforms: tuple[str, ...],
              mode: str = "tunnel", **more) -> dict:
    """Adds the ACL and the entry, and the map itself when it is new."""
    document["acls"].append(acl)
    entry = {"sequence": sequence, "type": "ipsec-manual", "match_address": acl["name"], "peer": peer,
             "transform_set": transform_set(document, transforms, mode), "session_key": keys, **more}
    for one in document["crypto_maps"]:
        if one["name"] == map_name:
            one["entries"].append(entry)
            return entry
    document["crypto_maps"].append({"name": map_name, "entries": [entry]})
    return entry


def permit(name: str, source: str, destination: str, protocol: str | None = None, **more) -> dict:
    v6 = ":" in source + destination
    rule = {"action": "permit", "protocol": protocol or ("ipv6" if v6 else "ip"), "source": source, "destination": destination, **more}
    return {"name": name, "rules": [rule]}


def tunnel(document: dict, number: int, addresses: list[str], mode: str, source: str, destination: str, keys: dict,
           transforms: tuple[str, str], routes: list[str], **more) -> dict:
    profile = f"P-{transform_set(document, transforms)[2:]}"
    profiles = document["ipsec"]["profiles"]
    if all(one["name"] != profile for one in profiles):
        profiles.append({"name": profile, "transform_sets": [transform_set(document, transforms)]})
    made = {"number": number, "addresses": addresses, "mode": mode, "source": source, "destination": destination,
            "protection": {"profile": profile, "session_key": keys}, "routes": routes, **more}
    document["tunnels"].append(made)
    return made


def write(document: dict, path: pathlib.Path) -> pathlib.Path:
    """What a node reads. Holds keys: mode 0600 from the first byte."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        json.dump(mutated(document), out, indent=2)
    return path


def variant(document: dict, **top_level) -> dict:
    """A deep copy with some top-level members merged or replaced."""
    made = copy.deepcopy(document)
    for key, value in top_level.items():
        if isinstance(value, dict) and isinstance(made.get(key), dict):
            made[key].update(value)
        else:
            made[key] = value
    return made
