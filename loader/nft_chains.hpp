// What nftables does in this namespace, as far as loader/plain_side.hpp has to know: base chains, and whether any rule
// needs connection tracking. Spoken directly to the kernel (nfnetlink): it also shows what iptables-nft and firewalld
// made.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "loader/netlink_socket.hpp"

namespace postern::loader {

struct NftChain {
  std::uint8_t family = 0;  // NFPROTO_*
  std::string table, name;
  std::uint32_t hook = 0;            // NF_INET_* or NF_NETDEV_*
  std::vector<std::string> devices;  // netdev and inet ingress; a name, or a prefix with '*' at its end
  bool drops_by_policy = false;
  std::uint32_t rules = 0;  // and other references to the chain

  // A chain without rules that accepts is as good as none: distributions ship such tables.
  [[nodiscard]] bool has_effect() const { return rules > 0 || drops_by_policy; }
  [[nodiscard]] bool is_on(std::string_view device) const;
  [[nodiscard]] std::string text() const { return "nftables chain " + table + " " + name; }
};

// Base chains alone; empty where the kernel has no nf_tables.
[[nodiscard]] Result<std::vector<NftChain>> list_nft_chains(NetlinkSocket& socket);

// "nftables chain T C" of a rule that uses connection tracking or NAT; none: no rule does.
[[nodiscard]] Result<std::optional<std::string>> find_nft_connection_tracking(NetlinkSocket& socket);

}  // namespace postern::loader
