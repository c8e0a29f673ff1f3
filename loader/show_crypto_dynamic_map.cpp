// show crypto dynamic-map (SO-24).
#include <algorithm>

#include "loader/show.hpp"
#include "loader/show_acl.hpp"
#include "loader/show_support.hpp"

namespace postern::loader {
namespace {

using nlohmann::json;

std::size_t temporary_count(const NodeView& view, const std::string& map, std::uint32_t sequence) {
  return static_cast<std::size_t>(std::ranges::count_if(view.flows, [&](const FlowView& flow) {
    return flow.base_flow != 0 && flow.dynamic_map == map && flow.dynamic_sequence == sequence;
  }));
}

// The rule's place is an entry that names the dynamic map.
bool stands_at(const NodeView& view, const std::string& dynamic, const RuleView& rule) {
  const config::CryptoMap* const map = config::find_named(view.document.crypto_maps, rule.map);
  return map != nullptr && std::ranges::any_of(map->entries, [&](const config::MapEntry& entry) {
           return entry.sequence == rule.sequence && entry.dynamic == dynamic;
         });
}

json template_json(const NodeView& view, const config::DynamicMap& map, const config::DynamicEntry& entry) {
  const config::SecurityAssociation& global = view.document.ipsec.sa;
  json peers = json::array(), sets = json::array(), acl = {{"name", nullptr}, {"rules", json::array()}};
  for (const IpAddress& peer : entry.peers) peers.push_back(peer.text());
  for (const std::string& set : entry.transform_sets) sets.push_back(transforms_json(view, set));
  if (entry.acl)
    acl = acl_json(view, *entry.acl, [&](const RuleView& rule) { return stands_at(view, map.name, rule); });
  return {{"seq", entry.sequence},
          {"acl", std::move(acl)},
          {"peers", std::move(peers)},
          {"ikev2_profile", or_null(entry.ikev2_profile)},
          {"lifetime",
           {{"seconds", (entry.sa.lifetime_s ? entry.sa.lifetime_s : global.lifetime_s).value_or(0)},
            {"kilobytes", (entry.sa.lifetime_kb ? entry.sa.lifetime_kb : global.lifetime_kb).value_or(0)}}},
          {"pfs", entry.pfs ? json(fmt::format("group{}", static_cast<unsigned>(*entry.pfs))) : json()},
          {"discover", false},
          {"transform_sets", std::move(sets)},
          {"temporary_entries", temporary_count(view, map.name, entry.sequence)}};
}

json dynamic_map_json(const NodeView& view, const config::DynamicMap& map) {
  json entries = json::array(), used_by = json::array();
  for (const config::DynamicEntry& entry : map.entries) entries.push_back(template_json(view, map, entry));
  for (const config::CryptoMap& user : view.document.crypto_maps)
    for (const config::MapEntry& entry : user.entries)
      if (entry.dynamic == map.name) used_by.push_back(fmt::format("{} {}", user.name, entry.sequence));
  return {{"name", map.name}, {"limit", map.limit}, {"entries", std::move(entries)}, {"used_by", std::move(used_by)}};
}

}  // namespace

Result<json> show_crypto_dynamic_map(const json& args, const NodeView& view) {
  POSTERN_CHECK(only_arguments(args, {"tag"}));
  POSTERN_TRY(tag, text_argument(args, "tag"));
  json maps = json::array();
  for (const config::DynamicMap& map : view.document.dynamic_maps)
    if (!tag || map.name == *tag) maps.push_back(dynamic_map_json(view, map));
  if (maps.empty() && tag) return fail("there is no dynamic map of that name");
  return json{{"dynamic_maps", std::move(maps)}};
}

}  // namespace postern::loader
