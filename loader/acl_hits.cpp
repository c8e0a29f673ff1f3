#include "loader/acl_hits.hpp"

#include <algorithm>
#include <set>

namespace postern::loader {

std::vector<std::string> hit_keys(const std::string& interface, const std::string& policy_text) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < policy_text.size();) {
    const auto end = std::min(policy_text.find('\n', at), policy_text.size());
    const std::string line = policy_text.substr(at, end - at);
    out.push_back(interface + " " + line.substr(0, line.find('\t')));
    at = end + 1;
  }
  return out;
}

void fold_hits(AclHits& hits, const std::vector<std::string>& gone,
               const std::map<std::uint32_t, std::uint64_t>& counted, const std::string& interface,
               const std::vector<std::string>& now) {
  for (const auto& [index, packets] : counted)
    if (index < gone.size() && packets != 0) hits[gone[index]] += packets;
  const std::set<std::string> kept(now.begin(), now.end());
  std::erase_if(
      hits, [&](const auto& entry) { return entry.first.starts_with(interface + " ") && !kept.contains(entry.first); });
}

std::vector<std::uint64_t> hits_of(const AclHits& hits, const NodeMaps& maps, std::uint32_t generation,
                                   const std::vector<std::string>& keys) {
  std::vector<std::uint64_t> out;
  std::set<std::string> told;  // a rule that stands twice is never asked the second time
  for (std::uint32_t index = 0; index < keys.size(); ++index) {
    const auto before = told.insert(keys[index]).second ? hits.find(keys[index]) : hits.end();
    const auto counted = maps.ace_hits.sum({generation, index});
    out.push_back((before == hits.end() ? 0 : before->second) + (counted ? counted->packets : 0));
  }
  return out;
}

}  // namespace postern::loader
