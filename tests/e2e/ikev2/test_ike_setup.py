"""How an SA comes about: the first packet, `initiate always`, the peer; crypto maps and tunnels, both families, NAT, two peers."""
import pytest

import ike_documents
import ike_wire
import lab
import traffic
from capture import Capture
from ike_documents import children, ike_sas, wait_up
from ike_lab import PSK, inside
from ike_pairs import PosternPair, SwanLab
from ike_wire import AUTH, SA_INIT
from netns import wait_until


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch) as made:
        yield made


@pytest.mark.parametrize("flow", ["map4", "map6"])
def test_the_first_packet_is_held_and_sent(world, flow):
    """CM-11, CM-14: it asks for the SA, waits in the node, and arrives; nothing of the flow is ever on the wire in clear."""
    family = int(flow[-1])
    world.configure(swan={"flow": flow, "family": family})
    with world.capture() as capture:
        assert world.ping(flow, 1, wait=5) == 1
        world.ping_both(flow)
        wire = ike_wire.read(capture.frames())
    wire.assert_protected(10)
    assert [len(wire.exchanges(kind)) for kind in (SA_INIT, AUTH)] == [1, 1]
    child = children(world.left)[0]
    assert wire.spis() == {int(child["esp_spi_in"], 16), int(child["esp_spi_out"], 16)}
    local, remote = child["local_ts"][0], child["remote_ts"][0]
    near, far = inside(1, flow).split("/")[0], inside(2, flow).split("/")[0]
    assert (local["from"], remote["from"]) == (near, far) and (local["port_from"], local["port_to"]) == (0, 65535)


def test_a_burst_before_the_sa_asks_once(world):
    """Acquires are rate-limited per flow: 500 packets, one IKE SA, one child."""
    world.configure()
    with world.capture("udp") as capture:
        sent, received = traffic.stream(world.hA, world.hB, lab.host(2, "map4"), count=500, rate=5000, quiet=1.0)
        wire = ike_wire.read(capture.frames())
    wire.assert_nothing_clear()
    assert len(wire.exchanges(SA_INIT)) == 1 and len(wire.exchanges(AUTH)) == 1
    assert received["distinct"] > 0 and sent["sent"] == 500
    assert len(world.peer.wait_child(1)) == len(children(world.left)) == 1


def test_packets_of_no_flow_ask_for_nothing(world):
    world.configure()
    with world.capture("udp port 500 or udp port 4500") as capture:
        assert traffic.ping(world.n1, lab.OUT4[2], 3) == 3
        assert not ike_wire.read(capture.frames()).ike
    assert not world.peer.sas() and not ike_sas(world.left)


def test_initiate_always_needs_no_packet(world):
    world.configure()
    with world.capture("udp") as capture:
        world.left.apply(world.document(initiate="always", flows=("map4",)))
        world.peer.wait_child(1, 10)
        wait_up(world.left)
        wire = ike_wire.read(capture.frames())
    assert not wire.esp and len(wire.exchanges(SA_INIT)) == 1
    world.ping_both()
    world.peer.terminate(ike="net")
    world.peer.wait_child(1, 15)  # always: also after a loss
    world.left.apply(world.document())  # else it would come back faster than anybody sees that it is gone
    world.down()


def test_responder_without_traffic(world):
    """strongSwan asks; the SA carries traffic both ways, the first packet of which may be hB's."""
    world.configure()
    world.up("strongswan")
    assert world.ping(back=True) == 3 and world.ping() == 3
    assert ike_sas(world.left)[0]["role"] == "responder"


def test_initial_contact_is_sent(world):
    world.configure()
    since = world.peer.mark()
    world.up("postern")
    world.peer.said(r"parsed IKE_AUTH request 1 \[.*N\(INIT_CONTACT\)", since)


@pytest.mark.parametrize("by", ["postern", "strongswan"])
def test_tunnels(scratch, by):
    """Tunnel0 (IPv4) and Tunnel1 (IPv6): selectors are any; their ends differ, so each is an IKE SA of its own."""
    with SwanLab(scratch, flows=("tunnel4", "tunnel6"), initiate="on_traffic") as made:
        for name, flow, family, everything in (("t4", "tunnel4", 4, "0.0.0.0/0"), ("t6", "tunnel6", 6, "::/0")):
            made.peer.load(made.connection(2, name, flow, family, local_ts=[everything], remote_ts=[everything]))
            if by == "strongswan":
                made.peer.initiate(name)
        with made.capture() as capture:
            for flow in ("tunnel4", "tunnel6"):
                assert made.ping(flow, 1, wait=5) == 1
                made.ping_both(flow)
            wire = ike_wire.read(capture.frames())
        wire.assert_protected(20)
        assert len(ike_sas(made.left)) == 2 and len(children(made.left)) == 2
        assert {child["interface"] for child in children(made.left)} == {"Tunnel0", "Tunnel1"}


@pytest.mark.parametrize("nat", ["left", "right"])
def test_nat_is_between(scratch, nat):
    """The side behind the NAT initiates: float to 4500, ESP in UDP to the port that the NAT chose, keepalives."""
    with SwanLab(scratch, nat=nat, nat_keepalive=5) as made:
        made.peer.load(made.connection(2))
        with made.capture() as capture:
            sa = made.up("postern" if nat == "left" else "strongswan")
            made.ping_both()
            if nat == "left":
                with Capture(made.w, "w1", scratch / "keepalive.pcap", "udp port 4500 and udp[4:2] = 9") as silent:
                    wait_until(lambda: silent.bytes_captured() > 24, 12, "a keepalive after 5 seconds of silence")
            wire = ike_wire.read(capture.frames())
        wire.assert_protected(8)
        assert all(in_udp for *_, in_udp in wire.esp)
        ours = ike_sas(made.left)[0]
        assert ours["nat_t"] == {"left": "detected inside and outside", "right": "detected outside"}[nat]
        port = {one.sport for one in wire.ike if one.source == lab.OUT4[1 if nat == "left" else 2]} - {500, 4500}
        assert port, "the NAT changed the port"
        if nat == "right":
            assert ours["remote_port"] in port and ours["remote_port"] not in (500, 4500)
        else:
            assert int(sa["remote-port"]) in port


def test_two_peers_and_two_tunnels(scratch):
    """Two connections of one node: each its own IKE SA; one goes and the other does not notice."""
    with SwanLab(scratch, flows=("map4", "tunnel6"), initiate="on_traffic") as made:
        made.peer.load(made.connection(2))
        made.peer.load(made.connection(2, "t6", "tunnel6", 6, local_ts=["::/0"], remote_ts=["::/0"]))
        for flow in ("map4", "tunnel6"):
            assert made.ping(flow, 1, wait=5) == 1
        before = {child["esp_spi_in"] for child in children(made.left)}
        assert len(before) == 2 and len(made.peer.established()) == 2
        made.peer.terminate(ike="net")
        wait_up(made.left, 1)
        made.ping_both("tunnel6")
        assert {child["esp_spi_in"] for child in children(made.left)} < before
        made.ping_both("map4")  # and comes back with the next packet
        assert len(children(made.left)) == 2


def test_two_rules_are_two_children(scratch):
    """Each permit rule of the list is a flow of its own: two children of one IKE SA."""
    rules = [{"action": "permit", "protocol": "ip", "source": one, "destination": "10.2.0.0/16"} for one in ("10.1.0.0/24", "10.1.1.0/24")]
    with SwanLab(scratch, flows=("map4",), acl4=rules) as made:
        made.peer.load(made.connection(2, children={"c": {"remote_ts": ["10.1.0.0/24"]}, "d": {"remote_ts": ["10.1.1.0/24"]}}))
        made.hA.ip("address", "add", "10.1.1.2/16", "dev", "eth0")
        for address in ("10.1.0.2", "10.1.1.2"):
            assert traffic.ping(made.hA, lab.host(2, "map4"), 1, wait=5, source=address) == 1
        assert len(ike_sas(made.left)) == 1 and len(children(made.left)) == 2
        assert {one["local_ts"][0]["from"] for one in children(made.left)} == {"10.1.0.0", "10.1.1.0"}


def test_postern_with_postern(scratch):
    """Native ESP between two nodes, both families, map and tunnel; the SAs' counters say who carried what."""
    with PosternPair(scratch, flows=("map4", "map6", "tunnel4", "tunnel6"), ike="aes256gcm16-prfsha384-ecp384", esp="aes256gcm16") as made:
        with made.capture() as capture:
            for flow in ("map4", "map6", "tunnel4", "tunnel6"):
                made.ping_both(flow)
            wire = ike_wire.read(capture.frames())
        wire.assert_protected(30)
        assert not any(in_udp for *_, in_udp in wire.esp), "no NAT, so no UDP"
        # Tunnels are wanted always and by both ends, so there may be two SAs of one for a while.
        assert len({one["name"] for one in children(made.left)}) == len({one["name"] for one in children(made.right)}) == 4
        wait_until(lambda: {one["esp_spi_in"] for one in children(made.left)} == {one["esp_spi_out"] for one in children(made.right)}, 10,
                   "both have the same SAs")


def test_wrong_key_between_two_nodes(scratch):
    with PosternPair(scratch, start=False) as made:
        made.right.document["ikev2"]["keyrings"][0]["peers"][0]["pre_shared_key"] = PSK + "?"
        lab.documents.write(made.right.document, made.right.config)
        made.right.start()
        made.left.start()
        with made.capture() as capture:
            assert made.ping(count=2, wait=1) == 0
            wait_until(lambda: any(one["failure"] == "wrong_key" for one in ike_documents.diagnosis(made.left)), 10, "the diagnosis")
            assert not ike_wire.read(capture.frames()).esp
        assert not children(made.left) and not children(made.right)
        assert any(one["failure"] == "wrong_key" for one in ike_documents.diagnosis(made.right))
