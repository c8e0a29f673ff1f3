// show crypto ipsec transform-set (SO-22, TS-67).
#include "crypto/ah_transforms.hpp"
#include "crypto/transforms.hpp"
#include "loader/show.hpp"
#include "loader/show_support.hpp"

namespace postern::loader {
namespace {

using nlohmann::json;

bool is_weak(const std::string& word) {
  const crypto::Integrity ah = crypto::find_ah_transform(word);
  const crypto::NamedTransform* const row =
      ah == crypto::Integrity::none ? crypto::find_transform(word) : crypto::find_integrity(ah);
  return row != nullptr && row->weak;
}

bool names(const std::vector<std::string>& sets, const std::string& set) {
  return std::ranges::find(sets, set) != sets.end();
}

json users_of(const config::Document& document, const std::string& set) {
  json out = json::array();
  for (const config::CryptoMap& map : document.crypto_maps)
    for (const config::MapEntry& entry : map.entries)
      if (names(entry.transform_sets, set)) out.push_back(fmt::format("crypto map {} {}", map.name, entry.sequence));
  for (const config::DynamicMap& map : document.dynamic_maps)
    for (const config::DynamicEntry& entry : map.entries)
      if (names(entry.transform_sets, set)) out.push_back(fmt::format("dynamic map {} {}", map.name, entry.sequence));
  for (const config::IpsecProfile& profile : document.profiles)
    if (names(profile.transform_sets, set)) out.push_back("profile " + profile.name);
  return out;
}

json set_json(const config::Document& document, const config::TransformSet& set) {
  json weak = json::array();
  for (const std::string& word : set.transforms)
    if (is_weak(word)) weak.push_back(word);
  return {{"name", set.name},
          {"transforms", set.transforms},
          {"mode", set.transport_mode ? "transport" : "tunnel"},
          {"required", set.mode_required},
          {"weak", std::move(weak)},
          {"used_by", users_of(document, set.name)}};
}

}  // namespace

Result<json> show_crypto_ipsec_transform_set(const json& args, const NodeView& view) {
  POSTERN_CHECK(only_arguments(args, {"tag"}));
  POSTERN_TRY(tag, text_argument(args, "tag"));
  json sets = json::array();
  for (const config::TransformSet& set : view.document.transform_sets)
    if (!tag || set.name == *tag) sets.push_back(set_json(view.document, set));
  if (sets.empty() && tag) return fail("there is no transform set of that name");
  return json{{"transform_sets", std::move(sets)}};
}

}  // namespace postern::loader
