"""Bonds (IF-10), VLANs (IF-14) and VRFs under our node, on Debian's kernel: the host's own may have none of them."""
import copy

import pytest

import documents
import kernel
from balance import wrong
from documents import fresh_pair
from guests import KERNEL_AUTH, STACK_MODULES, environment, node_image
from node import PROGRAMS
from run_vm import Guest

pytestmark = pytest.mark.vm
TRANSFORMS = ("esp-aes", "esp-sha256-hmac")
FLOWS = ("BOND", "VLAN", "TUNNEL", "REDMAP", "MAIN")
CHECKS = ["bond: ESP over the active port", "bond: from the peer", "VLAN: ESP with the tag", "VLAN: large packets", "VRF: tunnel in blue over red",
          "VRF: map in red", "VRF: ESP that red reassembles", "VRF: the ICMP error leaves in red", "VRF: the same SA by the main table is refused",
          "VRF: reassembled by the main table it is refused", "VRF: from red again", "VLAN: clear packets do not come in",
          "bond: after the active port failed", "bond: the other port is active", "bond: after a port was taken out", "bond: LACP over two ports",
          "bond: both ports aggregate", "bond: clear packets do not come in", "refused: a port of a bond", "refused: a VLAN above an outside interface",
          "refused: native XDP on a VLAN", "refused: another table than the VRF has", "after the refusals the node serves as before",
          "teardown leaves nothing"]


def keys() -> dict:
    return {flow: fresh_pair(0x1001 + 0x100 * number, TRANSFORMS) for number, flow in enumerate(FLOWS)}


def values(pairs: dict) -> dict:
    name, bits = KERNEL_AUTH[TRANSFORMS[1]]
    made = {"AUTH": name, "AUTH_BITS": bits}
    for flow, pair in pairs.items():
        for side, sa in (("LEFT", pair.to_left), ("RIGHT", pair.to_right)):
            made |= {f"{flow}_{side}_SPI": sa.spi, f"{flow}_{side}_ENC": "0x" + sa.cipher_key.hex(), f"{flow}_{side}_AUTH": "0x" + sa.auth_key.hex()}
    return made


def document(pairs: dict) -> dict:
    made = documents.empty("N1")
    made["vrfs"] = [{"name": "red", "table": 10}, {"name": "blue", "table": 20}]
    for flow, name, near, far, peer in (("BOND", "M1", "10.1.0.0/16", "10.2.0.0/16", "192.0.2.2"), ("VLAN", "M2", "10.1.0.0/16", "10.6.0.0/16", "198.51.100.2"),
                                        ("REDMAP", "M3", "10.5.0.0/16", "10.7.0.0/16", "198.18.0.2"), ("MAIN", "M4", "10.8.0.0/16", "10.9.0.0/16", "203.0.113.3")):
        documents.map_entry(made, name, 10, documents.permit(f"A{name}", near, far), peer, pairs[flow].session_key(True), TRANSFORMS)
    documents.interface(made, "bond0", ["192.0.2.1/24"], crypto_map="M1")
    documents.interface(made, "v0.100", ["198.51.100.1/24"], crypto_map="M2")
    documents.interface(made, "red0", ["203.0.113.1/24"], crypto_map="M3", vrf="red")
    documents.interface(made, "main0", ["203.0.113.1/24"], crypto_map="M4")
    documents.tunnel(made, 0, ["172.16.0.1/30"], "ipsec ipv4", "red0", "198.18.0.2", pairs["TUNNEL"].session_key(True), TRANSFORMS, ["10.4.0.0/16"], vrf="blue")
    return made


def unfit(good: dict) -> dict[str, dict]:
    """Documents that the node must refuse, with the file name that the guest knows them by."""
    port, trunk, native, table = (copy.deepcopy(good) for _ in range(4))
    port["interfaces"][0]["name"] = "s0"
    trunk["interfaces"][0]["name"] = "v0"
    native["dataplane"]["xdp_mode"] = "native"
    table["vrfs"][0]["table"] = 11
    return {"port": port, "trunk": trunk, "native": native, "table": table}


def run_guest():
    pairs = keys()
    good = document(pairs)
    debian = kernel.obtain()
    with node_image(debian, values(pairs), good, PROGRAMS, scenario="stacks", modules=STACK_MODULES, more=unfit(good)) as image, \
            Guest(debian, image, memory=1024) as guest:
        guest.wait_for("BOOTED", 120)
        return guest.run_to_exit(240)


@pytest.fixture(scope="module")
def outcome():
    return run_guest()


@pytest.mark.parametrize("check", CHECKS)
def test_check(outcome, check):
    assert check in outcome.passed, "\n".join(outcome.failed + outcome.console[-60:])


def test_nothing_failed(outcome):
    assert not outcome.failed and outcome.status == 0, "\n".join(outcome.failed + outcome.console[-60:])


def dropped(outcome, snapshot: str, reason: str) -> int:
    return sum(row["kernel"] + row["worker"] for row in outcome.data[snapshot]["drops"] if row["reason"] == reason)


def device(outcome, snapshot: str, name: str) -> dict:
    return next(one for one in outcome.data[snapshot]["devices"] if one["name"] == name)


def test_sockets_of_a_vrf_take_its_packets_alone(outcome):
    received = sum(queue["rx_packets"] for queue in device(outcome, "reassembled", "sockets red")["queues"])
    assert received >= 5
    assert dropped(outcome, "reassembled", "no_sa") == dropped(outcome, "plain", "no_sa"), "the main table's socket had copies"


def test_an_sa_of_a_vrf_is_unknown_elsewhere(outcome):
    assert dropped(outcome, "impostor_whole", "no_sa") >= dropped(outcome, "impostor_before", "no_sa") + 3
    assert dropped(outcome, "impostor_reassembled", "no_sa") >= dropped(outcome, "impostor_whole", "no_sa") + 3


@pytest.mark.parametrize("where", ["VLAN", "bond"])
def test_clear_packets_are_counted(outcome, where):
    assert dropped(outcome, f"{where}_after", "clear_text") >= dropped(outcome, f"{where}_before", "clear_text") + 3


def test_xdp_is_native_on_ports_and_generic_on_a_vlan(outcome):
    assert [device(outcome, "plain", name)["xdp_mode"] for name in ("s0", "s1", "bond0", "v0.100")] == ["native", "native", "none", "generic"]
    for port in ("s0", "s1"):
        assert device(outcome, "bond_after", port)["verdicts"]["xdp_ingress"]["to_worker"] > 0, f"{port} never received"


def test_packets_balance(outcome):
    assert not wrong(outcome.data["plain"])
