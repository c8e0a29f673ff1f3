"""Manual entries as the operator sees them: there from the start, without IKE, and back at once after a clear. scapy is the peer."""
import pytest
from scapy.layers.inet import UDP

import lab
import traffic
from balance import assert_balanced
from peer import ScapyLab


@pytest.mark.parametrize("flow", ["map4", "map6"])
def test_sas_are_there_with_ikev2_switched_off(scratch, flow):
    """MAN-01, MAN-02, MAN-12: sealed with the first packet both ways; nobody listens on IKE's ports and nothing of IKE is on the wire."""
    flows = lab.fresh_flows()
    document = lab.gateway_document(1, flows)
    document["ikev2"] = {"enabled": False}
    with ScapyLab(scratch, document, flows) as made:
        rows = made.n1.run("ss", "-lunH").stdout.splitlines()
        assert not {row.split()[3].rsplit(":", 1)[1] for row in rows} & {"500", "4500"}, rows
        made.peer.drain()
        payload = made.mark()
        opened = made.protected(made.inner(flow, False, payload), flow)
        assert len(opened) == 1 and payload in bytes(opened[0].inner)
        answer = made.mark()
        assert made.delivered(made.seal(flow, made.inner(flow, True, answer)), answer) is not None
        assert made.peer.first(lambda one: UDP in one and {one[UDP].sport, one[UDP].dport} & {500, 4500}, 0.4) is None
        entry = next(one for one in made.node.show("crypto", "map")["maps"] if one["name"] == flow.replace("map", "M"))["entries"][0]
        assert entry["type"] == "ipsec-manual" and entry["lifetime"] is None
        made.assert_balanced()


def test_a_clear_is_over_within_a_tenth_of_a_second(scratch):
    """MAN-11: a stream at 2,000 packets a second loses less than 200 of them to five clears each; its SPIs stay."""
    with lab.Pairing(scratch) as made:
        traffic.ping_until(made.hA, lab.host(2, "map4"))
        stream = traffic.Stream(made.hA, made.hB, lab.host(2, "map4"), count=12000, rate=2000)
        for _ in range(5):
            made.left.postern("clear", "crypto", "sa", "map", "M4")
        sent, received = stream.finish()
        assert sent["sent"] - received["distinct"] < 200, (sent, received)
        assert_balanced(made.left, made.right)


def test_an_spi_that_is_not_there_clears_nothing(scratch):
    """CM-23 for manual SAs: by destination, protocol and SPI; wrong in one of the three it is an error."""
    flows = lab.fresh_flows()
    with ScapyLab(scratch, lab.gateway_document(1, flows), flows) as made:
        spi = hex(flows.map4.to_left.spi)
        assert "1 SA pair cleared" in made.node.postern("clear", "crypto", "sa", "entry", lab.OUT4[1], "esp", spi).stdout
        for words in ((lab.OUT4[2], "esp", spi), (lab.OUT4[1], "ah", spi), (lab.OUT4[1], "esp", "0xdead")):
            done = made.node.postern("clear", "crypto", "sa", "entry", *words, check=False)
            assert done.returncode != 0 and "no such SA" in done.stdout + done.stderr
        payload = made.mark()
        assert made.delivered(made.seal("map4", made.inner("map4", True, payload)), payload) is not None
