"""Native ESP against an independent peer: the ESP of Debian's kernel 6.1, manual keys, in a VM joined to the lab by a TAP."""
import secrets

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.layers.l2 import Ether

import kernel
from documents import fresh_pair
from guests import GUEST_MAC, KERNEL_AUTH, peer_image
from netns import Lab
from oracle import association, open_esp
from run_vm import Guest
from wire import Wire

OWN4, OWN6, PEER4, PEER6 = "192.0.2.2", "2001:db8:ff::2", "192.0.2.1", "2001:db8:ff::1"
INNER4, INNER6 = "10.2.0.2", "2001:db8:2::2"
NEAR4, NEAR6 = "10.1.0.2", "2001:db8:1::2"
MAC = "52:54:00:00:00:01"
GCM_SPI = 0x3001
pytestmark = pytest.mark.vm


class PeerLab(Lab):
    """A namespace whose only device is the guest's cable; `wire` speaks raw Ethernet on it."""

    def __init__(self, scratch, transforms):
        super().__init__(scratch)
        self.keys = fresh_pair(0x1001, transforms)
        self.gcm_key = secrets.token_bytes(20)
        try:
            self.p = self.namespace("P")
            self.p.ip("tuntap", "add", "tap0", "mode", "tap")
            self.p.ip("link", "set", "tap0", "address", MAC, "up")
            self.guest = self.enter_context(self._guest())
            self.guest.wait_for("READY", 60)
            self.wire = self.enter_context(Wire(self.p, "tap0", MAC, GUEST_MAC))
        except BaseException:
            self.close()
            raise

    def _guest(self) -> Guest:
        inbound, outbound = self.keys.to_right, self.keys.to_left
        name, bits = KERNEL_AUTH[inbound.transforms[1]]
        values = {"OWN4": OWN4, "OWN6": OWN6, "PEER4": PEER4, "PEER6": PEER6, "INNER4": INNER4, "INNER6": INNER6, "PEER_MAC": MAC,
                  "PEER_NET4": "10.1.0.0/16", "PEER_NET6": "2001:db8:1::/64", "AUTH": name, "AUTH_BITS": bits,
                  "SPI_IN": inbound.spi, "SPI_OUT": outbound.spi, "IN_ENC": "0x" + inbound.cipher_key.hex(),
                  "IN_AUTH": "0x" + inbound.auth_key.hex(), "OUT_ENC": "0x" + outbound.cipher_key.hex(),
                "OUT_AUTH": "0x" + outbound.auth_key.hex(), "SPI_GCM_IN": GCM_SPI, "GCM_KEY": "0x" + self.gcm_key.hex()}
        with peer_image(kernel.obtain(), values) as image:
            return Guest(kernel.obtain(), image, netns=self.p.name, tap="tap0")


@pytest.fixture(scope="module", params=[("esp-aes", "esp-sha256-hmac"), ("esp-aes 256", "esp-sha-hmac")], ids=lambda t: t[1])
def lab(request, module_scratch):
    with PeerLab(module_scratch / request.param[1], request.param) as made:
        yield made


def echo4(sequence: int):
    return IP(src=NEAR4, dst=INNER4) / ICMP(id=7, seq=sequence) / b"to the kernel"


def answered(lab, sealed, sequence: int, seconds: float = 5) -> bool:
    """Whether the guest's kernel opened `sealed` and answered the echo inside with ESP of its own."""
    lab.wire.send(sealed)

    def is_answer(packet) -> bool:
        if not packet.haslayer(ESP):
            return False
        inner = open_esp(lab.keys.to_left, bytes(packet[ESP]))
        if inner.haslayer(ICMPv6EchoReply):
            return inner[ICMPv6EchoReply].seq == sequence
        return inner.haslayer(ICMP) and inner[ICMP].type == 0 and inner[ICMP].seq == sequence

    return lab.wire.first(is_answer, seconds) is not None


def test_kernel_opens_what_scapy_seals(lab):
    sa = association(lab.keys.to_right, PEER4, OWN4)
    assert answered(lab, sa.encrypt(echo4(1), seq_num=1), 1)


def test_kernel_opens_ipv6_in_ipv6(lab):
    sa = association(lab.keys.to_right, PEER6, OWN6)
    echo = IPv6(src=NEAR6, dst=INNER6) / ICMPv6EchoRequest(id=7, seq=2, data=b"six")
    assert answered(lab, sa.encrypt(echo, seq_num=2), 2)


def test_kernel_refuses_a_damaged_icv(lab):
    sa = association(lab.keys.to_right, PEER4, OWN4)
    damaged = bytearray(bytes(sa.encrypt(echo4(3), seq_num=3)))
    damaged[-1] ^= 1
    assert not answered(lab, IP(bytes(damaged)), 3, seconds=1)
    assert answered(lab, sa.encrypt(echo4(4), seq_num=4), 4), "and the peer is still there"


def test_kernel_opens_gcm(lab):
    """RFC 4106 with the kernel's own cipher: the guest has what the later negotiated SAs need."""
    sa = SecurityAssociation(ESP, spi=GCM_SPI, crypt_algo="AES-GCM", crypt_key=lab.gcm_key, tunnel_header=IP(src=PEER4, dst=OWN4))
    assert answered(lab, sa.encrypt(echo4(5), seq_num=5), 5)
