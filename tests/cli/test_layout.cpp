// Labels and their order, as the guide prints them (SO-01, SO-02, SO-06, SO-07, SO-08).
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "cli/render.hpp"
#include "loader/show.hpp"
#include "tests/cli/node_view_fixture.hpp"

namespace postern::cli {
namespace {

using nlohmann::json;

std::string text_of(const char* command, const json& args, std::string (*render)(const json&),
                    const loader::NodeView& view = fixed_view()) {
  auto data = loader::show(command, args, view);
  if (!data) FAIL(data.error().message());
  return render(*data);
}

// Each label is found behind the one before.
void in_order(const std::string& text, const std::vector<std::string>& labels) {
  std::size_t at = 0;
  for (const std::string& label : labels) {
    CAPTURE(label);
    CAPTURE(text);
    const auto found = text.find(label, at);
    REQUIRE(found != std::string::npos);
    at = found + label.size();
  }
}

}  // namespace

TEST_CASE("SO-01: show interface tunnel") {
  const std::string text = text_of("show interface tunnel", {{"number", 0U}}, render_interface_tunnel);
  in_order(text, {"Tunnel0 is up, line protocol is up",
                  "Hardware is Tunnel",
                  "Internet address is 172.16.0.1/30",
                  "MTU 1422 bytes, BW 0 Kbit, DLY 0 usec,",
                  "reliability 240/255, txload 0/255, rxload 0/255",
                  "Encapsulation TUNNEL, loopback not set",
                  "Keepalive not set",
                  "Tunnel source 192.0.2.1, destination 192.0.2.2",
                  "Tunnel protocol/transport ipsec/ip, key disabled, sequencing disabled",
                  "Tunnel TTL 255",
                  "Checksumming of packets disabled, fast tunneling enabled",
                  "Tunnel transmit bandwidth 0 (kbps)",
                  "Tunnel receive bandwidth 0 (kbps)",
                  "Tunnel protection via IPsec (profile \"P1\")",
                  "Last input 00:00:05, output 00:00:05, output hang never",
                  "Last clearing of \"show interface\" counters never",
                  "Input queue: 0/0/0/0 (size/max/drops/flushes); Total output drops: 1",
                  "Queueing strategy: fifo",
                  "Output queue: 0/0 (size/max)",
                  "5 minute input rate 13000 bits/sec, 34 packets/sec",
                  "5 minute output rate 36000 bits/sec, 35 packets/sec",
                  "7 packets input, 7000 bytes, 0 no buffer",
                  "Received 0 broadcasts, 0 runts, 0 giants, 0 throttles",
                  "0 input errors, 0 CRC, 0 frame, 0 overrun, 0 ignored, 0 abort",
                  "9 packets output, 9000 bytes, 0 underruns",
                  "1 output errors, 0 collisions, 0 interface resets",
                  "0 output buffer failures, 0 output buffers swapped out"});
  in_order(text_of("show interface tunnel", {{"number", 1U}}, render_interface_tunnel),
           {"Tunnel1 is administratively down, line protocol is down", "IPv6 address is 2001:DB8:FE::1/64",
            "ipsec/ipv6", "Last input never, output never"});
}

TEST_CASE("SO-02: show crypto session") {
  const std::string text = text_of("show crypto session", json::object(), render_crypto_session);
  in_order(text, {"Crypto session current status\n\n", "Interface: out0\n", "Session status: UP-NO-IKE\n",
                  "Peer: 192.0.2.2 port 500\n", "  IPSEC FLOW: permit ip 10.1.0.0/255.255.0.0 10.2.0.0/255.255.0.0\n",
                  "        Active SAs: 2, origin: crypto map\n", "Session status: DOWN\n",
                  "Peer: 2001:DB8:FF::2 port 500", "  IPSEC FLOW: permit ipv6 2001:DB8:1::/64 2001:DB8:2::/64\n",
                  "Interface: Tunnel0", "  IPSEC FLOW: permit ip 0.0.0.0/0.0.0.0 0.0.0.0/0.0.0.0\n"});
}

TEST_CASE("SO-02, SO-03: sessions with IKE SAs and both families") {
  const json session = {
      {"interface", "Tunnel0"},
      {"profile", "prof"},
      {"status", "UP-ACTIVE"},
      {"session_id", 1},
      {"peer", {{"address", "10.10.10.2"}, {"port", 500}}},
      {"ike",
       {{{"version", 2},
         {"local", "10.10.10.1"},
         {"lport", 500},
         {"remote", "10.10.10.2"},
         {"rport", 500},
         {"state", "Active"}}}},
      {"flows",
       {{{"action", "permit"},
         {"protocol", 0},
         {"local", "0.0.0.0/0"},
         {"remote", "0.0.0.0/0"},
         {"active_sas", 2},
         {"origin", "crypto map"},
         {"true_ident",
          {{{"local", "0.0.0.0/0"}, {"remote", "0.0.0.0/0"}}, {{"local", "::/0"}, {"remote", "::/0"}}}}}}}};
  in_order(
      render_crypto_session({{"sessions", {session}}}),
      {"Interface: Tunnel0\n", "Profile: prof\n", "Session status: UP-ACTIVE\n", "Peer: 10.10.10.2 port 500\n",
       "  Session ID: 1\n", "  IKEv2 SA: local 10.10.10.1/500 remote 10.10.10.2/500 Active\n",
       "  IPSEC FLOW: permit ip  0.0.0.0/0.0.0.0 0.0.0.0/0.0.0.0\n",
       "  TRUE IDENT (addr/mask/prot/port): {LOCAL -> REMOTE}\n", "    0.0.0.0/0.0.0.0/0/0 -> 0.0.0.0/0.0.0.0/0/0\n",
       "    ::/0/0/0 -> ::/0/0/0\n", "Active SAs: 2, origin: crypto map"});
}

TEST_CASE("SO-06: show crypto map") {
  const std::string text = text_of("show crypto map", json::object(), render_crypto_map);
  in_order(text, {"Crypto Map: \"M1\"\n\n",
                  "Crypto Map IPv4 \"M1\" 10 ipsec-manual\n",
                  "Peer = 192.0.2.2\n",
                  "Extended IP access list 101\n",
                  "  access-list 101 permit ip 10.1.0.0 0.0.255.255 10.2.0.0 0.0.255.255\n",
                  "Current peer: 192.0.2.2\n",
                  "Inbound esp spi: 0x1002(4098), cipher key: ********, authenticator key: ********\n",
                  "Outbound esp spi: 0x1001(4097)",
                  "Dualstack (Y/N): N\n\n",
                  "Responder-Only (Y/N): N\n",
                  "PFS (Y/N): N\n",
                  "Mixed-mode : Disabled\n",
                  "Transform sets={\n",
                  "  T1: { esp-aes esp-sha256-hmac } ,\n",
                  "}\n",
                  "Always create SAs\n",
                  "Interfaces using crypto map M1:\n",
                  "  out0\n",
                  "Crypto Map IPv6 \"M6\" 10 ipsec-manual\n",
                  "IPv6 access list V6-HOSTS\n",
                  "permit ipv6 2001:DB8:1::/64 2001:DB8:2::/64 sequence 10\n",
                  "Crypto Map: \"Tunnel0-head-0\"",
                  "Crypto Map IPv4 \"Tunnel0-head-0\" 65537 ipsec-manual\n",
                  "Map is a PROFILE INSTANCE.\n",
                  "Extended IP access list\n",
                  "  access-list permit ip any any\n",
                  "Interfaces using crypto map Tunnel0-head-0:\n",
                  "  Tunnel0\n"});
  CHECK(text.find("Security association lifetime") == std::string::npos);  // MAN-01
}

TEST_CASE("SO-07: show crypto ipsec sa") {
  const std::string text = text_of("show crypto ipsec sa", {{"map", "M1"}}, render_crypto_ipsec_sa);
  in_order(text, {"interface: out0\n",
                  "    Crypto map tag: M1, local addr 192.0.2.1\n\n",
                  "   protected vrf: (none)\n",
                  "   local  ident (addr/mask/prot/port): (10.1.0.0/255.255.0.0/0/0)\n",
                  "   remote ident (addr/mask/prot/port): (10.2.0.0/255.255.0.0/0/0)\n",
                  "   current_peer 192.0.2.2 port 500\n",
                  "     PERMIT, flags={origin_is_acl,}\n",
                  "    #pkts encaps: 100, #pkts encrypt: 100, #pkts digest: 100\n",
                  "    #pkts decaps: 90, #pkts decrypt: 90, #pkts verify: 90\n",
                  "    #pkts compressed: 0, #pkts decompressed: 0\n",
                  "    #pkts not compressed: 0, #pkts compr. failed: 0\n",
                  "    #pkts not decompressed: 0, #pkts decompress failed: 0\n",
                  "    #send errors 2, #recv errors 3\n\n",
                  "     local crypto endpt.: 192.0.2.1, remote crypto endpt.: 192.0.2.2\n",
                  "     plaintext mtu 1438, path mtu 1500, ip mtu 1500, ip mtu idb out0\n",
                  "     current outbound spi: 0x1001(4097)\n",
                  "     PFS (Y/N): N, DH group: none\n\n",
                  "     inbound esp sas:\n",
                  "      spi: 0x1002(4098)\n",
                  "        transform: esp-aes esp-sha256-hmac ,\n",
                  "        in use settings ={Tunnel, }\n",
                  "        conn id: 0, flow_id: N1:1, sibling_flags 0000000080000040, crypto map: M1\n",
                  "        IV size: 16 bytes\n",
                  "        replay detection support: N\n",
                  "        Status: ACTIVE(ACTIVE)\n",
                  "     inbound ah sas:\n",
                  "     inbound pcp sas:\n",
                  "     outbound esp sas:\n",
                  "      spi: 0x1001(4097)\n",
                  "     outbound ah sas:\n",
                  "     outbound pcp sas:\n"});
  CHECK(text.find("sa timing") == std::string::npos);  // MAN-10
}

TEST_CASE("SO-07: six sections even without an SA, UDP encapsulation named, lifetimes where there are some") {
  in_order(text_of("show crypto ipsec sa", {{"interface", "Tunnel1"}}, render_crypto_ipsec_sa),
           {"current outbound spi: 0x0(0)", "inbound esp sas:\n\n", "inbound ah sas:\n\n", "inbound pcp sas:\n\n",
            "outbound esp sas:\n\n", "outbound ah sas:\n\n", "outbound pcp sas:\n"});
  in_order(text_of("show crypto ipsec sa", {{"interface", "Tunnel0"}}, render_crypto_ipsec_sa),
           {"in use settings ={Tunnel, }", "in use settings ={Tunnel UDP-Encaps, }"});
  auto data = *loader::show("show crypto ipsec sa", {{"map", "M1"}}, fixed_view());
  data["interfaces"][0]["flows"][0]["sas"][0]["life_s"] = 76;
  data["interfaces"][0]["flows"][0]["sas"][0]["life_kb"] = 4377587;
  in_order(render_crypto_ipsec_sa(data), {"sa timing: remaining key lifetime (k/sec): (4377587/76)\n        IV size"});
}

TEST_CASE("SO-08: IPv6 in upper case, lengths for masks, two lines of endpoints") {
  in_order(text_of("show crypto ipsec sa", {{"map", "M6"}}, render_crypto_ipsec_sa),
           {"local addr 2001:DB8:FF::1", "(2001:DB8:1::/64/0/0)", "(2001:DB8:2::/64/0/0)",
            "current_peer 2001:DB8:FF::2 port 500",
            "     local crypto endpt.: 2001:DB8:FF::1,\n     remote crypto endpt.: 2001:DB8:FF::2\n",
            "ipv6 mtu 1500, ipv6 mtu idb out0"});
}

TEST_CASE("selectors with protocol and ports") {
  auto view = fixed_view();
  auto& ace = view.document.acls[0].rules[0];
  ace.protocol = 17;
  ace.source_ports = {{1024, 65535}};
  ace.destination_ports = {{53, 53}};
  in_order(text_of("show crypto ipsec sa", {{"map", "M1"}}, render_crypto_ipsec_sa, view),
           {"(10.1.0.0/255.255.0.0/17/0)", "(10.2.0.0/255.255.0.0/17/53)"});
  in_order(text_of("show crypto session", {{"interface", "out0"}}, render_crypto_session, view),
           {"permit 17 10.1.0.0/255.255.0.0 port 1024-65535 10.2.0.0/255.255.0.0 port 53\n"});
  in_order(text_of("show crypto map", {{"tag", "M1"}}, render_crypto_map, view),
           {"permit 17 10.1.0.0 0.0.255.255 range 1024 65535 10.2.0.0 0.0.255.255 eq 53\n"});
}

}  // namespace postern::cli
