// IF-02: the routes of the moment against the crypto maps. Said when a document is applied or compared, and logged when
// a route changes under it.
#include <algorithm>
#include <map>

#include "base/log.hpp"
#include "loader/node.hpp"
#include "loader/ways_past_maps.hpp"

namespace postern::loader {
namespace {

// Thousands of rules are thousands of look-ups: they take at most a twentieth of the time.
constexpr std::chrono::milliseconds ways_rest{1000};
constexpr int ways_rest_factor = 20;

}  // namespace

config::Problems Node::ways_past_maps(const config::Document& document, const Facts& facts) {
  std::map<std::uint32_t, std::string> names;
  return unprotected_ways(document, [&](const WayOut& way) -> std::optional<std::string> {
    const VrfFacts* const vrf = facts.vrf_of_table(way.table);
    if (way.table != 0 && vrf == nullptr) return std::nullopt;
    const auto route = netlink_->lookup({.destination = way.to,
                                         .mark = way.own ? POSTERN_MARK : 0U,
                                         .vrf_ifindex = vrf == nullptr ? 0U : vrf->ifindex});
    if (!route || route->type != RouteType::unicast || route->ifindex == 0) return std::nullopt;
    if (const auto known = names.find(route->ifindex); known != names.end()) return known->second;
    const auto link = netlink_->link(route->ifindex);
    if (!link) return std::nullopt;
    return names[route->ifindex] = link->name;
  });
}

void Node::check_ways() {
  auto now = ways_past_maps(document_, facts_);
  for (const config::Problem& one : now)
    if (std::ranges::find(ways_past_maps_, one) == ways_past_maps_.end()) spdlog::warn("{}", one.text());
  ways_past_maps_ = std::move(now);
}

void Node::check_ways_soon() {
  if (ways_timer_ != 0) return;
  ways_timer_ = loop_->after(std::max<Duration>(ways_rest, ways_took_ * ways_rest_factor), [this] {
    ways_timer_ = 0;
    const Time begin = Clock::now();
    check_ways();
    ways_took_ = Clock::now() - begin;
  });
}

}  // namespace postern::loader
