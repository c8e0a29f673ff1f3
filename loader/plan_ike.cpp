#include "loader/plan_ike.hpp"

#include <algorithm>
#include <array>
#include <set>

#include "config/ikev2_lookup.hpp"
#include "loader/plan_acl.hpp"
#include "loader/plan_ike_keys.hpp"
#include "loader/plan_ike_values.hpp"
#include "loader/plan_sa.hpp"

namespace postern::loader {
namespace {

constexpr std::uint64_t kilobyte = 1024;

// The first that is given, from the most particular on (TS-62).
template <class T>
T inherited(std::initializer_list<const config::SecurityAssociation*> levels,
            std::optional<T> config::SecurityAssociation::* member, T otherwise) {
  for (const config::SecurityAssociation* const level : levels)
    if (level->*member) return *(level->*member);
  return otherwise;
}

class IkePlanner {
 public:
  IkePlanner(const config::Document& document, const Facts& facts, const Plan& plan)
      : document_(document), facts_(facts), plan_(plan) {}

  Result<IkePlan> make() {
    add_rows();
    for (const PlannedSaPair& pair : plan_.sas) out_.policy.manual_spis.push_back(pair.inbound.parameters.spi);
    if (!document_.ikev2.enabled) return std::move(out_);
    for (const config::Interface& interface : document_.interfaces)
      if (const LinkFacts* const link = facts_.find(interface.name))
        for (const auto* const map : {&interface.crypto_map, &interface.ipv6_crypto_map})
          if (*map) POSTERN_CHECK(add_map(interface, *link, **map));
    for (const config::Tunnel& tunnel : document_.tunnels)
      if (tunnel.negotiated) add_tunnel(tunnel);
    for (ike::Connection& one : connections_)
      out_.policy.connections.push_back(std::make_shared<const ike::Connection>(std::move(one)));
    return std::move(out_);
  }

 private:
  // --- what `show crypto ikev2 proposal|policy|profile` lists

  void add_rows() {
    const config::Ikev2& ikev2 = document_.ikev2;
    for (const config::Ikev2Proposal& proposal : ikev2.proposals)
      out_.policy.proposals.push_back(proposal_of(proposal));
    for (const config::Ikev2Policy& policy : ikev2.policies)
      out_.policy.policies.push_back({policy.name, policy.match.local ? policy.match.local->text() : "any",
                                      policy.match.fvrf.value_or("global"), policy.proposals});
    out_.policy.policies.push_back({"default", "any", "any", {"default"}});
    for (const config::Ikev2Profile& profile : ikev2.profiles) add_profile_row(profile);
    for (const config::EapUser& user : ikev2.eap_users) out_.policy.eap_users.push_back({user.name, user.password});
  }

  void add_profile_row(const config::Ikev2Profile& profile) {
    ike::ProfileRow row;
    row.name = profile.name;
    row.keyring = profile.keyring.value_or("");
    const bool by_subject = profile.local_identity && profile.local_identity->kind == config::IdentityKind::dn;
    row.local_identity = by_subject               ? "dn"
                         : profile.local_identity ? identity_of(*profile.local_identity).text()
                                                  : "address";
    row.local_authentication = word(profile.local_method);
    row.remote_authentication = word(profile.remote_method);
    for (const config::IdentityRule& rule : profile.match_remote) row.match_remote.push_back(text(match_of(rule)));
    for (const std::string& map : profile.match_certificate) row.match_remote.push_back("certificate map " + map);
    row.lifetime_s = profile.lifetime_s;
    row.dpd = dpd_of(profile.dpd);
    out_.policy.profiles.push_back(std::move(row));
  }

  // --- connections

  static std::string name_of(const config::Ikev2Ends& ends, const config::Ikev2Profile& profile) {
    return ends.local->text() + " " + ends.remote_text() + " " + profile.name +
           (ends.fvrf ? " " + *ends.fvrf : std::string());
  }

  // Children of `owner`, an entry or a tunnel, into the connection of its ends and profile, which is made when it is
  // the first. Nothing but a line in `missing` when the document has no profile or key for these ends.
  void add(const std::string& owner, const config::Ikev2Ends& ends, const config::Ikev2Profile* profile,
           std::vector<ike::ChildPolicy> children) {
    const auto refuse = [&](const std::string& why) { out_.missing.push_back(owner + ": " + why); };
    if (profile == nullptr) return refuse("no IKEv2 profile matches peer " + ends.remote_text());
    if (!ends.remote_name.empty()) return add_named(owner, ends, *profile, std::move(children));
    const config::KeyPair keys = config::keys_for(document_.ikev2, *profile, ends.remote);
    const auto lacks = [](const Secret* key) { return key == nullptr || key->empty(); };
    if ((needs_key(profile->local_method) && lacks(keys.local)) ||
        (needs_key(profile->remote_method) && lacks(keys.remote)))
      return refuse("IKEv2 profile " + profile->name + " has no key for peer " + ends.remote.text());
    if (children.empty()) return;
    const std::string name = name_of(ends, *profile);
    auto known = std::ranges::find(connections_, name, &ike::Connection::name);
    if (known == connections_.end()) known = connections_.insert(known, connection(name, ends, *profile, keys));
    std::ranges::move(children, std::back_inserter(known->children));
  }

  // A peer by name gets its key when it has an address.
  void add_named(const std::string& owner, const config::Ikev2Ends& ends, const config::Ikev2Profile& profile,
                 std::vector<ike::ChildPolicy> children) {
    auto keys = peer_keys(document_.ikev2, profile, ends.remote.family());
    if (keys.empty()) {
      out_.missing.push_back(owner + ": IKEv2 profile " + profile.name + " has no key for peer " + ends.remote_name);
      return;
    }
    if (children.empty()) return;
    const std::string name = name_of(ends, profile);
    auto known = std::ranges::find(connections_, name, &ike::Connection::name);
    if (known == connections_.end()) {
      const Secret none;
      known = connections_.insert(known, connection(name, ends, profile, {&none, &none}));
      known->remote_name = ends.remote_name;
      known->peer_keys = std::move(keys);
    }
    std::ranges::move(children, std::back_inserter(known->children));
  }

  // Two entries may have the same peer: it is dynamic where one of them says so.
  void set_dynamic(const config::Ikev2Ends& ends, const config::Ikev2Profile& profile) {
    const auto known = std::ranges::find(connections_, name_of(ends, profile), &ike::Connection::name);
    if (known != connections_.end()) known->remote_dynamic = true;
  }

  ike::Connection connection(const std::string& name, const config::Ikev2Ends& ends,
                             const config::Ikev2Profile& profile, const config::KeyPair& keys) const {
    ike::Connection out;
    out.name = name;
    out.fvrf = table_of(document_, ends.fvrf);
    out.local = *ends.local;
    out.remote = ends.remote;
    out.other_addresses = addresses_beside(facts_, out.local);
    out.profile_name = profile.name;
    out.keyring_name = profile.keyring.value_or("");
    out.local_identity = profile.local_identity ? identity_of(*profile.local_identity) : ike::Identity::of(*ends.local);
    for (const config::IdentityRule& rule : profile.match_remote) out.remote_identities.push_back(match_of(rule));
    if (needs_key(profile.local_method)) out.local_key = *keys.local;
    if (needs_key(profile.remote_method)) out.remote_key = *keys.remote;
    out.ppk = ppk_of(keys.ppk);
    if (ends.remote_name.empty()) out.identity_keys = identity_keys(document_.ikev2, profile, ends.remote);
    set_certificates(out, profile);
    if (const auto& eap = profile.eap_local) out.eap_peer = {eap_types_of(eap->methods), eap->identity, eap->password};
    if (const auto& eap = profile.eap_remote) out.eap_server = {eap_types_of(eap->methods), eap->query_identity};
    out.lifetime_s = profile.lifetime_s;
    out.dpd = dpd_of(profile.dpd);
    out.nat_keepalive_s = document_.ikev2.nat_keepalive_s;
    out.force_encapsulation = profile.force_encapsulation;
    out.childless = childless_of(profile.childless);
    out.redirect = redirect_of(profile.redirect, document_.ikev2.options.redirect);
    out.options = options_of(document_.ikev2.options);
    if (const auto& told = profile.configuration)
      out.configuration = {told->pools, told->dns, told->subnets, told->banner, told->required};
    set_proposals(out, ends);
    return out;
  }

  // Names as the trustpoints themselves have them: postern-pki compares them to the letter.
  void set_certificates(ike::Connection& out, const config::Ikev2Profile& profile) const {
    const auto named = [&](const std::string& name) {
      const auto* const found = config::find_trustpoint(document_.pki, name);
      return found == nullptr ? name : found->name;
    };
    out.local_auth = auth_of(profile.local_method);
    out.remote_auth = auth_of(profile.remote_method);
    if (profile.sign_trustpoint) out.sign_trustpoint = named(*profile.sign_trustpoint);
    for (const std::string& name : profile.other_sign_trustpoints) out.other_sign_trustpoints.push_back(named(name));
    for (const std::string& name : profile.verify_trustpoints) out.verify_trustpoints.push_back(named(name));
    out.certificate_maps = profile.match_certificate;
    out.allow_sha1 = profile.allow_sha1;
    out.rsa_pkcs1 = profile.rsa_pkcs1;
  }

  void set_proposals(ike::Connection& out, const config::Ikev2Ends& ends) const {
    const config::Ikev2Policy* const policy = config::policy_for(document_.ikev2, ends);
    out.policy_name = policy == nullptr ? "default" : policy->name;
    const std::vector<std::string> names = policy == nullptr ? std::vector<std::string>{"default"} : policy->proposals;
    for (const std::string& name : names)
      if (const auto* const found = config::find_named(document_.ikev2.proposals, name))
        out.proposals.push_back(proposal_of(*found));
  }

  ike::ChildPolicy child(const std::vector<std::string>& sets, const std::optional<crypto::DhGroup>& pfs,
                         const config::SecurityAssociation& own) const {
    const auto levels = {&own, &document_.ipsec.sa};
    ike::ChildPolicy out;
    const bool extended = inherited(levels, &config::SecurityAssociation::extended_sequence, false);
    for (const std::string& name : sets)
      if (const auto* const set = config::find_named(document_.transform_sets, name)) {
        out.proposals.push_back(esp_proposal_of(*set, extended));
        out.compression = out.compression || set->compression;
      }
    if (pfs) out.pfs = {*pfs};
    out.lifetime_s = inherited(levels, &config::SecurityAssociation::lifetime_s, out.lifetime_s);
    out.lifetime_bytes = inherited(levels, &config::SecurityAssociation::lifetime_kb, std::uint64_t{0}) * kilobyte;
    out.lifetime_packets = inherited(levels, &config::SecurityAssociation::lifetime_packets, std::uint64_t{0});
    out.idle_s = inherited(levels, &config::SecurityAssociation::idle_s, out.idle_s);
    out.place.replay_window =
        inherited(levels, &config::SecurityAssociation::replay_window, document_.dataplane.replay_window);
    out.place.path_mtu_aging_s = document_.ipsec.path_mtu_aging_s;
    out.place.tfc_bytes = inherited(levels, &config::SecurityAssociation::tfc_bytes, std::uint16_t{0});
    out.place.dummy_interval_us = inherited(levels, &config::SecurityAssociation::dummy_interval_us, 0U);
    return out;
  }

  // TS-34. The sets of an entry are of one mode where that matters (config/check_manual.cpp).
  Result<void> set_mode(ike::ChildPolicy& child, const config::MapEntry& entry, bool between_peers) const {
    for (const std::string& name : entry.transform_sets) {
      const auto* const set = config::find_named(document_.transform_sets, name);
      if (set == nullptr || !set->transport_mode) continue;
      if (set->mode_required && !between_peers)
        return fail(child.name + ": transform set " + name +
                    " requires transport mode, and the traffic is not between this node and the peer");
      child.transport = between_peers;
      child.transport_required = child.transport_required || set->mode_required;
    }
    return {};
  }

  bool wants_transport(const config::MapEntry& entry) const {
    return std::ranges::any_of(entry.transform_sets, [&](const std::string& name) {
      const auto* const set = config::find_named(document_.transform_sets, name);
      return set != nullptr && set->transport_mode;
    });
  }

  static void set_encapsulation(ike::ChildPlace& place, const config::Encapsulation& encapsulation) {
    const EncapsulationPolicy policy = policy_of(encapsulation);
    place.df = policy.df;
    place.ecn = policy.ecn;
    place.fragmentation = policy.fragmentation;
    place.dscp_copy = policy.dscp_copy;
    place.dscp = policy.dscp;
    place.tcp_mss = policy.tcp_mss;
  }

  Result<void> add_map(const config::Interface& interface, const LinkFacts& link, const std::string& name) {
    const config::CryptoMap* const map = config::find_named(document_.crypto_maps, name);
    if (map == nullptr) return {};
    const MapPlace place = place_of(document_, facts_, *map, link);
    if (place.shared && !shared_.insert(name).second) return {};  // IF-03: one for all of its interfaces
    for (const config::MapEntry& entry : map->entries) {
      if (entry.dynamic)
        POSTERN_CHECK(add_dynamic({interface, *map, entry, place}));
      else if (entry.negotiated && !entry.incomplete())
        POSTERN_CHECK(add_entry({interface, *map, entry, place}));
    }
    return {};
  }

  // An entry of a map where it is.
  struct Placement {
    const config::Interface& interface;
    const config::CryptoMap& map;
    const config::MapEntry& entry;
    const MapPlace& place;
    [[nodiscard]] std::string owner() const {
      return map.name + " " + std::to_string(entry.sequence) + " " + place.name;
    }
  };

  // What is the place's, and of the flow.
  void put(const Placement& at, const PlannedFlow& flow, ike::ChildPolicy& one) const {
    one.interface = at.place.interfaces;
    one.map = at.map.name;
    one.sequence = at.entry.sequence;
    one.place.flow = flow.id;
    one.place.deliver = DeliverTo::map_interface;
    one.place.ifindex = at.place.ifindex;
    one.place.inside_vrf = table_of(document_, at.interface.vrf);
    one.place.path_mtu = at.place.path_mtu;
  }

  // --- dynamic maps

  // One connection for each profile that peers may come by: its templates wait for them.
  Result<void> add_dynamic(const Placement& at) {
    const auto* const dynamic = config::find_named(document_.dynamic_maps, *at.entry.dynamic);
    const auto& local = at.place.local;
    if (dynamic == nullptr || !local) return {};
    const config::Ikev2Ends ends{local, at.map.family == Family::v4 ? IpAddress::v4(0) : IpAddress{}, at.interface.vrf};
    for (const config::DynamicEntry& one : dynamic->entries) {
      const std::string owner = at.owner() + " " + dynamic->name + " " + std::to_string(one.sequence);
      POSTERN_TRY(children, templates(at, *dynamic, one, owner));
      for (const config::Ikev2Profile& profile : document_.ikev2.profiles)
        if (one.ikev2_profile ? *one.ikev2_profile == profile.name : config::in_scope(profile.match, ends))
          add_templates(owner, ends, profile, children);
    }
    return {};
  }

  void add_templates(const std::string& owner, const config::Ikev2Ends& ends, const config::Ikev2Profile& profile,
                     std::vector<ike::ChildPolicy> children) {
    auto keys = peer_keys(document_.ikev2, profile, ends.remote.family());
    if (children.empty()) return;
    if (keys.empty()) {
      out_.missing.push_back(owner + ": IKEv2 profile " + profile.name + " has no key for peers that are not known");
      return;
    }
    const std::string name =
        ends.local->text() + " any " + profile.name + (ends.fvrf ? " " + *ends.fvrf : std::string());
    auto known = std::ranges::find(connections_, name, &ike::Connection::name);
    if (known == connections_.end()) {
      const Secret none;
      known = connections_.insert(known, connection(name, ends, profile, {&none, &none}));
      known->peer_keys = std::move(keys);
    }
    std::ranges::move(children, std::back_inserter(known->children));
  }

  // A template for each permit of the list, or one for everything; none where the list is missing.
  Result<std::vector<ike::ChildPolicy>> templates(const Placement& at, const config::DynamicMap& dynamic,
                                                  const config::DynamicEntry& from, const std::string& owner) const {
    const auto* const acl = from.acl ? config::find_named(document_.acls, *from.acl) : nullptr;
    std::vector<ike::ChildPolicy> out;
    for (const PlannedFlow& flow : plan_.flows) {
      if (flow.sa_pair != owner || !flow.is_template || (from.acl && (acl == nullptr || flow.ace >= acl->rules.size())))
        continue;
      ike::ChildPolicy one = child(from.transform_sets, from.pfs, from.sa);
      put(at, flow, one);
      one.name = owner + (from.acl ? " " + std::to_string(flow.ace + 1) : " any");
      one.dynamic = true;
      one.peers = from.peers;
      one.limit = dynamic.limit;
      one.transport = std::ranges::any_of(from.transform_sets, [&](const std::string& name) {
        const auto* const set = config::find_named(document_.transform_sets, name);
        return set != nullptr && set->transport_mode;
      });
      if (acl == nullptr) {
        one.local = one.remote = {selector_of_any(at.map.family)};
      } else {
        const config::Ace& ace = acl->rules[flow.ace];
        one.local = side_of(ace.source, ace.protocol, ace.options.icmp_type ? icmp_ranges(ace) : ace.source_ports);
        one.remote =
            side_of(ace.destination, ace.protocol, ace.options.icmp_type ? icmp_ranges(ace) : ace.destination_ports);
        add_denials(one, *acl, flow.ace);
      }
      set_encapsulation(one.place, from.encapsulation);
      out.push_back(std::move(one));
    }
    return out;
  }

  // DM-06: what the list denies before its permit `ace`.
  static void add_denials(ike::ChildPolicy& child, const config::Acl& acl, std::uint32_t ace) {
    for (std::uint32_t i = 0; i < ace; ++i) {
      const config::Ace& rule = acl.rules[i];
      if (rule.action == config::Action::permit) continue;
      for (const ike::Selector& local : side_of(rule.source, rule.protocol, rule.source_ports))
        for (const ike::Selector& remote : side_of(rule.destination, rule.protocol, rule.destination_ports)) {
          child.denied_local.push_back(local);
          child.denied_remote.push_back(remote);
        }
    }
  }

  Result<void> add_entry(const Placement& at) {
    const auto& [interface, map, entry, place] = at;
    const std::string name = at.owner();
    const config::Acl* const acl = config::find_named(document_.acls, entry.acl);
    if (acl == nullptr || !place.local) return {};  // make_plan() says so
    for (std::uint32_t rank = 0; rank < entry.peers.size(); ++rank) {
      const config::Peer& peer = entry.peers[rank];
      const IpAddress nowhere = map.family == Family::v4 ? IpAddress::v4(0) : IpAddress{};
      const config::Ikev2Ends ends{place.local, peer.is_name() ? nowhere : peer.address, interface.vrf, peer.name};
      POSTERN_TRY(children, children_of(at, name, *acl, rank));
      const config::Ikev2Profile* const profile = config::profile_for(document_.ikev2, entry.ikev2_profile, ends);
      add(name, ends, profile, std::move(children));
      if (peer.dynamic && profile != nullptr) set_dynamic(ends, *profile);
    }
    return {};
  }

  // CM-17: each permit has one; the peers of an entry have the same ones, of which the manager chooses (CM-05).
  Result<std::vector<ike::ChildPolicy>> children_of(const Placement& at, const std::string& name,
                                                    const config::Acl& acl, std::uint32_t rank) const {
    const config::MapEntry& entry = at.entry;
    const IpAddress& local = *at.place.local;
    std::vector<ike::ChildPolicy> children;
    for (const PlannedFlow& flow : plan_.flows) {
      if (flow.sa_pair != name || flow.base_flow != 0 || flow.ace >= acl.rules.size()) continue;
      const config::Ace& ace = acl.rules[flow.ace];
      POSTERN_TRY(selectors, selectors_of({&ace}));
      ike::ChildPolicy one = child(entry.transform_sets, entry.pfs, entry.sa);
      put(at, flow, one);
      one.name = name + " #" + std::to_string(flow.id) + (flow.later_fragments ? " fragments" : "");
      one.initiate = initiate_of(entry.initiate);
      // Fragments are not for transport mode (RFC 4303 §3.3.4).
      if (!flow.later_fragments && entry.peers[rank].is_name())
        one.transport_between_ends = wants_transport(entry);
      else if (!flow.later_fragments)
        POSTERN_CHECK(set_mode(one, entry, between_ends(selectors, local, entry.peers[rank].address)));
      one.local = side_of(ace.source, ace.protocol, ace.options.icmp_type ? icmp_ranges(ace) : ace.source_ports);
      one.remote =
          side_of(ace.destination, ace.protocol, ace.options.icmp_type ? icmp_ranges(ace) : ace.destination_ports);
      one.later_fragments = flow.later_fragments || (ace.fragments && ace.protocol != 0);
      if (one.later_fragments) {
        one.local = opaque_side(ace.source, ace.protocol);
        one.remote = opaque_side(ace.destination, ace.protocol);
      }
      one.rank = rank;
      one.default_first = entry.default_peer && entry.peers.size() > 1;
      one.per_host = flow.per_host && !one.later_fragments && ace.source_ports.empty() && ace.destination_ports.empty();
      one.per_host_only = one.per_host && entry.per_host_only;
      one.limit = entry.per_host_limit;
      set_encapsulation(one.place, entry.encapsulation);
      children.push_back(std::move(one));
    }
    return children;
  }

  void add_tunnel(const config::Tunnel& tunnel) {
    const auto flow = std::ranges::find(plan_.flows, tunnel.device(), &PlannedFlow::sa_pair);
    const config::IpsecProfile* const ipsec = config::find_named(document_.profiles, tunnel.profile);
    const LinkFacts* const outside = tunnel_source_link(document_, facts_, tunnel);
    const LinkFacts* const device = facts_.find(tunnel.device());
    const auto local = outside == nullptr ? std::nullopt : tunnel_local_address(document_, *outside, tunnel);
    if (flow == plan_.flows.end() || ipsec == nullptr || device == nullptr || !local) return;  // make_plan() says so
    const config::Interface* const source = config::find_named(document_.interfaces, outside->name);
    const config::Ikev2Ends ends{local, tunnel.destination, source == nullptr ? std::nullopt : source->vrf};
    std::vector<ike::ChildPolicy> children;
    ike::ChildPolicy& one = children.emplace_back(child(ipsec->transform_sets, ipsec->pfs, ipsec->sa));
    one.name = one.interface = tunnel.device();
    one.map = tunnel.device() + "-head-0";
    one.sequence = tunnel_sequence;
    one.initiate = initiate_of(ipsec->initiate);
    for (const Family family : {Family::v4, Family::v6})
      if (family == Family::v4 ? tunnel.carries_v4 : tunnel.carries_v6) one.local.push_back(selector_of_any(family));
    one.remote = one.local;
    one.ask = tunnel.negotiated_addresses;
    one.place.flow = flow->id;
    one.place.deliver = DeliverTo::tunnel;
    one.place.ifindex = device->ifindex;
    one.place.inside_vrf = table_of(document_, tunnel.vrf);
    one.place.path_mtu = std::min(outside->mtu, largest_path_mtu);
    one.place.ttl = tunnel.ttl;
    set_encapsulation(one.place, tunnel.encapsulation);
    add(tunnel.device(), ends, config::profile_for(document_, tunnel, ends), std::move(children));
  }

  const config::Document& document_;
  const Facts& facts_;
  const Plan& plan_;
  std::vector<ike::Connection> connections_;
  std::set<std::string> shared_;  // maps whose SAs are planned
  IkePlan out_;
};

}  // namespace

Result<IkePlan> plan_ike(const config::Document& document, const Facts& facts, const Plan& plan) {
  return IkePlanner(document, facts, plan).make();
}

bool same_policy(const ike::Policy& a, const ike::Policy& b) {
  return std::ranges::equal(a.connections, b.connections, [](const auto& x, const auto& y) { return *x == *y; }) &&
         a.manual_spis == b.manual_spis && a.node_key == b.node_key && a.eap_users == b.eap_users &&
         a.proposals == b.proposals && a.policies == b.policies && a.profiles == b.profiles;
}

}  // namespace postern::loader
