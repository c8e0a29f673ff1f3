"""IKEv2 with libreswan and OpenIKED over the ESP of Debian's kernel 6.1, by shared keys and by certificates: native ESP, both roles, rekeying
by both."""
import pathlib
import shlex
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

import foreign
import ike_documents
import ike_wire
import kernel
import lab as labs
import pki
import traffic
from guests import PEER_MODULES, environment
from ike_lab import IkeLab, PSK, inside
from ike_wire import CREATE_CHILD, SA_INIT
from image import GUEST, Image
from netns import wait_until
from run_vm import Guest

pytestmark = pytest.mark.vm
MODULES = [*PEER_MODULES, "cbc", "hmac", "sha256_generic", "af_key"]
GUEST_BOOTS = 90
OURS, THEIRS = labs.OUT4[1], labs.OUT4[2]
ROLES = {"postern": "initiator", "the other": "responder"}
FAR, NEAR = labs.host(2, "map4"), labs.host(1, "map4")


def image(start: str) -> Image:
    made = Image(kernel.obtain(), MODULES)
    made.add_file(GUEST / "foreign", "scenario")
    made.add_text(start, "start")
    made.add_text(environment({"OWN4": THEIRS, "PEER4": OURS, "INNER4": FAR, "PEER_NET4": inside(1)}), "etc/scenario.env")
    made.add_text("root:x:0:0::/:/bin/sh\n_iked:x:101:101::/run/iked:/bin/false\n", "etc/passwd")
    made.add_text("root:x:0:\n_iked:x:101:\n", "etc/group")
    return made


class Foreign(IkeLab):
    """hA - N1 - W - the guest, which is gateway and far host in one."""

    def __init__(self, scratch, files: Image):
        super().__init__(scratch)
        try:
            self.n2.ip("link", "del", "out0")
            self.w.ip("tuntap", "add", "w2", "mode", "tap")
            self.w.ip("link", "set", "w2", "up", "master", "br0")
            with files:
                self.guest = self.enter_context(Guest(kernel.obtain(), files, netns=self.w.name, tap="w2"))
            self.left = self.node(1, self.document())
            self.left.start()
            self.guest.wait_for("READY", GUEST_BOOTS)
        except BaseException:
            self.close()
            raise

    IKE, ESP = "aes256-sha256-modp2048", "aes128gcm16"

    def document(self, **options) -> dict:
        return ike_documents.gateway_document(1, flows=("map4",), ike=self.IKE, esp=self.ESP, **options)

    def unacceptable(self) -> dict:
        """The same with something that the other must refuse."""
        return self.document(psk="another one")

    def run(self, command: str, seconds: float = 30) -> str:
        """In the guest; what it printed."""
        before = len(self.guest.console)
        self.guest.say(command)
        self.guest.wait_for("DONE", seconds)
        return "\n".join(self.guest.console[before:])

    def initiate(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        raise NotImplementedError

    def rekey_child(self) -> None:
        raise NotImplementedError


class Libreswan(Foreign):
    def __init__(self, scratch):
        root = foreign.unpacked("libreswan")
        start = ("mkdir -p /run/pluto /var/lib/ipsec /etc/ipsec.d\n"
                 "pluto --config /etc/ipsec.conf --nofork --stderrlog --no-dnssec --nssdir /etc/ipsec.d --secretsfile /etc/ipsec.secrets "
                 "--rundir /run/pluto >/tmp/daemon.log 2>&1 &\n"
                 "for try in $(seq 100); do [ -S /run/pluto/pluto.ctl ] && break; sleep 0.2; done\n"
                 "whack --listen && " + self.definition())
        files = image(start + "\n")
        foreign.add_programs(files, root, "usr/libexec/ipsec/pluto", "usr/libexec/ipsec/whack", "usr/libexec/ipsec/addconn")
        for library in ("libsoftokn3.so", "libfreebl3.so", "libfreeblpriv3.so"):
            foreign.add_library(files, root, library)
        files.add_text("config setup\n", "etc/ipsec.conf")
        files.add_text(self.secrets(), "etc/ipsec.secrets", 0o600)
        keys = files.root / "etc/ipsec.d"
        keys.mkdir(parents=True)
        self.fill(root, keys, scratch)
        super().__init__(scratch, files)

    def secrets(self) -> str:
        return f'{THEIRS} {OURS} : PSK "{PSK}"\n'

    def fill(self, root: pathlib.Path, keys: pathlib.Path, scratch: pathlib.Path) -> None:
        """NSS keeps a database also where there is nothing in it."""
        self.nss(root, "certutil", "-N", "-d", f"sql:{keys}", "--empty-password")

    @staticmethod
    def nss(root: pathlib.Path, tool: str, *words) -> None:
        subprocess.run([root / "usr/bin" / tool, *words], check=True, env=foreign.environment(root), stdout=subprocess.DEVNULL)

    def ends(self) -> tuple[str, str, str]:
        """How both authenticate, what is said of its end, and of ours."""
        return "--psk", "", ""

    def definition(self) -> str:
        how, own, other = self.ends()
        end = "--updown /bin/true"
        return shlex.join(shlex.split(
            f"whack --name postern --ikev2 --encrypt --tunnel {how} --ike aes256-sha2_256;modp2048 --esp aes_gcm128 --encaps no --no-esn "
            f"--host {THEIRS} {own} --client {inside(2)} {end} --to --host {OURS} {other} --client {inside(1)} {end}"))

    def initiate(self) -> None:
        self.run("whack --name postern --initiate")

    def end(self) -> None:
        self.run("whack --name postern --terminate")

    def rekey_child(self) -> None:
        self.run("whack --name postern --rekey-ipsec")

    def rekey_ike(self) -> None:
        self.run("whack --name postern --rekey-ike")


class WithCertificates:
    """Both ends have one of the same CA, of the kind KEYS; the other's is about THEM."""
    KEYS, US, THEM = "rsa", "left.example.org", "right.example.org"

    def make(self, scratch: pathlib.Path) -> None:
        self.files = scratch / "pki"
        self.files.mkdir(parents=True, exist_ok=True)
        self.ca = pki.Authority("Foreign CA", kind=self.KEYS)
        self.theirs = self.ca.issue("right", [self.THEM, THEIRS], self.KEYS)
        self.ca_file = self.ca.write(self.files, "ca")[0]

    def document(self, issuer: pki.Authority | None = None, trusted: pki.Authority | None = None, **options) -> dict:
        """`issuer`: of our own certificate, instead of the CA that the other trusts; `trusted`: by us, instead of the other's."""
        certificate, key = (issuer or self.ca).issue("left", [self.US, OURS], self.KEYS).write(self.files, "strange" if issuer else "own")
        profile = {"pki_trustpoints": ["TP"], "authentication": {"local": {"method": "signature"}, "remote": {"method": "signature"}}}
        made = super().document(profile=profile, local_id=self.US, remote_id=self.THEM, **options)
        ca_file = trusted.write(self.files, "strange-ca")[0] if trusted else self.ca_file
        made["pki"] = {"trustpoints": [{"name": "TP", "ca_certificates": [ca_file], "certificate": certificate, "key": {"file": key}}]}
        return made

    def unacceptable(self) -> dict:
        return self.document(issuer=pki.Authority("Unknown CA", kind=self.KEYS))

    def unbelieving(self) -> dict:
        """We trust nobody whom the other can be."""
        return self.document(trusted=pki.Authority("Unknown CA", kind=self.KEYS))


class LibreswanCertificates(WithCertificates, Libreswan):
    METHOD = "--rsasig"

    def __init__(self, scratch):
        self.make(scratch)
        super().__init__(scratch)

    def secrets(self) -> str:
        return ""

    def fill(self, root: pathlib.Path, keys: pathlib.Path, scratch: pathlib.Path) -> None:
        super().fill(root, keys, scratch)
        database = f"sql:{keys}"
        self.nss(root, "certutil", "-A", "-d", database, "-n", "ca", "-t", "CT,,", "-i", self.ca_file)
        archive = self.files / "theirs.p12"
        archive.touch(mode=0o600)
        archive.write_bytes(pkcs12.serialize_key_and_certificates(b"right", self.theirs.key, self.theirs.certificate, None, serialization.NoEncryption()))
        self.nss(root, "pk12util", "-i", archive, "-d", database, "-W", "")

    def ends(self) -> tuple[str, str, str]:
        return self.METHOD, f"--id @{self.THEM} --cert right --sendcert always", f"--id @{self.US} --ca %same"


class LibreswanEcdsa(LibreswanCertificates):
    KEYS, METHOD = "ecdsa256", "--ecdsa"


class OpenIked(Foreign):
    """Its child SAs live for a quarter of a minute: it rekeys by itself. Over PF_KEY it has no AEAD, and the kernel cuts HMAC-SHA-256 to 96 bits there.
    With MOBIKE it puts ESP into UDP where there is no NAT."""
    ESP = "aes128-sha512"
    IKE_LIFETIME = ""  # none: then it rekeys no IKE SA

    def __init__(self, scratch):
        root = foreign.unpacked("openiked")
        start = ("mkdir -p /run/iked /var/run /var/empty /etc/iked/crls /etc/iked/pubkeys\n"
                 f"{self.begun('passive')}")
        files = image(start + "\n")
        foreign.add_programs(files, root, "usr/sbin/iked", "usr/sbin/ikectl")
        foreign.add_library(files, root, "ossl-modules/legacy.so")
        files.add_text('set nomobike\nmode = "passive"\n'
                       f'ikev2 "postern" $mode esp from {inside(2)} to {inside(1)} local {THEIRS} peer {OURS} '
                       "ikesa enc aes-256 prf hmac-sha2-256 auth hmac-sha2-256 group modp2048 childsa enc aes-128 auth hmac-sha2-512 "
                       f"{self.ends()}\n", "etc/iked.conf", 0o600)
        for directory in ("private", "ca", "certs"):
            (files.root / "etc/iked" / directory).mkdir(parents=True)
        self.fill(files.root / "etc/iked")
        super().__init__(scratch, files)

    @staticmethod
    def begun(mode: str) -> str:
        """It answers before it has all of its configuration, and then answers nonsense; the last of it is `stickyaddress`."""
        return (f"iked -dvv -D mode={mode} >/tmp/daemon.log 2>&1 </dev/null & echo $! >/tmp/iked.pid\n"
                "for try in $(seq 300); do grep -q stickyaddress /tmp/daemon.log && break; sleep 0.1; done; grep -q stickyaddress /tmp/daemon.log")

    def ends(self) -> str:
        return f'srcid {THEIRS} dstid {OURS} {self.IKE_LIFETIME} lifetime 15 psk "{PSK}"'

    def fill(self, directory: pathlib.Path) -> None:
        """It has a key of its own also where it does not use it."""
        self.put_key(directory, pki.make_key("ecdsa256"))

    @staticmethod
    def put_key(directory: pathlib.Path, key) -> None:
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        (directory / "private/local.key").write_bytes(pem)
        (directory / "private/local.key").chmod(0o600)
        (directory / "local.pub").write_bytes(public)

    def initiate(self) -> None:
        ended = "kill $(cat /tmp/iked.pid); for try in $(seq 100); do kill -0 $(cat /tmp/iked.pid) || break; sleep 0.1; done"
        self.run(f"{ended}; {self.begun('active')}".replace("\n", "; "))

    def end(self) -> None:
        self.run("ikectl reset sa")

    def rekey_child(self) -> None:
        """By itself, when most of the quarter of a minute is over."""


class OpenIkedRekeys(OpenIked):
    IKE_LIFETIME = "ikelifetime 20"


class OpenIkedCertificates(WithCertificates, OpenIked):
    """It signs by RFC 7427, with the one key that it has, and takes the certificate whose subjectAltName is its srcid."""

    def __init__(self, scratch):
        self.make(scratch)
        super().__init__(scratch)

    def ends(self) -> str:
        return f"srcid {self.THEM} dstid {self.US} lifetime 15"

    def fill(self, directory: pathlib.Path) -> None:
        self.put_key(directory, self.theirs.key)
        (directory / "ca/ca.crt").write_text(self.ca.pem)
        (directory / f"certs/{self.THEM}.crt").write_text(self.theirs.pem)


class OpenIkedEcdsa(OpenIkedCertificates):
    KEYS = "ecdsa256"


WORLDS = {"libreswan": Libreswan, "libreswan, certificates": LibreswanCertificates,
          "libreswan, ECDSA certificates": LibreswanEcdsa, "openiked": OpenIked,
          "openiked, RSA certificates": OpenIkedCertificates, "openiked, ECDSA certificates": OpenIkedEcdsa}


@pytest.fixture(scope="module", params=WORLDS.values(), ids=WORLDS)
def world(request, tmp_path_factory):
    with request.param(tmp_path_factory.mktemp("foreign")) as made:
        yield made


def test_a_wrong_key_is_refused(world):
    """IKE-52: nothing comes up, and the diagnosis names the key."""
    world.left.apply(world.unacceptable())
    assert traffic.ping(world.hA, FAR, 3, source=NEAR) == 0
    wait_until(lambda: any("refused our authentication" in one["summary"] or "does not verify" in one["summary"]
                           for one in ike_documents.diagnosis(world.left)), 20, "the diagnosis")
    assert not ike_documents.ike_sas(world.left)
    world.left.apply(world.document())


@pytest.mark.parametrize("by", ["postern", "the other"])
def test_native_esp(world, by):
    """Either role: set up, traffic both ways in protocol 50, the child rekeyed by the other and the IKE SA by us, ended."""
    world.left.postern("clear", "crypto", "session")
    wait_until(lambda: not ike_documents.ike_sas(world.left), 10, "nothing is left of what was before")
    with world.capture("not tcp") as capture:
        if by == "the other":
            world.initiate()
            wait_until(lambda: ike_documents.ike_sas(world.left), 20, "the other has set it up")
        traffic.ping_until(world.hA, FAR, 40, source=NEAR)
        assert traffic.ping(world.hA, FAR, 5, source=NEAR) == 5
        sa = ike_documents.ike_sas(world.left)[0]
        assert sa["role"] == ROLES[by], world.guest.console[-40:]
        before = {child["esp_spi_in"] for child in ike_documents.children(world.left)}
        world.rekey_child()
        wait_until(lambda: {child["esp_spi_in"] for child in ike_documents.children(world.left)} - before, 60, "a new child SA")
        assert traffic.ping(world.hA, FAR, 5, source=NEAR) == 5
        old = ike_documents.ike_sas(world.left)[0]["local_spi"]
        world.left.postern("crypto", "session", "rekey")
        wait_until(lambda: [one["local_spi"] for one in ike_documents.ike_sas(world.left)] not in ([], [old]), 20, "a new IKE SA")
        assert traffic.ping(world.hA, FAR, 5, source=NEAR) == 5
        world.end()
        wire = ike_wire.read(capture.frames(), gateways=(OURS, THEIRS))
    wire.assert_protected(20)
    assert not any(in_udp for _, _, _, in_udp in wire.esp), "no NAT, so no UDP around it"
    assert wire.exchanges(SA_INIT) and wire.exchanges(CREATE_CHILD)


def test_rekeys_the_other_way_round(world):
    """The child by us, when its volume is used up, and the IKE SA by the other; packets pass before and after. OpenIKED rekeys IKE SAs by
    their lifetime alone: test_openiked_rekeys_the_ike_sa."""
    world.left.apply(world.document(association={"lifetime_kilobytes": 2560}))
    world.left.postern("clear", "crypto", "session")
    wait_until(lambda: not ike_documents.ike_sas(world.left), 10, "nothing is left of what was before")
    traffic.ping_until(world.hA, FAR, 40, source=NEAR)
    with world.capture("udp") as capture:
        before = {child["esp_spi_in"] for child in ike_documents.children(world.left)}
        traffic.ping(world.hA, FAR, 1500, size=1300, source=NEAR, interval=0.002)
        wait_until(lambda: before.isdisjoint({child["esp_spi_in"] for child in ike_documents.children(world.left)}), 20, "a new child SA")
        assert traffic.ping(world.hA, FAR, 5, source=NEAR) == 5
        asked = ike_wire.read(capture.frames(), gateways=(OURS, THEIRS)).exchanges(CREATE_CHILD)
    assert OURS in {one.source for one in asked}
    if isinstance(world, Libreswan):
        with world.capture("udp") as capture:
            old = ike_documents.ike_sas(world.left)[0]["local_spi"]
            world.rekey_ike()
            wait_until(lambda: [one["local_spi"] for one in ike_documents.ike_sas(world.left)] not in ([], [old]), 20, "a new IKE SA")
            assert traffic.ping(world.hA, FAR, 5, source=NEAR) == 5
            asked = ike_wire.read(capture.frames(), gateways=(OURS, THEIRS)).exchanges(CREATE_CHILD)
        assert [one.source for one in asked] == [THEIRS]
    world.end()
    world.left.apply(world.document())


@pytest.mark.slow
def test_openiked_rekeys_the_ike_sa(tmp_path):
    """Twice, when its lifetime is nearly over; the children go over to the successor, which lives on, and packets pass."""
    with OpenIkedRekeys(tmp_path) as world:
        traffic.ping_until(world.hA, FAR, 40, source=NEAR)
        for _ in range(2):
            with world.capture("udp") as capture:
                old = ike_documents.ike_sas(world.left)[0]["local_spi"]
                wait_until(lambda: [one["local_spi"] for one in ike_documents.ike_sas(world.left)] not in ([], [old]) and
                           len(ike_documents.ike_sas(world.left)) == 1, 40, "a new IKE SA alone")
                assert traffic.ping(world.hA, FAR, 5, source=NEAR) == 5
                wire = ike_wire.read(capture.frames(), gateways=(OURS, THEIRS))
            assert {one.source for one in wire.exchanges(CREATE_CHILD)} == {THEIRS} and not wire.exchanges(SA_INIT)
            wait_until(lambda: len(ike_documents.children(world.left)) == 1, 10, "one child alone")


@pytest.mark.parametrize("by", ["postern", "the other"])
def test_a_certificate_of_another_ca_is_not_believed(world, by):
    """The other's: nothing comes up, and the diagnosis names the certificate."""
    if not isinstance(world, WithCertificates):
        pytest.skip("by shared keys")
    world.left.apply(world.unbelieving())
    if by == "the other":
        world.initiate()
    assert traffic.ping(world.hA, FAR, 3, source=NEAR) == 0
    wait_until(lambda: any(one["failure"] == "certificate" and "CN=right" in one["summary"] and one["role"] == ROLES[by]
                           for one in ike_documents.diagnosis(world.left)), 20, "the diagnosis")
    assert not ike_documents.ike_sas(world.left)
    world.end()
