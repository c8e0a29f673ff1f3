"""CM-23 with manual keys: `clear crypto sa entry` makes one pair anew, as the document says, and touches no other."""
import pytest

import lab
import traffic


@pytest.fixture(scope="module")
def pair(module_scratch):
    with lab.Pairing(module_scratch) as made:
        for flow in ("map4", "tunnel4"):
            traffic.ping_until(made.hA, lab.host(2, flow), source=lab.host(1, flow))
        yield made


def encaps(pair) -> dict[str, int]:
    return {one["map"]: one["flows"][0]["counters"]["encaps"] for one in pair.left.show("crypto", "ipsec", "sa")["interfaces"]}


def entry(pair, *words, **options):
    return pair.left.postern("clear", "crypto", "sa", "entry", *words, **options)


@pytest.mark.parametrize("destination, spi", ((lab.OUT4[2], "0x1001"), (lab.OUT4[1], "4098")), ids=("outbound", "inbound"))
def test_one_pair_begins_anew(pair, destination, spi):
    traffic.ping_until(pair.hA, lab.host(2, "map4"))
    before = encaps(pair)
    assert before["M4"] > 0 and before["Tunnel0-head-0"] > 0
    entry(pair, destination, "esp", spi)
    after = encaps(pair)
    assert after["M4"] == 0 and after["Tunnel0-head-0"] >= before["Tunnel0-head-0"]
    pair.right.postern("clear", "crypto", "sa", "map", "M4")  # numbers begin anew: so must the peer's
    traffic.ping_until(pair.hA, lab.host(2, "map4"))


@pytest.mark.parametrize("words", ((lab.OUT4[2], "ah", "0x1001"), (lab.OUT4[1], "esp", "0x1001"), (lab.OUT4[2], "esp", "0x1002"), (lab.OUT6[2], "esp", "0x1001")),
                         ids=" ".join)
def test_what_differs_in_one_of_the_three_is_no_sa(pair, words):
    before = encaps(pair)
    refused = entry(pair, *words, check=False)
    assert refused.returncode == 1 and "there is no such SA" in refused.stderr
    assert all(now >= before[name] for name, now in encaps(pair).items())


@pytest.mark.parametrize("words", ((lab.OUT4[2],), (lab.OUT4[2], "esp"), (lab.OUT4[2], "tcp", "0x1001"), (lab.OUT4[2], "esp", "zz"), ("nowhere", "esp", "0x1001")),
                         ids=" ".join)
def test_usage(pair, words):
    assert entry(pair, *words, check=False).returncode == 2
