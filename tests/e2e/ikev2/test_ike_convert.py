"""A router's configuration becomes a node that negotiates with strongSwan: `postern config convert`, its output as it comes."""
import json
import stat

import pytest

import ike_wire
import traffic
from ike_pairs import SwanLab
from netns import run
from node import PROGRAMS

ROUTER = """\
version 17.3
hostname R1
crypto ikev2 proposal IKE
 encryption aes-cbc-128
 integrity sha256
 group 14
crypto ikev2 policy WAN
 proposal IKE
crypto ikev2 keyring RING
 peer branch
  address 192.0.2.2
  pre-shared-key "what the two gateways share"
crypto ikev2 profile BRANCH
 match identity remote address 192.0.2.2 255.255.255.255
 authentication local pre-share
 authentication remote pre-share
 keyring local RING
crypto ipsec transform-set T esp-aes esp-sha256-hmac
 mode tunnel
crypto map WAN 10 ipsec-isakmp
 set peer 192.0.2.2
 set transform-set T
 set pfs group14
 set ikev2-profile BRANCH
 match address BRANCH
interface GigabitEthernet0/0/0
 ip address 192.0.2.1 255.255.255.0
 negotiation auto
 crypto map WAN
interface GigabitEthernet0/0/1
 ip address 10.1.0.1 255.255.0.0
ip access-list extended BRANCH
 10 permit ip 10.1.0.0 0.0.255.255 10.2.0.0 0.0.255.255
end
"""


@pytest.fixture(scope="module")
def world(module_scratch):
    with SwanLab(module_scratch) as made:
        yield made


def convert(scratch, text: str):
    source, keys = scratch / "router.cfg", scratch / "keys"
    source.write_text(text)
    keys.mkdir()
    return keys, run([PROGRAMS / "postern", "config", "convert", source, "--interface", "gi0/0/0=out0", "--interface", "Gi0/0/1=in0",
                      "--keys", keys], check=False)


def test_a_routers_configuration_negotiates(world, scratch):
    keys, done = convert(scratch, ROUTER)
    assert done.returncode == 0, done.stderr
    assert "what the two gateways share" not in done.stdout + done.stderr
    (key,) = keys.iterdir()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and key.read_text() == "what the two gateways share"
    world.down()
    world.left.apply(json.loads(done.stdout))
    world.peer.load(world.connection(2))
    with world.capture() as capture:
        assert world.ping("map4", 1, wait=5) == 1
        world.ping_both("map4")
        ike_wire.read(capture.frames()).assert_protected(5)


def test_what_is_not_converted_is_said_and_not_done(world, scratch):
    keys, done = convert(scratch, ROUTER.replace(" set peer 192.0.2.2\n", " set peer 192.0.2.2\n set nat demux\n"))
    assert done.returncode == 1 and "router.cfg:22: error: 'set nat demux' is not converted" in done.stderr
    again = run([PROGRAMS / "postern", "config", "convert", scratch / "router.cfg", "--keys", keys], check=False)
    assert again.returncode == 1 and "RING-branch: File exists" in again.stderr
    assert traffic.ping(world.hA, "10.2.0.2") > 0, "the node is as it was"
