"""Protection of what is protected already: a tunnel's ESP behind a crypto map that permits esp between the two gateways."""
import pytest

import documents
import lab
from oracle import association, esp_bytes, open_esp
from peer import ScapyLab

OUTER_SPI = 0x9001


@pytest.fixture
def nested(scratch):
    flows = lab.fresh_flows(lab.TRANSFORMS)
    document = lab.gateway_document(1, flows)
    around = documents.fresh_pair(OUTER_SPI)
    name = next(one["crypto_map"] for one in document["interfaces"] if one["name"] == "out0")
    documents.map_entry(document, name, 900, documents.permit("AROUND", lab.OUT4[1], lab.OUT4[2], "esp"), lab.OUT4[2],
                        around.session_key(True), ("esp-aes", "esp-sha256-hmac"))
    with ScapyLab(scratch, document=document, flows=flows) as made:
        made.around = around
        yield made


def test_a_tunnel_behind_a_map_is_sealed_twice_and_opened_twice(nested):
    payload = nested.mark()
    with nested.balancing():
        nested.peer.drain()
        nested.host.send(nested.inner("tunnel4", False, payload))
        spi = nested.around.to_right.spi.to_bytes(4, "big")
        sealed = nested.peer.first(lambda one: (esp_bytes(one) or b"").startswith(spi))
        assert sealed is not None, "the map's SA did not seal the tunnel's packet"
        inside = open_esp(nested.around.to_right, esp_bytes(sealed))
        assert (inside.src, inside.dst) == (lab.OUT4[1], lab.OUT4[2])
        clear = open_esp(nested.flows.tunnel4.to_right, esp_bytes(inside))
        assert payload in bytes(clear)

        answer = nested.mark()
        once = nested.seal("tunnel4", nested.inner("tunnel4", True, answer))
        twice = association(nested.around.to_left, lab.OUT4[2], lab.OUT4[1], ttl=64).encrypt(once, seq_num=1)
        assert nested.delivered(twice, answer) is not None


def test_what_the_outer_entry_does_not_name_is_sealed_once(nested):
    payload = nested.mark()
    opened = nested.protected(nested.inner("tunnel6", False, payload), "tunnel6")
    assert len(opened) == 1 and payload in bytes(opened[0].inner)
