"""Separate SAs for fragments (RFC 4301 §7.2, R43-07) and OPAQUE selectors (R43-02), negotiated with strongSwan."""
import contextlib

import pytest

import documents
import ike_wire
import lab
import traffic
from balance import assert_balanced
from ike_documents import children, diagnosis
from ike_lab import inside
from ike_pairs import PosternPair, SwanLab
from netns import wait_until

PORT = 5000
MTU = 1300
RULES = [{"action": "permit", "protocol": "udp", "source": inside(1), "destination": inside(2), "destination_ports": f"eq {PORT}"},
         {"action": "permit", "protocol": "icmp", "source": inside(1), "destination": inside(2)}]
NET = f"{inside(1)}[udp]", f"{inside(2)}[udp/{PORT}]"
OPAQUE = f"{inside(1)}[udp/opaque]", f"{inside(2)}[udp/opaque]"


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch, flows=("map4",), acl4=RULES) as made:
        made.hA.ip("link", "set", "eth0", "mtu", MTU)  # its pieces fit the tunnel as they are
        yield made


def swan_children(*pairs: tuple[str, str, str]) -> dict:
    return {"children": {name: {"local_ts": [there], "remote_ts": [here]} for name, here, there in pairs}}


def send(world, size: int) -> None:
    """One datagram to the port, which hA's kernel cuts at its MTU."""
    with world.hA.socket(2, 2) as out:
        out.sendto(b"x" * size, (lab.host(2, "map4"), PORT))


def wire_spis(world, size: int) -> list[int]:
    """SPI of each ESP packet of one datagram, in order. A busy machine may lose one: then another datagram is asked."""
    expected = 1 + (size + 7) // (MTU - 20)
    for _ in range(3):
        with world.capture("udp port 4500") as capture:
            send(world, size)
            seen: list[int] = []

            def complete() -> bool:
                seen[:] = [spi for _, _, spi, _ in ike_wire.read(capture.frames()).esp]
                return len(seen) >= expected
            with contextlib.suppress(AssertionError):
                wait_until(complete, 3, "every fragment is on the wire")
                return seen
    raise AssertionError(f"of three datagrams of {size} bytes none was on the wire whole; of the last {seen}")


def by_kind(world) -> dict[bool, dict]:
    """Child SAs by whether their selectors are OPAQUE."""
    return {child["local_ts"][0]["port_from"] > child["local_ts"][0]["port_to"]: child for child in children(world.left)}


def test_first_and_later_fragments_go_into_different_sas(world):
    world.configure(swan=swan_children(("ports", *NET), ("later", *OPAQUE)))
    send(world, 100)
    world.peer.wait_child(1)
    send(world, 4000)  # asks for the second child
    world.peer.wait_child(2, 10)
    wait_until(lambda: len(children(world.left)) == 2, 8, "both children")
    kinds = by_kind(world)
    ports, later = int(kinds[False]["esp_spi_out"], 16), int(kinds[True]["esp_spi_out"], 16)
    assert wire_spis(world, 4000) == [ports, later, later, later]
    assert wire_spis(world, 100) == [ports]
    opaque = [child for child in world.peer.children() if "udp/OPAQUE" in str(child["local-ts"])]
    assert len(opaque) == 1 and int(opaque[0]["bytes-in"]) > 2000, "strongSwan agrees, and opens what comes in it"


def test_a_peer_without_such_an_sa_gets_no_later_fragment(world):
    """Refused by the peer, so dropped and counted, and never on the SA of the port nor in clear."""
    world.configure(swan=swan_children(("ports", *NET)))
    send(world, 100)
    world.peer.wait_child(1)
    with world.capture() as capture:
        send(world, 4000)
        wait_until(lambda: any(row["failure"] == "selectors" for row in diagnosis(world.left)), 10, "the peer refused")
        wait_until(lambda: ike_wire.read(capture.frames()).esp, 5, "the first fragment")
        wire = ike_wire.read(capture.frames())
    wire.assert_nothing_clear()
    assert len(wire.esp) == 1
    assert len(children(world.left)) == 1


def test_strongswan_begins_with_opaque_and_gets_the_flow_of_the_fragments(world):
    world.configure(swan=swan_children(("ports", *NET), ("later", *OPAQUE)))
    world.peer.initiate("net", child="later")
    wait_until(lambda: children(world.left), 8, "the child")
    assert list(by_kind(world)) == [True]


def test_opaque_is_skipped_and_the_next_selector_used(world):
    """R43-02: against a flow of ports, in one offer."""
    here, there = [OPAQUE[0], NET[0]], [OPAQUE[1], NET[1]]
    world.configure(swan={"children": {"both": {"local_ts": there, "remote_ts": here}}}, **{"acl4": RULES})
    document = world.document()
    document["crypto_maps"][0]["entries"][0]["separate_fragment_sa"] = False
    world.left.apply(document)
    world.peer.initiate("net", child="both")
    wait_until(lambda: children(world.left), 8, "the child")
    kinds = by_kind(world)
    assert list(kinds) == [False]
    assert kinds[False]["remote_ts"][0]["port_from"] == PORT
    world.apply()


@pytest.mark.parametrize("separate", [True, False])
def test_two_nodes(scratch, separate):
    """A datagram in fragments arrives whole, or, where the separate SA is off, not at all and counted."""
    with PosternPair(scratch, start=False, acl4=RULES) as pair:
        pair.right.document["acls"][0]["rules"] = [
            {"action": "permit", "protocol": "udp", "source": inside(2), "destination": inside(1), "source_ports": f"eq {PORT}"},
            {"action": "permit", "protocol": "icmp", "source": inside(2), "destination": inside(1)}]
        for node in (pair.left, pair.right):
            node.document["crypto_maps"][0]["entries"][0]["separate_fragment_sa"] = separate
            documents.write(node.document, node.config)
        pair.right.start()
        pair.left.start()
        traffic.ping_until(pair.hA, lab.host(2, "map4"), source=lab.host(1, "map4"))
        with pair.hB.socket(2, 2) as receiver, pair.hA.socket(2, 2) as sender:
            receiver.bind((lab.host(2, "map4"), PORT))
            receiver.settimeout(0.2)

            def arrives(size: int) -> bool:
                sender.sendto(b"y" * size, (lab.host(2, "map4"), PORT))
                try:
                    return len(receiver.recv(65535)) == size
                except TimeoutError:
                    return False
            wait_until(lambda: arrives(100), 8, "a small datagram")
            if separate:
                wait_until(lambda: arrives(4000), 8, "a fragmented datagram")
                assert arrives(9000)
            else:
                before = pair.left.dataplane()
                assert not arrives(4000)
                drops = {row["reason"]: row["worker"] for row in pair.left.dataplane()["drops"]}
                assert drops["fragment_selector"] >= 2, before["drops"]
        for node in (pair.left, pair.right):
            assert_balanced(node)
