"""IKEv2 with strongSwan over the ESP, AH and IPComp of Debian's kernel 6.1: what goes between the sites is native, protocol 50 or 51."""
import pytest

import balance
import ike_documents
import ike_wire
import lab as labs
import traffic
from ike_lab import inside
from ike_wire import CREATE_CHILD, SA_INIT
from netns import wait_until
from swan_guest import VmLab, comes_up, rekeyed_and_ended

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def world(module_scratch):
    with VmLab(module_scratch) as made:
        yield made


@pytest.mark.parametrize("initiator", ["postern", "strongswan"])
@pytest.mark.parametrize("family", [4, 6])
def test_native_esp(world, family, initiator):
    """Each role and each family once: set up, traffic both ways, rekey, delete; between the sites there is protocol 50 alone."""
    flow = f"map{family}"
    world.peer.load(world.connection(2, flow=flow, family=family, more={"encap": "no"}))
    far, near = labs.host(2, flow), labs.host(1, flow)
    with world.capture("not tcp") as capture:
        comes_up(world, initiator, far, near)
        sa = world.peer.established()[0]
        assert sa.get("initiator") == ("yes" if initiator == "strongswan" else None)
        # RFC 4555 3.3: an initiator that may move goes to port 4500, also without a NAT; this strongSwan may not.
        ports = {"postern": {500, 4500}, "strongswan": {500}}[initiator]
        assert world.peer.children()[0].get("encap", "no") == "no" and int(sa["remote-port"]) == max(ports)
        rekeyed_and_ended(world, far, near)
        wire = ike_wire.read(capture.frames())
    wire.assert_protected(20)
    assert not any(in_udp for _, _, _, in_udp in wire.esp), "no NAT, so no UDP around it"
    assert {one.sport for one in wire.ike} == ports and wire.exchanges(SA_INIT) and wire.exchanges(CREATE_CHILD)


def test_our_address_changes(world):
    """RFC 4555 3.5: the kernel's SAs and ours go on in place at another address of ours, and back: the same SPIs, no negotiation, no UDP."""
    away = "192.0.2.21"
    document = ike_documents.gateway_document(1, flows=("map4",), local_id=labs.OUT4[1])
    next(one for one in document["interfaces"] if one["name"] == "out0").pop("addresses")
    world.left.apply(document)
    world.peer.load(world.connection(2, more={"encap": "no", "mobike": "yes", "remote_addrs": ["%any"]}))
    far, near = labs.host(2, "map4"), labs.host(1, "map4")
    comes_up(world, "postern", far, near)
    before, ours = world.peer.established()[0], ike_documents.children(world.left)[0]
    world.n1.sysctl("net.ipv4.conf.out0.promote_secondaries", 1)
    with world.capture("not tcp") as capture:
        for old, new in ((labs.OUT4[1], away), (away, labs.OUT4[1])):
            world.n1.ip_batch(f"address add {new}/24 dev out0", f"address del {old}/24 dev out0", f"route replace {inside(2)} via {labs.OUT4[2]} src {new}")
            wait_until(lambda: world.peer.established()[0]["remote-host"] == new, 20, "strongSwan follows")
            traffic.ping_until(world.hA, far, 20, source=near)
            assert traffic.ping(world.hA, far, 5, source=near) == 5
        wire = ike_wire.read(capture.frames(), (labs.OUT4[1], labs.OUT4[2], away))
    after = world.peer.established()[0]
    assert after["initiator-spi"] == before["initiator-spi"]
    keys = ("spi-in", "spi-out")
    assert [after["child-sas"][0][key] for key in keys] == [before["child-sas"][0][key] for key in keys]
    assert [ike_documents.children(world.left)[0][key] for key in ("esp_spi_in", "esp_spi_out")] == [ours[key] for key in ("esp_spi_in", "esp_spi_out")]
    assert {source for source, _, _, _ in wire.esp} == {labs.OUT4[1], labs.OUT4[2], away} and not any(udp for _, _, _, udp in wire.esp)
    wire.assert_safe()
    assert not wire.exchanges(SA_INIT) and not wire.exchanges(CREATE_CHILD)
    balance.assert_balanced(world.left)
    world.peer.terminate(ike="net", seconds=30)
    wait_until(lambda: not ike_documents.ike_sas(world.left), 10, "Postern's SA is deleted as well")
    world.left.apply(ike_documents.gateway_document(1))


@pytest.mark.parametrize("initiator", ["postern", "strongswan"])
@pytest.mark.parametrize("theirs, extended", [("aes128gcm16-esn-noesn", True), ("aes128gcm16-esn", True), ("aes128gcm16-noesn", False),
                                              ("aes256-sha256-esn", True)])
def test_extended_sequence_numbers_tfc_and_dummies(world, initiator, theirs, extended):
    """RFC 7296 3.3.2: both forms offered, one chosen; the kernel opens our TFC padding (RFC 4303 2.7) and drops our dummies (2.6)."""
    ours = "-".join(word for word in theirs.split("-") if not word.endswith("esn"))
    association = {"extended_sequence_numbers": True, "tfc_padding": 1000, "dummy": {"pps": 20}}
    world.left.apply(ike_documents.gateway_document(1, esp=ours, flows=("map4",), association=association))
    world.peer.load(world.connection(2, esp_proposals=[theirs], more={"encap": "no"}))
    far, near = labs.host(2, "map4"), labs.host(1, "map4")
    with world.capture("not tcp") as capture:
        comes_up(world, initiator, far, near)
        child = world.peer.children()[0]
        assert child.get("esn", "0") == ("1" if extended else "0")
        shown = [sa for block in world.left.show("crypto", "ipsec", "sa")["interfaces"] for flow in block["flows"] for sa in flow["sas"]]
        assert {sa["extended_sequence"] for sa in shown} == {extended}
        wait_until(lambda: dummies_sent(world.left) >= 20, 20, "dummy packets")
        before = world.peer.children()[0]
        world.peer.rekey(child="c")
        wait_until(lambda: [one["spi-in"] for one in world.peer.children()] not in ([], [before["spi-in"]]), 20, "a new child SA")
        assert traffic.ping(world.hA, far, 5, source=near) == 5
        wait_until(lambda: dummies_sent(world.left) >= 1, 20, "dummy packets of the new SA")
        sizes = [len(frame) for frame in capture.frames() if frame.haslayer("IP") and frame["IP"].src == labs.OUT4[1] and frame["IP"].proto == 50]
    user = [size for size in sizes if sizes.count(size) >= 10]
    assert user and min(user) > 1000, "each of ours is padded, and the kernel has cut that off"
    balance.assert_balanced(world.left)
    world.peer.terminate(ike="net", seconds=30)
    wait_until(lambda: not ike_documents.ike_sas(world.left), 10, "Postern's SA is deleted as well")


def dummies_sent(node) -> int:
    return sum(flow["counters"]["dummy_sent"] for block in node.show("crypto", "ipsec", "sa")["interfaces"] for flow in block["flows"])


@pytest.mark.parametrize("initiator", ["postern", "strongswan"])
def test_extended_numbers_that_we_do_not_want(world, initiator):
    """Neither form is forced on anybody: a peer that wants them alone gets nothing, and the diagnosis says why."""
    world.left.apply(ike_documents.gateway_document(1, esp="aes128gcm16", flows=("map4",)))
    world.peer.load(world.connection(2, esp_proposals=["aes128gcm16-esn"], more={"encap": "no"}))
    far, near = labs.host(2, "map4"), labs.host(1, "map4")
    if initiator == "strongswan":
        assert world.peer.initiate("net", seconds=30, check=False) is False
        wait_until(lambda: any("ESN" in (one["differs"] or "") for one in ike_documents.diagnosis(world.left)), 10, "the diagnosis")
    assert traffic.ping(world.hA, far, 2, source=near) == 0
    assert not world.peer.children()
    world.peer.load(world.connection(2, esp_proposals=["aes128gcm16-esn-noesn"], more={"encap": "no"}))
    world.left.postern("clear", "crypto", "session")
    traffic.ping_until(world.hA, far, 30, source=near)
    world.peer.terminate(ike="net", seconds=30)


@pytest.mark.parametrize("initiator", ["postern", "strongswan"])
@pytest.mark.parametrize("family, theirs", [(4, "sha256"), (6, "aesxcbc")])
def test_ah(world, family, theirs, initiator):
    """RFC 7296 3.3: proposals of protocol 2, each role; between the sites there is protocol 51 alone."""
    flow = f"map{family}"
    world.left.apply(ike_documents.gateway_document(1, esp=f"ah_{theirs}", flows=(flow,)))
    world.peer.load(world.connection(2, flow=flow, family=family, esp_proposals=[], child={"ah_proposals": [theirs]}, more={"encap": "no"}))
    far, near = labs.host(2, flow), labs.host(1, flow)
    with world.capture("not tcp") as capture:
        comes_up(world, initiator, far, near)
        assert world.peer.children()[0]["protocol"] == "AH"
        shown = ike_documents.children(world.left)[0]
        assert shown["ah_spi_in"] != "0x0" and shown["esp_spi_in"] == "0x0" and shown["ah_hmac"] and shown["esp_hmac"] is None
        rekeyed_and_ended(world, far, near)
        wire = ike_wire.read(capture.frames())
    wire.assert_protected(20)
    assert wire.ah and not wire.esp


@pytest.mark.parametrize("initiator", ["postern", "strongswan"])
@pytest.mark.parametrize("ours, theirs", [("ah_sha256", {"ah_proposals": ["sha384"]}), ("aes128-sha256", {"ah_proposals": ["sha256"]})])
def test_ah_that_does_not_fit(world, ours, theirs, initiator):
    """Another authenticator, and AH for ESP: nothing comes up, and the diagnosis says what differs."""
    world.left.apply(ike_documents.gateway_document(1, esp=ours, flows=("map4",)))
    world.peer.load(world.connection(2, esp_proposals=[], child=theirs, more={"encap": "no"}))
    if initiator == "strongswan":
        assert world.peer.initiate("net", seconds=30, check=False) is False
        wanted = "AH" if ours.startswith("aes") else "integrity"
        wait_until(lambda: any(wanted in (one["differs"] or "") for one in ike_documents.diagnosis(world.left)), 10, "the diagnosis")
    assert traffic.ping(world.hA, labs.host(2, "map4"), 2, source=labs.host(1, "map4")) == 0
    assert not world.peer.children()
    world.peer.terminate(ike="net", seconds=30, check=False)
    world.left.postern("clear", "crypto", "session")


def counters_of(node) -> dict:
    return node.show("crypto", "ipsec", "sa")["interfaces"][0]["flows"][0]["counters"]


@pytest.mark.parametrize("initiator", ["postern", "strongswan"])
@pytest.mark.parametrize("ours, theirs", [(True, True), (True, False), (False, True)])
def test_ipcomp(world, ours, theirs, initiator):
    """RFC 7296 2.22: compression where both ends say IPCOMP_SUPPORTED, and plain packets where one does not."""
    world.left.apply(ike_documents.gateway_document(1, esp="aes128-sha256" + ("-comp" if ours else ""), flows=("map4",)))
    world.peer.load(world.connection(2, child={"ipcomp": "yes" if theirs else "no"}, more={"encap": "no"}))
    far, near = labs.host(2, "map4"), labs.host(1, "map4")
    both = ours and theirs
    comes_up(world, initiator, far, near, size=1200)
    counters, shown = counters_of(world.left), ike_documents.children(world.left)[0]
    assert (counters["compressed"] >= 5) == both and (counters["decompressed"] >= 5) == both and counters["decompress_failed"] == 0
    assert (shown["comp"] == "IPCOMP_DEFLATE") == both and (shown["cpi_in"] != "0x0") == both
    peer = world.peer.children()[0]
    assert ("cpi-in" in peer) == both
    if both:
        assert [int(shown[one], 16) for one in ("cpi_in", "cpi_out")] == [int(peer[one], 16) for one in ("cpi-out", "cpi-in")]
    rekeyed_and_ended(world, far, near, size=1200)
