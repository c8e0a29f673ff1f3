// make_plan()'s work under way: one object a plan. Private to loader/plan*.cpp.
#pragma once

#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "loader/plan.hpp"
#include "loader/plan_sa.hpp"

namespace postern::loader {

class Planner {
 public:
  Planner(const config::Document& document, const Facts& facts, FlowBook& flows, const Temporaries& temporaries)
      : document_(document), facts_(facts), flows_(flows), temporaries_(temporaries) {}

  Result<Plan> make();

 private:
  std::uint32_t new_flow(PlannedFlow flow, const std::string& key);
  PlannedInterface& interface_of(const LinkFacts& link, const std::optional<std::string>& vrf);
  Result<void> add_interface(const config::Interface& interface);
  Result<void> add_map(const config::Interface& interface, const LinkFacts& link, const std::string& name,
                       std::uint32_t entry_offset);

  // An entry of a map on one of its interfaces.
  struct Placement {
    const config::Interface& interface;
    const LinkFacts& link;
    const config::CryptoMap& map;
    const config::MapEntry& entry;
    const MapPlace& place;
    [[nodiscard]] std::string key() const { return map.name + " " + std::to_string(entry.sequence) + " " + place.name; }
  };

  std::uint32_t flow_of(const Placement& at, PlannedFlow flow, const std::string& key);

  // Rules with where they come from, before it is known which others stand in front of them.
  using Placed = std::vector<std::pair<PolicyRule, PlannedInterface::RuleOrigin>>;
  static void append(PlannedInterface& planned, Placed rules);

  // plan_temporaries.cpp
  Result<void> add_temporaries(const PlannedFlow& base, std::uint32_t entry, Placed& rules);
  void add_template(const Placement& at, const config::DynamicEntry& entry, const PlannedFlow& flow,
                    std::uint32_t policy_entry, std::vector<std::uint32_t>& bases, Placed& rules);
  Result<void> add_dynamic(const Placement& at, std::uint32_t entry_offset);

  Result<void> add_entry(const Placement& at, std::uint32_t entry_offset);
  void miss(std::string what);
  static std::string without_address(const Placement& at);
  Result<void> add_pairs(std::vector<PlannedSaPair> pairs, std::vector<std::uint32_t> flows, const AdjacencyKey& peer);
  void add_peer(const AdjacencyKey& peer);
  Result<void> add_negotiated(const std::string& owner);
  Result<void> add_tunnel(const config::Tunnel& tunnel);

  // plan_devices.cpp
  void add_devices();
  void add_sockets();
  void add_interface_devices(PlannedInterface& interface, const LinkFacts& link);
  static PlannedDevice device_of(DeviceKind kind, const LinkFacts& link, std::uint32_t vrf);
  void add_queues(DeviceKind kind, const LinkFacts& link, std::uint32_t flow, std::uint32_t vrf);
  void add_socket(const std::string& name, DeviceKind kind, std::uint32_t vrf, std::uint32_t thread,
                  std::uint16_t port = 0, std::uint32_t queue = 0);

  Result<void> check_spis() const;

  const config::Document& document_;
  const Facts& facts_;
  FlowBook& flows_;
  const Temporaries& temporaries_;
  Plan plan_;
  std::map<std::string, std::uint32_t> used_;
  std::set<std::uint32_t> temporary_;
  // IF-03: flows of the maps whose SAs are shared, by the owner of the SAs and the rule.
  std::map<std::tuple<std::string, std::uint32_t, bool>, std::uint32_t> shared_;
};

}  // namespace postern::loader
