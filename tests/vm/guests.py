"""The two kinds of guest: a peer with the kernel's ESP, and a host that runs our node."""
import json
import pathlib

from image import GUEST, Image
from kernel import Kernel

ESP_MODULES = """esp4 esp6 xfrm_user gcm ghash-generic ctr seqiv sha512_generic drbg authenc authencesn echainiv
                 md5 xcbc cmac des_generic crypto_null""".split()
PEER_MODULES = ["virtio_net", "virtio_pci", *ESP_MODULES]
NODE_MODULES = ["veth", "tun", "sch_ingress", "cls_bpf", *ESP_MODULES]
PROTECTION_MODULES = [*NODE_MODULES, "ah4", "ah6", "ipcomp", "ipcomp6", "xfrm4_tunnel", "xfrm6_tunnel"]
STRONGSWAN_MODULES = [*PEER_MODULES, "ah4", "ah6", "ipcomp", "ipcomp6", "xfrm4_tunnel", "xfrm6_tunnel"]
STACK_MODULES = [*NODE_MODULES, "bonding", "8021q", "vrf", "bridge"]
GUEST_MAC = "52:54:00:00:00:02"
KERNEL_AUTH = {"esp-sha-hmac": ("hmac(sha1)", 96), "esp-sha256-hmac": ("hmac(sha256)", 128), "esp-sha384-hmac": ("hmac(sha384)", 192),
               "esp-sha512-hmac": ("hmac(sha512)", 256), "esp-md5-hmac": ("hmac(md5)", 96), "esp-aes-xcbc-mac": ("xcbc(aes)", 96),
               "esp-aes-cmac": ("cmac(aes)", 96)}
KERNEL_CIPHER = {"esp-3des": "cbc(des3_ede)", "esp-des": "cbc(des)", "esp-null": "ecb(cipher_null)"}  # else cbc(aes)


def environment(values: dict) -> str:
    return "".join(f"{key}='{value}'\n" for key, value in values.items())


def scenario_image(kernel: Kernel, scenario: str, modules: list[str], values: dict) -> Image:
    """Keys are in a temporary file of root's and in the guest's memory."""
    image = Image(kernel, modules)
    image.add_file(GUEST / scenario, "scenario")
    for part in ("xfrm", "lab"):
        image.add_file(GUEST / part, part)
    image.add_text(environment(values), "etc/scenario.env", 0o600)
    return image


def peer_image(kernel: Kernel, values: dict) -> Image:
    return scenario_image(kernel, "peer", PEER_MODULES, values)


def node_image(kernel: Kernel, values: dict, document: dict, programs: pathlib.Path, *, scenario: str = "node", modules: list[str] = NODE_MODULES,
               more: dict[str, dict] | None = None) -> Image:
    """The document is /etc/n1.json in the guest; those of `more` stand beside it under their names."""
    image = scenario_image(kernel, scenario, modules, values)
    for name, one in {"n1": document, **(more or {})}.items():
        image.add_text(json.dumps(one), f"etc/{name}.json", 0o600)
    image.add_text("root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n", "etc/passwd")
    image.add_text("root:x:0:\nnogroup:x:65534:\n", "etc/group")
    for program in ("posternd", "postern-worker", "postern-ike", "postern"):
        image.add_program(programs / program, "bin", strip=True)
    return image
