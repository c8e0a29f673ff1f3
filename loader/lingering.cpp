#include "loader/lingering.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "loader/plan_sa.hpp"

namespace postern::loader {
namespace {

// An SA's end is an address of it, or packets of SAs arrive by it.
bool has_sas(const config::Document& document, const config::Interface& interface) {
  if (interface.crypto_map || interface.ipv6_crypto_map) return true;
  return std::ranges::any_of(document.crypto_maps,
                             [&](const config::CryptoMap& map) { return map.local_interface == interface.name; }) ||
         std::ranges::any_of(document.tunnels, [&](const config::Tunnel& tunnel) {
           return tunnel.source == interface.name || IpAddress::parse(tunnel.source).has_value();
         });
}

bool usable(const Prefix& prefix, Family family) {
  const auto& bytes = prefix.address.mapped();
  const bool link_local = family == Family::v6 && bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80;
  return prefix.family() == family && !link_local && !is_loopback(prefix.address);
}

bool has_family(const LinkFacts& link, Family family) {
  return std::ranges::any_of(link.addresses, [&](const Prefix& one) { return usable(one, family); });
}

std::int64_t seconds(Duration time) { return std::chrono::duration_cast<std::chrono::seconds>(time).count(); }

}  // namespace

void Lingering::complete(Facts& facts, const config::Document& document, Time now) {
  const Duration grace = std::chrono::seconds(document.dataplane.interface_grace_s);
  for (const config::Interface& interface : document.interfaces) {
    if (!has_sas(document, interface)) continue;
    const auto at = std::ranges::find(facts.links, interface.name, &LinkFacts::name);
    const auto known = known_.find(interface.name);
    if (at != facts.links.end())
      seen(interface.name, *at, known_[interface.name], grace, now);
    else if (known != known_.end())
      linger(interface.name, facts, known->second, grace, now);
  }
}

void Lingering::seen(const std::string& name, LinkFacts& link, Known& known, Duration grace, Time now) {
  if (known.gone_at)
    spdlog::info("interface {} is back after {} ms", name,
                 std::chrono::duration_cast<std::chrono::milliseconds>(now - *known.gone_at).count());
  known.gone_at = known.ends = std::nullopt;
  const auto keep = [&](Family family, std::optional<Time>& since, std::optional<Time>& ends) {
    if (has_family(link, family) || !has_family(known.link, family)) {
      since = ends = std::nullopt;
      return;
    }
    const bool begins = !since;
    if (begins) since = now;
    ends = *since + grace;
    if (now >= *ends) {
      since = ends = std::nullopt;
      return;
    }
    if (begins)
      spdlog::warn("interface {} has no {} address any more: its SAs are kept for {} s", name,
                   family == Family::v4 ? "IPv4" : "IPv6", seconds(grace));
    std::ranges::copy_if(known.link.addresses, std::back_inserter(link.addresses),
                         [&](const Prefix& one) { return usable(one, family); });
  };
  keep(Family::v4, known.without_v4, known.v4_ends);
  keep(Family::v6, known.without_v6, known.v6_ends);
  known.link = link;
}

void Lingering::linger(const std::string& name, Facts& facts, Known& known, Duration grace, Time now) {
  const LinkFacts* const other = facts.find(known.link.ifindex);
  if (!known.gone_at) {
    known.gone_at = now;
    spdlog::warn("interface {} is gone{}: its SAs are kept for {} s", name,
                 other != nullptr ? " (it is " + other->name + " now)" : "", seconds(grace));
  }
  known.ends = *known.gone_at + grace;
  if (now >= *known.ends) return;
  LinkFacts link = known.link;  // by which side its packets go was judged under its name
  link.gone = other == nullptr;
  if (other != nullptr) {
    link.renamed = other->name;
    link.mtu = other->mtu;
    link.queues = other->queues;
    link.master = other->master;
    link.up = other->up;
  }
  facts.links.push_back(std::move(link));
}

void Lingering::settle(const config::Document& document, Time now) {
  std::erase_if(known_, [&](const auto& one) {
    const auto& [name, known] = one;
    const auto* const interface = config::find_named(document.interfaces, name);
    if (interface == nullptr || !has_sas(document, *interface)) return true;
    if (!known.ends || now < *known.ends) return false;
    spdlog::warn("interface {} has been gone for {} s: its SAs are deleted", name, seconds(now - *known.gone_at));
    return true;
  });
}

std::optional<Time> Lingering::next_end() const {
  std::optional<Time> out;
  for (const auto& [name, known] : known_)
    for (const auto& end : {known.ends, known.v4_ends, known.v6_ends})
      if (end && (!out || *end < *out)) out = end;
  return out;
}

}  // namespace postern::loader
