#include <algorithm>
#include <functional>

#include "config/render.hpp"

namespace postern::config {
namespace {

template <class T>
void diff_one(const T& before, const T& after, const char* section, std::vector<Change>& out, Applies applies) {
  if (!(before == after)) out.push_back({ChangeKind::changed, section, "", applies});
}

// Objects are paired by `name_of`; an object is compared whole. `edited` says when a change of one counts; what comes
// or goes does so at once.
template <class T, class Name, class Edited>
void diff_list(const std::vector<T>& before, const std::vector<T>& after, const char* section, Name name_of,
               std::vector<Change>& out, Edited edited) {
  const auto find = [&](const std::vector<T>& all, const std::string& name) {
    return std::ranges::find_if(all, [&](const T& one) { return name_of(one) == name; });
  };
  for (const T& old : before) {
    const auto kept = find(after, name_of(old));
    if (kept == after.end())
      out.push_back({ChangeKind::removed, section, name_of(old), Applies::at_once});
    else if (!(*kept == old))
      out.push_back({ChangeKind::changed, section, name_of(old), edited(old, *kept)});
  }
  for (const T& fresh : after)
    if (find(before, name_of(fresh)) == before.end())
      out.push_back({ChangeKind::added, section, name_of(fresh), Applies::at_once});
}

// A crypto map's entries are objects of their own: an edit of one leaves the SAs of the others alone (CM-19).
struct EntryOfMap {
  std::string map;
  Family family;
  std::optional<std::string> local_interface;
  MapEntry entry;
  bool operator==(const EntryOfMap&) const = default;
};

std::vector<EntryOfMap> entries_of(const Document& document) {
  std::vector<EntryOfMap> out;
  for (const CryptoMap& map : document.crypto_maps)
    for (const MapEntry& entry : map.entries) out.push_back({map.name, map.family, map.local_interface, entry});
  return out;
}

// Which traffic, with whom and by whose keys counts at once; how, when SAs are made the next time.
Applies edited_entry(const EntryOfMap& before, const EntryOfMap& after) {
  const MapEntry &a = before.entry, &b = after.entry;
  if (before.local_interface != after.local_interface) return Applies::at_once;
  if (a.acl != b.acl || a.negotiated != b.negotiated || a.separate_fragment_sa != b.separate_fragment_sa)
    return Applies::at_once;
  if (!b.negotiated) return Applies::next_clear;
  const auto first = [](const MapEntry& entry) { return entry.peers.empty() ? Peer{} : entry.peers.front(); };
  return first(a) == first(b) ? Applies::next_negotiation : Applies::at_once;
}

// A set may serve entries and tunnels of both kinds; manual ones wait for the clear.
Applies edited_set(const std::string& name, const Document& after) {
  const auto uses = [&](const std::vector<std::string>& sets) { return std::ranges::find(sets, name) != sets.end(); };
  for (const CryptoMap& map : after.crypto_maps)
    for (const MapEntry& entry : map.entries)
      if (!entry.negotiated && uses(entry.transform_sets)) return Applies::next_clear;
  for (const Tunnel& tunnel : after.tunnels)
    if (const IpsecProfile* const profile = find_named(after.profiles, tunnel.profile);
        !tunnel.negotiated && profile != nullptr && uses(profile->transform_sets))
      return Applies::next_clear;
  return Applies::next_negotiation;
}

Applies edited_tunnel(const Tunnel& before, const Tunnel& after) {
  Tunnel same = before;
  same.profile = after.profile;
  same.ikev2_profile = after.ikev2_profile;
  same.keys = after.keys;
  same.encapsulation = after.encapsulation;
  if (!(same == after)) return Applies::at_once;
  return after.negotiated ? Applies::next_negotiation : Applies::next_clear;
}

// The memory of a worker and of its sockets is made once.
Applies edited_dataplane(const Dataplane& before, const Dataplane& after) {
  Dataplane same = before;
  same.plain_side = after.plain_side;
  same.xdp_mode = after.xdp_mode;
  same.on_stop = after.on_stop;
  same.workers = after.workers;
  same.interface_grace_s = after.interface_grace_s;
  if (same == after) return Applies::at_once;
  same.replay_window = after.replay_window;
  return same == after ? Applies::next_negotiation : Applies::next_start;
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

const char* word(Applies when) {
  switch (when) {
    case Applies::at_once: return "at once";
    case Applies::next_negotiation: return "at the next negotiation";
    case Applies::next_clear: return "at the next clear crypto sa";
    case Applies::next_start: return "at the worker's next start";
  }
  return "";
}

}  // namespace

std::string Change::text() const { return std::string(word(kind)) + " " + section + (name.empty() ? "" : " " + name); }

std::vector<Change> diff(const Document& before, const Document& after) {
  std::vector<Change> out;
  const auto name = [](const auto& one) { return one.name; };
  const auto soon = [](const auto&, const auto&) { return Applies::at_once; };
  const auto later = [](const auto&, const auto&) { return Applies::next_negotiation; };
  diff_one(before.system, after.system, "system", out, Applies::at_once);
  diff_one(before.dataplane, after.dataplane, "dataplane", out, edited_dataplane(before.dataplane, after.dataplane));
  diff_list(before.vrfs, after.vrfs, "vrfs", name, out, soon);
  diff_list(before.time_ranges, after.time_ranges, "time_ranges", name, out, soon);
  diff_list(before.acls, after.acls, "acls", name, out, soon);
  diff_one(before.ipsec, after.ipsec, "ipsec/global", out, Applies::next_negotiation);
  diff_list(before.transform_sets, after.transform_sets, "ipsec/transform_sets", name, out,
            [&](const TransformSet& set, const TransformSet&) { return edited_set(set.name, after); });
  diff_list(before.profiles, after.profiles, "ipsec/profiles", name, out, later);
  diff_list(before.pki.trustpoints, after.pki.trustpoints, "pki/trustpoints", name, out, later);
  diff_list(
      before.pki.maps, after.pki.maps, "pki/certificate_maps",
      [](const CertificateMapEntry& m) { return m.name + " " + std::to_string(m.sequence); }, out, later);
  diff_one(general_of(before.ikev2), general_of(after.ikev2), "ikev2/global", out,
           before.ikev2.enabled == after.ikev2.enabled ? Applies::next_negotiation : Applies::at_once);
  diff_list(before.ikev2.proposals, after.ikev2.proposals, "ikev2/proposals", name, out, later);
  diff_list(before.ikev2.policies, after.ikev2.policies, "ikev2/policies", name, out, later);
  diff_list(before.ikev2.keyrings, after.ikev2.keyrings, "ikev2/keyrings", name, out, later);
  diff_list(before.ikev2.eap_users, after.ikev2.eap_users, "ikev2/eap_users", name, out, later);
  diff_list(
      before.ikev2.peer_descriptions, after.ikev2.peer_descriptions, "ikev2/peer_descriptions",
      [](const PeerDescription& one) { return one.peer; }, out, soon);
  diff_list(before.ikev2.profiles, after.ikev2.profiles, "ikev2/profiles", name, out, later);
  diff_list(before.dynamic_maps, after.dynamic_maps, "dynamic_maps", name, out, later);
  diff_list(
      entries_of(before), entries_of(after), "crypto_maps",
      [](const EntryOfMap& e) { return e.map + " " + std::to_string(e.entry.sequence); }, out, edited_entry);
  diff_list(before.interfaces, after.interfaces, "interfaces", name, out, soon);
  diff_list(before.tunnels, after.tunnels, "tunnels", [](const Tunnel& t) { return t.device(); }, out, edited_tunnel);
  return out;
}

bool equal(const Document& a, const Document& b) { return a.version == b.version && diff(a, b).empty(); }

nlohmann::json to_json(const std::vector<Change>& changes) {
  nlohmann::json out = nlohmann::json::array();
  for (const Change& change : changes)
    out.push_back({{"change", word(change.kind)},
                   {"section", change.section},
                   {"name", change.name},
                   {"applies", word(change.applies)}});
  return out;
}

}  // namespace postern::config
