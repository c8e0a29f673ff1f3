"""Extended sequence numbers against Debian's kernel (RFC 4303 section 2.2.1): every SA stands before the wrap of the low half on both
sides, what we seal crosses it and is answered, and the kernel's answers cross it too."""
import contextlib
import pathlib
import subprocess

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.ipsec import ESP

import kernel
from guests import GUEST_MAC, PEER_MODULES, scenario_image
from netns import Lab
from node import PROGRAMS
from run_vm import Guest
from test_vm_peer import INNER4, MAC, OWN4, PEER4
from wire import Wire

pytestmark = pytest.mark.vm
WRAP = 1 << 32
BEFORE = WRAP - 5  # the last number that was used or seen
# Words of a transform set: cipher key bytes (with salt), authenticator key bytes, words of `ip xfrm`
ROWS = {
    "esp-aes+esp-sha-hmac": (16, 20, "enc 'cbc(aes)' {cipher} auth-trunc 'hmac(sha1)' {auth} 96"),
    "esp-aes 256+esp-sha256-hmac": (32, 32, "enc 'cbc(aes)' {cipher} auth-trunc 'hmac(sha256)' {auth} 128"),
    "esp-aes 256+esp-sha512-hmac": (32, 64, "enc 'cbc(aes)' {cipher} auth-trunc 'hmac(sha512)' {auth} 256"),
    "esp-gcm": (20, 0, "aead 'rfc4106(gcm(aes))' {cipher} 128"),
    "esp-gcm 256": (36, 0, "aead 'rfc4106(gcm(aes))' {cipher} 128"),
    "esp-chacha20-poly1305": (36, 0, "aead 'rfc7539esp(chacha20,poly1305)' {cipher} 128"),
}
MODULES = [*PEER_MODULES, "cbc", "hmac", "sha1_generic", "sha256_generic", "sha512_generic", "chacha_generic", "poly1305_generic", "chacha20poly1305"]


def keys(transform: str) -> tuple[bytes, bytes]:
    cipher_bytes, auth_bytes, _ = ROWS[transform]
    return bytes(range(1, cipher_bytes + 1)), bytes(range(101, 101 + auth_bytes))


def number(transform: str) -> int:
    return list(ROWS).index(transform) + 1


class ExtendedLab(Lab):
    """A namespace whose only device is the guest's cable; `wire` speaks raw Ethernet on it."""

    def __init__(self, scratch):
        super().__init__(scratch)
        rows = []
        for transform, (_, _, words) in ROWS.items():
            cipher, auth = keys(transform)
            rows.append(f"{number(transform)} {0x4000 + number(transform)} {words.format(cipher='0x' + cipher.hex(), auth='0x' + auth.hex())}")
        # The file is sourced: what stands in single quotes there may hold none.
        values = {"OWN4": OWN4, "PEER4": PEER4, "INNER4": INNER4, "PEER_MAC": MAC, "PEER_NET4": "10.1.0.0/16", "BEFORE_WRAP": BEFORE,
                  "ROWS": "\n".join(rows).replace("'", '"')}
        try:
            self.p = self.namespace("P")
            self.p.ip("tuntap", "add", "tap0", "mode", "tap")
            self.p.ip("link", "set", "tap0", "address", MAC, "up")
            with scenario_image(kernel.obtain(), "extended", MODULES, values) as image:
                self.guest = self.enter_context(Guest(kernel.obtain(), image, netns=self.p.name, tap="tap0"))
            self.guest.wait_for("READY", 60)
            self.wire = self.enter_context(Wire(self.p, "tap0", MAC, GUEST_MAC))
        except BaseException:
            self.close()
            raise


@pytest.fixture(scope="module")
def lab(module_scratch):
    with ExtendedLab(module_scratch) as made:
        yield made


class Pipe(contextlib.AbstractContextManager):
    """Our pipeline behind standard input and output, its SAs at `start`."""

    def __init__(self, transform: str, start: int, spi: int):
        cipher, auth = keys(transform)
        words = {"transform": transform, "cipher": cipher.hex(), "local": PEER4, "remote": OWN4, "esn": start, "spi": spi}
        if auth:
            words["auth"] = auth.hex()
        self._process = subprocess.Popen([pathlib.Path(PROGRAMS) / "esp_pipe", *(f"{key}={value}" for key, value in words.items())],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __exit__(self, *_) -> None:
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def ask(self, command: str, packet: bytes) -> tuple[str, bytes]:
        self._process.stdin.write(f"{command} {packet.hex()}\n")
        self._process.stdin.flush()
        what, value = self._process.stdout.readline().split()
        return what, value.encode() if what == "drop" else bytes.fromhex(value)


def answer(lab, spi: int, sealed: bytes, seconds: float = 5):
    """The guest's ESP after it got `sealed`."""
    lab.wire.drain()
    lab.wire.send(IP(sealed))
    return lab.wire.first(lambda one: one.haslayer(ESP) and one[ESP].spi == spi and one[IP].src == OWN4, seconds)


@pytest.mark.parametrize("transform", ROWS)
def test_across_the_wrap(lab, transform):
    spi, near = 0x4000 + number(transform), f"10.1.{number(transform)}.2"
    with Pipe(transform, BEFORE + 1, spi) as ours, Pipe(transform, 5 * WRAP + 100, spi) as astray:
        for count in range(1, 13):
            echo = IP(src=near, dst=INNER4) / ICMP(id=9, seq=count) / b"across the wrap"
            what, sealed = ours.ask("out", bytes(echo))
            assert what == "wire" and IP(sealed)[ESP].seq == (BEFORE + count) % WRAP
            back = answer(lab, spi, sealed)
            assert back is not None, f"packet {count} was not answered"
            assert back[ESP].seq == (BEFORE + count) % WRAP, "the kernel's own numbers cross it as well"
            what, plain = ours.ask("in", bytes(back[IP]))
            assert what == "plain", plain
            assert IP(plain)[ICMP].type == 0 and IP(plain)[ICMP].seq == count
            if count in (2, 10):
                assert ours.ask("in", bytes(back[IP])) == ("drop", b"replayed")
                assert answer(lab, spi, sealed, seconds=0.3) is None, "nor does the kernel take it twice"
        # Another high half: the kernel's ICV does not verify, and ours does not verify what the kernel sealed.
        what, wrong = astray.ask("out", bytes(IP(src=near, dst=INNER4) / ICMP(id=9, seq=99)))
        assert what == "wire" and answer(lab, spi, wrong, seconds=0.5) is None
        assert astray.ask("in", bytes(back[IP])) == ("drop", b"bad_icv")
        what, sealed = ours.ask("out", bytes(IP(src=near, dst=INNER4) / ICMP(id=9, seq=100)))
        assert answer(lab, spi, sealed) is not None, "and the SA lives on"
