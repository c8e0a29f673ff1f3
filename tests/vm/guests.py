"""The two kinds of guest: a peer with the kernel's ESP, and a host that runs our node."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from image import GUEST, Image
from kernel import Kernel

ESP_MODULES = """esp4 esp6 xfrm_user gcm ghash-generic ctr seqiv sha512_generic drbg authenc echainiv""".split()
PEER_MODULES = ["virtio_net", "virtio_pci", *ESP_MODULES]
NODE_MODULES = ["veth", "tun", "sch_ingress", "cls_bpf", *ESP_MODULES]
GUEST_MAC = "52:54:00:00:00:02"


def environment(values: dict) -> str:
    return "".join(f"{key}='{value}'\n" for key, value in values.items())


def peer_image(kernel: Kernel, values: dict) -> Image:
    """Scenario guest/peer with its addresses and keys. Keys are in a temporary file of root's and in the guest's memory."""
    image = Image(kernel, PEER_MODULES)
    image.add_file(GUEST / "peer", "scenario")
    image.add_text(environment(values), "etc/peer.env", 0o600)
    return image
