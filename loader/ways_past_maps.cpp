#include "loader/ways_past_maps.hpp"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "loader/plan_sa.hpp"

namespace postern::loader {
namespace {

IpAddress first_host(const Prefix& prefix) {
  const std::uint8_t whole = prefix.family() == Family::v4 ? 32 : 128;
  if (prefix.length >= whole) return prefix.first();
  auto bytes = prefix.first().mapped();
  bytes[15] |= 1;
  return IpAddress::from_mapped(bytes);
}

class RouteCheck {
 public:
  RouteCheck(const config::Document& document, const FindWayOut& find) : document_(document), find_(find) {}

  config::Problems run() {
    for (std::size_t i = 0; i < document_.crypto_maps.size(); ++i) check_map(i);
    return std::move(found_);
  }

 private:
  // A map in two VRFs is asked about in both.
  void check_map(std::size_t index) {
    const config::CryptoMap& map = document_.crypto_maps[index];
    std::map<std::uint32_t, std::set<std::string>> bound;
    for (const config::Interface& interface : document_.interfaces)
      if (interface.crypto_map == map.name || interface.ipv6_crypto_map == map.name)
        bound[table_of(document_, interface.vrf)].insert(interface.name);
    for (const auto& [table, interfaces] : bound)
      for (std::size_t j = 0; j < map.entries.size(); ++j)
        check_entry(map, map.entries[j], fmt::format("/crypto_maps/{}/entries/{}", index, j), table, interfaces);
  }

  void check_entry(const config::CryptoMap& map, const config::MapEntry& entry, const std::string& path,
                   std::uint32_t table, const std::set<std::string>& interfaces) {
    if (!entry.peer.is_unspecified())
      ask({table, entry.peer, true}, entry.peer.text(), path + "/peer", map.name, interfaces);
    for (std::size_t i = 0; i < document_.acls.size(); ++i) {
      if (document_.acls[i].name != entry.acl) continue;
      for (std::size_t j = 0; j < document_.acls[i].rules.size(); ++j) {
        const config::Ace& rule = document_.acls[i].rules[j];
        if (rule.action != config::Action::permit || rule.destination.length == 0) continue;
        ask({table, first_host(rule.destination), false},
            Prefix{rule.destination.first(), rule.destination.length}.text(),
            fmt::format("/acls/{}/rules/{}/destination", i, j), map.name, interfaces);
      }
    }
  }

  void ask(const WayOut& way, const std::string& what, const std::string& path, const std::string& map,
           const std::set<std::string>& interfaces) {
    const auto device = find_(way);
    if (!device || interfaces.contains(*device) || is_tunnel(*device)) return;
    config::Problem one{path,
                        fmt::format("the route to {} leaves by {}, where crypto map {} is not applied: what goes there "
                                    "is not protected by it",
                                    what, *device, map),
                        "the map on that interface too, or a route by one that has it", config::Severity::warning};
    if (std::ranges::find(found_, one) == found_.end()) found_.push_back(std::move(one));
  }

  bool is_tunnel(const std::string& device) const {
    return std::ranges::any_of(document_.tunnels, [&](const config::Tunnel& one) { return one.device() == device; });
  }

  const config::Document& document_;
  const FindWayOut& find_;
  config::Problems found_;
};

}  // namespace

config::Problems unprotected_ways(const config::Document& document, const FindWayOut& find) {
  return RouteCheck(document, find).run();
}

}  // namespace postern::loader
