// show crypto ipsec sa (SO-07; IPv6 as SO-08 prints it).
#include <fmt/core.h>

#include "cli/render.hpp"
#include "cli/text.hpp"

namespace postern::cli {
namespace {

using nlohmann::json;

// OPAQUE: what has no ports to show (RFC 4301 §4.4.1.1).
std::string ident(const json& object) {
  if (object.value("opaque", false))
    return fmt::format("{}/{}/opaque", address_and_mask(text(object, "prefix")), number(object, "proto"));
  return selector(text(object, "prefix"), number(object, "proto"), number(object, "port"));
}

std::string render_counters(const json& c) {
  const auto n = [&](const char* key) { return number(c, key); };
  return fmt::format(
      "    #pkts encaps: {}, #pkts encrypt: {}, #pkts digest: {}\n"
      "    #pkts decaps: {}, #pkts decrypt: {}, #pkts verify: {}\n"
      "    #pkts compressed: {}, #pkts decompressed: {}\n"
      "    #pkts not compressed: {}, #pkts compr. failed: {}\n"
      "    #pkts not decompressed: {}, #pkts decompress failed: {}\n"
      "    #send errors {}, #recv errors {}\n",
      n("encaps"), n("encrypt"), n("digest"), n("decaps"), n("decrypt"), n("verify"), n("compressed"),
      n("decompressed"), n("not_compressed"), n("compress_failed"), n("not_decompressed"), n("decompress_failed"),
      n("send_errors"), n("recv_errors"));
}

// SO-08: where dummy packets are sent, or came.
std::string render_dummies(const json& flow) {
  const json& c = flow.at("counters");
  if (flow.at("dummy_state").is_null() && number(c, "dummy_recv") == 0) return "";
  return fmt::format("    #send dummy packets {}, #recv dummy packets {}\n", number(c, "dummy_sent"),
                     number(c, "dummy_recv"));
}

std::string render_ends(const json& flow) {
  const json& ends = flow.at("endpoints");
  const json& mtu = flow.at("mtu");
  const std::string local = address(text(ends, "local", "(none)")), remote = address(text(ends, "remote"));
  const bool v6 = is_v6(remote);
  const char* const ip = v6 ? "ipv6" : "ip";
  return fmt::format("     local crypto endpt.: {},{}remote crypto endpt.: {}\n", local, v6 ? "\n     " : " ", remote) +
         fmt::format("     plaintext mtu {}, path mtu {}, {} mtu {}, {} mtu idb {}\n", number(mtu, "plaintext"),
                     number(mtu, "path"), ip, number(mtu, "ip"), ip, text(mtu, "idb")) +
         fmt::format("     current outbound spi: {}\n", spi(text(flow, "outbound_spi"))) +
         fmt::format("     PFS (Y/N): {}, DH group: {}\n", yes_no(!flow.at("pfs").is_null()),
                     text(flow, "pfs", "none")) +
         (flow.at("dummy_state").is_null() ? "" : "     Dummy packet: " + text(flow, "dummy_state") + "\n");
}

std::string render_sa(const json& sa, const std::string& map, const std::string& node) {
  std::string transforms;
  for (const json& one : list(sa, "transforms")) transforms += printable(one.get<std::string>()) + " ";
  const char* const mode = text(sa, "mode") == "tunnel" ? "Tunnel" : "Transport";
  std::string out = fmt::format("      spi: {}\n        transform: {},\n", spi(text(sa, "spi")), transforms);
  out += fmt::format("        in use settings ={{{}{}, }}\n", mode, flag(sa, "udp_encap") ? " UDP-Encaps" : "");
  out += fmt::format("        conn id: {}, flow_id: {}:{}, sibling_flags {}, crypto map: {}\n", number(sa, "conn_id"),
                     node, number(sa, "flow_id"), text(sa, "sibling_flags"), map);
  if (!sa.at("life_s").is_null())
    out += fmt::format("        sa timing: remaining key lifetime (k/sec): ({}/{})\n",
                       text(sa, "life_kb", "kilobytes disabled"), number(sa, "life_s"));
  out += fmt::format("        IV size: {} bytes\n        replay detection support: {}\n", number(sa, "iv_bytes"),
                     yes_no(flag(sa, "replay")));
  if (flag(sa, "extended_sequence")) out += "        extended sequence numbers: Y\n";
  const std::string status = text(sa, "status");
  return out + fmt::format("        Status: {}({})\n", status, status);
}

// Six sections, always, in this order; each ends with a blank line.
std::string render_sas(const json& flow, const std::string& map, const std::string& node) {
  std::string out;
  for (const char* const direction : {"in", "out"})
    for (const char* const protocol : {"esp", "ah", "pcp"}) {
      out += fmt::format("     {}bound {} sas:\n", direction, protocol);
      for (const json& sa : list(flow, "sas"))
        if (text(sa, "dir") == direction && text(sa, "proto") == protocol) out += render_sa(sa, map, node);
      out += "\n";
    }
  return out;
}

std::string render_flow(const json& flow, const std::string& map, const std::string& node) {
  std::string flags;
  for (const json& one : list(flow, "flags")) flags += printable(one.get<std::string>()) + ",";
  std::string out = "   protected vrf: " + text(flow, "protected_vrf", "(none)") + "\n";
  out += "   local  ident (addr/mask/prot/port): (" + ident(flow.at("local_ident")) + ")\n";
  out += "   remote ident (addr/mask/prot/port): (" + ident(flow.at("remote_ident")) + ")\n";
  std::string idents;
  for (const json& pair : list(flow, "true_ident"))
    idents += fmt::format("     {} -> {}\n", selector(text(pair, "local"), 0, 0), selector(text(pair, "remote"), 0, 0));
  if (!idents.empty()) out += "   TRUE ident (addr/mask/prot/port): {LOCAL -> REMOTE}\n" + idents;
  out += fmt::format("   current_peer {} port {}\n", address(text(flow, "peer")), number(flow, "peer_port"));
  out += "     PERMIT, flags={" + flags + "}\n";
  return out + render_counters(flow.at("counters")) + render_dummies(flow) + "\n" + render_ends(flow) + "\n" +
         render_sas(flow, map, node);
}

}  // namespace

std::string render_crypto_ipsec_sa(const json& data) {
  std::string out;
  for (const json& block : list(data, "interfaces")) {
    const std::string map = text(block, "map");
    out += fmt::format("{}interface: {}\n    Crypto map tag: {}, local addr {}\n\n", out.empty() ? "" : "\n",
                       text(block, "name"), map, address(text(block, "local", "(none)")));
    for (const json& flow : list(block, "flows")) out += render_flow(flow, map, text(data, "node"));
  }
  return out.empty() ? "No SAs found.\n" : out;
}

}  // namespace postern::cli
