"""A guest with Debian's kernel that runs strongSwan, beside our node: charon is driven from outside, its ESP is the kernel's (XFRM)."""
import pathlib
import socket

import balance
import ike_documents
import kernel
import lab as labs
import traffic
from guests import STRONGSWAN_MODULES, environment
from ike_lab import IkeLab, inside
from image import GUEST, Image
from netns import wait_until
from run_vm import Guest
from strongswan import CHARON, Charon, settings
from vici import Vici

VICI_PORT = 4292
PLUGINS = "random nonce openssl kdf hmac sha1 sha2 curve25519 kernel-netlink socket-default vici counters".split()
PLUGIN_DIRECTORY = pathlib.Path("/usr/lib/ipsec/plugins")
MODULES = [*STRONGSWAN_MODULES, "cbc", "hmac", "sha256_generic", "chacha20poly1305", "ccm"]
GUEST_BOOTS = 60


def image() -> Image:
    made = Image(kernel.obtain(), MODULES)
    made.add_file(GUEST / "strongswan", "scenario")
    made.add_text(environment({"OWN4": labs.OUT4[2], "OWN6": labs.OUT6[2], "PEER4": labs.OUT4[1], "PEER6": labs.OUT6[1],
                               "INNER4": labs.host(2, "map4"), "INNER6": labs.host(2, "map6"), "PEER_NET4": inside(1), "PEER_NET6": inside(1, "map6")}),
                  "etc/scenario.env")
    log = {"path": "/tmp/charon.log", "default": 1, "flush_line": "yes"}
    made.add_text(f"charon-systemd {{\n" + settings({
        "load": " ".join(PLUGINS), "retransmit_timeout": 3, "retransmit_tries": 3, "filelog": {"all": log}, "install_routes": "no",
        "plugins": {"vici": {"socket": f"tcp://{labs.OUT4[2]}:{VICI_PORT}"}}}) + "}\n", "etc/strongswan.conf")
    made.add_program(pathlib.Path(CHARON), "sbin")
    for plugin in PLUGINS:
        made.add_program(PLUGIN_DIRECTORY / f"libstrongswan-{plugin}.so", str(PLUGIN_DIRECTORY).lstrip("/"))
    made.add_text("root:x:0:0::/:/bin/sh\n", "etc/passwd")
    made.add_text("root:x:0:\n", "etc/group")
    return made


class GuestSwan(Charon):
    """charon in the guest; its control socket is reached from W, which has an address for that."""

    def __init__(self, where, guest: Guest):
        super().__init__("guest")
        self._where, self.guest = where, guest
        self._vici = self.control()

    def control(self) -> Vici:
        made = self._where.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.settimeout(10)
        made.connect((labs.OUT4[2], VICI_PORT))
        made.settimeout(None)
        return Vici(made)


class VmLab(IkeLab):
    """hA - N1 - W - the guest, which is gateway and far host in one."""

    def __init__(self, scratch):
        super().__init__(scratch)
        try:
            self.n2.ip("link", "del", "out0")
            self.w.ip("tuntap", "add", "w2", "mode", "tap")
            self.w.ip("link", "set", "w2", "up", "master", "br0")
            self.w.ip("address", "add", "192.0.2.9/24", "dev", "br0")
            with image() as files:
                self.guest = self.enter_context(Guest(kernel.obtain(), files, netns=self.w.name, tap="w2"))
            self.guest.wait_for("READY", GUEST_BOOTS)
            self.peer = GuestSwan(self.w, self.guest)
            self.callback(self.peer.close)
            self.left = self.node(1, ike_documents.gateway_document(1))
            self.left.start()
        except BaseException:
            self.close()
            raise


def comes_up(world, initiator: str, far: str, near: str, **ping) -> None:
    """By strongSwan's initiative, or by our first packet; then nothing is lost."""
    if initiator == "strongswan":
        world.peer.initiate("net", seconds=30)
    traffic.ping_until(world.hA, far, 30, source=near)
    assert traffic.ping(world.hA, far, 5, source=near, **ping) == 5


def rekeyed_and_ended(world, far: str, near: str, **options) -> None:
    """The rest of a life: the peer rekeys, traffic goes on, the peer deletes."""
    before = world.peer.children()[0]
    world.peer.rekey(child="c")
    wait_until(lambda: [one["spi-in"] for one in world.peer.children()] not in ([], [before["spi-in"]]), 20, "a new child SA")
    assert traffic.ping(world.hA, far, 5, source=near, **options) == 5
    balance.assert_balanced(world.left)
    world.peer.terminate(ike="net", seconds=30)
    wait_until(lambda: not ike_documents.ike_sas(world.left), 10, "Postern's SA is deleted as well")
