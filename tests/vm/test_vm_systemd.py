"""The units as shipped, under Debian's systemd as the first process of a guest."""
import json

import pytest

import documents
import kernel
import lab
from guests import KERNEL_AUTH, NODE_MODULES, environment
from node import PROGRAMS
from run_vm import Guest
from systemd_image import SystemdImage

pytestmark = pytest.mark.vm
TRANSFORMS = ("esp-aes", "esp-sha256-hmac")
CHECKS = ["the network is up before the node", "what policy does not protect passes", "boot guard: nothing leaves in clear before the node runs",
          "boot guard: nothing comes in in clear", "the guard came before the network", "the node comes after the network",
          "start returns when the node says that it is ready", "the status says running", "traffic flows",
          "posternd killed: the worker goes on and is adopted", "posternd killed: traffic flows", "all killed: another worker",
          "all killed: traffic flows", "the peer counted no error", "hardening is in force",
          "the journal has what the node said, and no key", "the same search finds keys that are there", "stop", "stopped, not failed",
          "stopped: nothing leaves in clear", "stopped: nothing comes in in clear"]


def run_guest():
    pair = documents.fresh_pair(0x1001, TRANSFORMS)
    document = documents.empty("N1")
    documents.map_entry(document, "M4", 10, documents.permit("101", "10.1.0.0/16", "10.2.0.0/16"), lab.OUT4[2], pair.session_key(True), TRANSFORMS)
    documents.interface(document, "out0", [f"{lab.OUT4[1]}/24"], crypto_map="M4")
    documents.interface(document, "in0", ["10.1.0.1/16"], inside=True)
    name, bits = KERNEL_AUTH[TRANSFORMS[1]]
    values = {"AUTH": name, "AUTH_BITS": bits}
    for side, sa in (("LEFT", pair.to_left), ("RIGHT", pair.to_right)):
        values |= {f"MAP4_{side}_SPI": sa.spi, f"MAP4_{side}_ENC": "0x" + sa.cipher_key.hex(), f"MAP4_{side}_AUTH": "0x" + sa.auth_key.hex()}
    debian = kernel.obtain()
    with SystemdImage(debian, NODE_MODULES, PROGRAMS) as image:
        image.add_text(environment(values), "etc/scenario.env", 0o600)
        image.add_text(json.dumps(document), "etc/postern/N1.json", 0o600)
        image.add_text("root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n", "etc/passwd")
        image.add_text("root:x:0:\nnogroup:x:65534:\n", "etc/group")
        with Guest(debian, image, memory=1024) as guest:
            guest.wait_for("BOOTED", 120)
            return guest.run_to_exit(240)


@pytest.fixture(scope="module")
def outcome():
    return run_guest()


@pytest.mark.parametrize("check", CHECKS)
def test_check(outcome, check):
    assert check in outcome.passed, "\n".join(outcome.failed + outcome.console[-80:])


def test_nothing_failed(outcome):
    assert not outcome.failed and outcome.status == 0, "\n".join(outcome.failed + outcome.console[-80:])


def test_numbers_go_on_above_the_last(outcome):
    """The store of descriptors gave the SA state back after both processes were killed: the counters are not from zero."""
    flow = outcome.data["sa"]["interfaces"][0]["flows"][0]
    assert flow["counters"]["encaps"] >= 18
