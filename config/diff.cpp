#include <algorithm>
#include <functional>

#include "config/render.hpp"

namespace postern::config {
namespace {

template <class T>
void diff_one(const T& before, const T& after, const char* section, std::vector<Change>& out) {
  if (!(before == after)) out.push_back({ChangeKind::changed, section, ""});
}

// Objects are paired by `name_of`; an object is compared whole.
template <class T, class Name>
void diff_list(const std::vector<T>& before, const std::vector<T>& after, const char* section, Name name_of,
               std::vector<Change>& out) {
  const auto find = [&](const std::vector<T>& all, const std::string& name) {
    return std::ranges::find_if(all, [&](const T& one) { return name_of(one) == name; });
  };
  for (const T& old : before) {
    const auto kept = find(after, name_of(old));
    if (kept == after.end())
      out.push_back({ChangeKind::removed, section, name_of(old)});
    else if (!(*kept == old))
      out.push_back({ChangeKind::changed, section, name_of(old)});
  }
  for (const T& fresh : after)
    if (find(before, name_of(fresh)) == before.end()) out.push_back({ChangeKind::added, section, name_of(fresh)});
}

// A crypto map's entries are objects of their own: an edit of one leaves the SAs of the others alone (CM-19).
struct EntryOfMap {
  std::string map;
  Family family;
  MapEntry entry;
  bool operator==(const EntryOfMap&) const = default;
};

std::vector<EntryOfMap> entries_of(const Document& document) {
  std::vector<EntryOfMap> out;
  for (const CryptoMap& map : document.crypto_maps)
    for (const MapEntry& entry : map.entries) out.push_back({map.name, map.family, entry});
  return out;
}

// What the section says by itself, without its named objects.
Ikev2 general_of(const Ikev2& ikev2) {
  Ikev2 out;
  out.enabled = ikev2.enabled;
  out.nat_keepalive_s = ikev2.nat_keepalive_s;
  out.dpd = ikev2.dpd;
  out.options = ikev2.options;
  return out;
}

const char* word(ChangeKind kind) {
  return kind == ChangeKind::added ? "added" : kind == ChangeKind::removed ? "removed" : "changed";
}

}  // namespace

std::string Change::text() const { return std::string(word(kind)) + " " + section + (name.empty() ? "" : " " + name); }

std::vector<Change> diff(const Document& before, const Document& after) {
  std::vector<Change> out;
  const auto name = [](const auto& one) { return one.name; };
  diff_one(before.system, after.system, "system", out);
  diff_one(before.dataplane, after.dataplane, "dataplane", out);
  diff_list(before.vrfs, after.vrfs, "vrfs", name, out);
  diff_list(before.acls, after.acls, "acls", name, out);
  diff_one(before.ipsec, after.ipsec, "ipsec/global", out);
  diff_list(before.transform_sets, after.transform_sets, "ipsec/transform_sets", name, out);
  diff_list(before.profiles, after.profiles, "ipsec/profiles", name, out);
  diff_one(general_of(before.ikev2), general_of(after.ikev2), "ikev2/global", out);
  diff_list(before.ikev2.proposals, after.ikev2.proposals, "ikev2/proposals", name, out);
  diff_list(before.ikev2.policies, after.ikev2.policies, "ikev2/policies", name, out);
  diff_list(before.ikev2.keyrings, after.ikev2.keyrings, "ikev2/keyrings", name, out);
  diff_list(before.ikev2.profiles, after.ikev2.profiles, "ikev2/profiles", name, out);
  diff_list(
      entries_of(before), entries_of(after), "crypto_maps",
      [](const EntryOfMap& e) { return e.map + " " + std::to_string(e.entry.sequence); }, out);
  diff_list(before.interfaces, after.interfaces, "interfaces", name, out);
  diff_list(before.tunnels, after.tunnels, "tunnels", [](const Tunnel& t) { return t.device(); }, out);
  return out;
}

bool equal(const Document& a, const Document& b) { return a.version == b.version && diff(a, b).empty(); }

nlohmann::json to_json(const std::vector<Change>& changes) {
  nlohmann::json out = nlohmann::json::array();
  for (const Change& change : changes)
    out.push_back({{"change", word(change.kind)}, {"section", change.section}, {"name", change.name}});
  return out;
}

}  // namespace postern::config
