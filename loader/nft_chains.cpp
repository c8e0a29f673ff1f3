#include "loader/nft_chains.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/socket.h>

#include "base/bytes.hpp"

namespace postern::loader {
namespace {

constexpr int device_prefix = 2;  // NFTA_DEVICE_PREFIX, of Linux 6.16

int nft_type(int message) { return NFNL_SUBSYS_NFTABLES << 8 | message; }

nfgenmsg any_family() {
  nfgenmsg header{};
  header.nfgen_family = NFPROTO_UNSPEC;
  header.version = NFNETLINK_V0;
  return header;
}

std::uint32_t be32_of(const Attributes& attributes, int attribute, std::uint32_t otherwise) {
  const auto in = attributes.bytes(attribute);
  return in.size() < 4 ? otherwise : load_be32(in.data());
}

// Every element of a nested list, in order.
template <class Each>
void for_each_nested(const nlattr* list, Each each) {
  if (list == nullptr) return;
  int left = nla_len(list);
  for (const nlattr* at = static_cast<const nlattr*>(nla_data(list)); nla_ok(at, left); at = nla_next(at, &left))
    each(at);
}

std::string text_of(const nlattr* attribute) {
  const auto* const first = static_cast<const char*>(nla_data(attribute));
  return {first, ::strnlen(first, static_cast<std::size_t>(nla_len(attribute)))};
}

std::optional<NftChain> read_chain(const nlmsghdr* message) {
  if (message->nlmsg_type != nft_type(NFT_MSG_NEWCHAIN)) return std::nullopt;
  const Attributes attributes(message, sizeof(nfgenmsg));
  if (!attributes.has(NFTA_CHAIN_HOOK)) return std::nullopt;
  const Attributes hook = attributes.nested(NFTA_CHAIN_HOOK);
  NftChain chain;
  chain.family = static_cast<const nfgenmsg*>(nlmsg_data(message))->nfgen_family;
  chain.table = attributes.text(NFTA_CHAIN_TABLE);
  chain.name = attributes.text(NFTA_CHAIN_NAME);
  chain.hook = be32_of(hook, NFTA_HOOK_HOOKNUM, 0);
  chain.drops_by_policy = be32_of(attributes, NFTA_CHAIN_POLICY, NF_ACCEPT) == NF_DROP;
  chain.rules = be32_of(attributes, NFTA_CHAIN_USE, 0);
  if (hook.has(NFTA_HOOK_DEV)) chain.devices.push_back(hook.text(NFTA_HOOK_DEV));
  for_each_nested(hook.at(NFTA_HOOK_DEVS), [&](const nlattr* device) {
    chain.devices.push_back(text_of(device) + (nla_type(device) == device_prefix ? "*" : ""));
  });
  return chain;
}

bool tracks(std::string_view expression, const Attributes& data) {
  constexpr std::array<std::string_view, 7> native = {"ct",        "nat",      "masq",        "redir",
                                                      "connlimit", "synproxy", "flow_offload"};
  constexpr std::array<std::string_view, 14> extensions = {
      "conntrack", "state", "connmark", "connbytes", "connlimit", "connlabel",  "helper",
      "cluster",   "SNAT",  "DNAT",     "REDIRECT",  "NETMAP",    "MASQUERADE", "CONNMARK"};
  if (std::ranges::find(native, expression) != native.end()) return true;
  if (expression != "match" && expression != "target") return false;
  static_assert(static_cast<int>(NFTA_MATCH_NAME) == static_cast<int>(NFTA_TARGET_NAME));
  return std::ranges::find(extensions, data.text(NFTA_MATCH_NAME)) != extensions.end();
}

bool rule_tracks(const Attributes& rule) {
  bool found = false;
  for_each_nested(rule.at(NFTA_RULE_EXPRESSIONS), [&](const nlattr* element) {
    const Attributes expression(element);
    found = found || tracks(expression.text(NFTA_EXPR_NAME), expression.nested(NFTA_EXPR_DATA));
  });
  return found;
}

// A kernel without nf_tables refuses the subsystem's number.
bool no_nf_tables(const Error& error) {
  return error.code == EINVAL || error.code == EOPNOTSUPP || error.code == EPROTONOSUPPORT;
}

}  // namespace

bool NftChain::is_on(std::string_view device) const {
  return std::ranges::any_of(devices, [&](const std::string& one) {
    return one.ends_with('*') ? device.starts_with(std::string_view(one).substr(0, one.size() - 1)) : device == one;
  });
}

Result<std::vector<NftChain>> list_nft_chains(NetlinkSocket& socket) {
  std::vector<NftChain> chains;
  NetlinkMessage request(nft_type(NFT_MSG_GETCHAIN), 0, any_family());
  const auto listed = socket.dump(
      request, "list nftables chains",
      [&](const nlmsghdr* message) {
        if (auto chain = read_chain(message)) chains.push_back(std::move(*chain));
      },
      [&] { chains.clear(); });
  if (!listed && !no_nf_tables(listed.error())) return std::unexpected(listed.error());
  return chains;
}

Result<std::optional<std::string>> find_nft_connection_tracking(NetlinkSocket& socket) {
  std::optional<std::string> found;
  NetlinkMessage request(nft_type(NFT_MSG_GETRULE), 0, any_family());
  const auto listed = socket.dump(
      request, "list nftables rules",
      [&](const nlmsghdr* message) {
        if (found || message->nlmsg_type != nft_type(NFT_MSG_NEWRULE)) return;
        const Attributes rule(message, sizeof(nfgenmsg));
        if (rule_tracks(rule))
          found = "nftables chain " + rule.text(NFTA_RULE_TABLE) + " " + rule.text(NFTA_RULE_CHAIN);
      },
      [&] { found.reset(); });
  if (!listed && !no_nf_tables(listed.error())) return std::unexpected(listed.error());
  return found;
}

}  // namespace postern::loader
