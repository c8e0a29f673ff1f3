// Dynamic crypto maps (DM-01 to DM-14).
#include "config/convert.hpp"

namespace postern::config {
namespace {

using nlohmann::json;

DynamicEntry convert_template(const json& in, const std::string& path, const Encapsulation& inherited,
                              Conversion& conversion) {
  DynamicEntry out;
  out.sequence = in["sequence"];
  if (in.contains("match_address")) out.acl = in["match_address"].get<std::string>();
  for (const json& peer : list_of(in, "peers")) {
    const std::string text = peer;
    out.peers.push_back(conversion.keep(parse_address(text), at("{}/peers/{}", path, out.peers.size()), text));
  }
  out.transform_sets = in["transform_sets"].get<std::vector<std::string>>();
  if (in.contains("ikev2_profile")) out.ikev2_profile = in["ikev2_profile"].get<std::string>();
  out.pfs = convert_pfs(in, path, conversion);
  out.sa = convert_security_association(in);
  out.encapsulation = convert_encapsulation(in, inherited);
  return out;
}

}  // namespace

std::vector<DynamicMap> convert_dynamic_maps(const json& maps, const Encapsulation& inherited, Conversion& conversion) {
  std::vector<DynamicMap> out;
  for (const json& map : maps) {
    DynamicMap& made = out.emplace_back();
    const std::string path = at("/dynamic_maps/{}", out.size() - 1);
    made.name = map["name"];
    made.limit = map.value("limit", made.limit);
    for (const json& entry : map["entries"])
      made.entries.push_back(
          convert_template(entry, at("{}/entries/{}", path, made.entries.size()), inherited, conversion));
  }
  return out;
}

}  // namespace postern::config
