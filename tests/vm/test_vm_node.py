"""Our node on the floor, Debian's kernel 6.1: native ESP with the guest kernel's own `ip xfrm`, and every fallback that 6.1 needs."""
import pytest

import kernel
import lab
from balance import wrong
from guests import KERNEL_AUTH, KERNEL_CIPHER, node_image
from node import PROGRAMS
from run_vm import Guest

pytestmark = pytest.mark.vm
CHECKS = ["map, IPv4", "map, IPv6", "tunnel, IPv4", "tunnel, IPv6", "map, from the kernel", "map, large packets",
          "the kernel counted no xfrm error", "map, after kill -9 of the worker", "teardown leaves nothing"]


def values(flows: lab.Flows) -> dict:
    made = {}
    for flow in ("map4", "map6", "tunnel4", "tunnel6"):
        cipher, authenticator = getattr(flows, flow).to_left.transforms
        name, bits = KERNEL_AUTH[authenticator]
        made |= {f"{flow.upper()}_AUTHENTICATOR": name, f"{flow.upper()}_ICV_BITS": bits,
                 f"{flow.upper()}_CIPHER": KERNEL_CIPHER.get(cipher, "cbc(aes)")}
        for side, sa in (("LEFT", getattr(flows, flow).to_left), ("RIGHT", getattr(flows, flow).to_right)):
            made |= {f"{flow.upper()}_{side}_SPI": sa.spi, f"{flow.upper()}_{side}_ENC": "0x" + sa.cipher_key.hex(),
                     f"{flow.upper()}_{side}_AUTH": "0x" + sa.auth_key.hex()}
    return made


@pytest.fixture(scope="module", params=[("tap", ("esp-aes", "esp-sha256-hmac")), ("af_xdp", ("esp-aes 256", "esp-sha-hmac")),
                                        ("tap", ("esp-aes 192", "esp-aes-cmac"), ("esp-null", "esp-sha512-hmac"), ("esp-des", "esp-aes-xcbc-mac"),
                                         ("esp-3des", "esp-md5-hmac"))],
                ids=lambda p: f"{p[0]} {p[1][1]}")
def outcome(request):
    """One transform set for all flows, or one for each."""
    plain_side, *transforms = request.param
    flows = lab.fresh_flows(*transforms)
    document = lab.gateway_document(1, flows, plain_side=plain_side)
    debian = kernel.obtain()
    with node_image(debian, values(flows), document, PROGRAMS) as image, Guest(debian, image, memory=1024) as guest:
        guest.wait_for("BOOTED", 60)
        return guest.run_to_exit(300)


@pytest.mark.parametrize("check", CHECKS)
def test_check(outcome, check):
    assert check in outcome.passed, "\n".join(outcome.failed + outcome.console[-60:])


def test_nothing_failed(outcome):
    assert not outcome.failed and outcome.status == 0, "\n".join(outcome.failed + outcome.console[-60:])


def test_packets_balance_on_61(outcome):
    assert "dataplane" in outcome.data, "\n".join(outcome.console[-60:])
    assert not wrong(outcome.data["dataplane"])


def test_fallbacks_are_in_use(outcome):
    """Multishot read came with 6.7: on this kernel the worker reads otherwise, and says so; by io_uring all the same."""
    view = outcome.data["dataplane"]
    assert view["kernel"].startswith("6.1.")
    assert view["worker"]["io_uring"] is True
    assert view["worker"]["multishot_read"] is False


def test_every_sa_carried_packets(outcome):
    flows = [flow for interface in outcome.data["sa"]["interfaces"] for flow in interface["flows"]]
    assert len(flows) == 4
    for flow in flows:
        assert flow["counters"]["encaps"] >= 5 and flow["counters"]["decaps"] >= 5 and flow["counters"]["recv_errors"] == 0
