#include "config/ikev2_lookup.hpp"

#include <algorithm>
#include <cctype>

#include "crypto/transforms.hpp"

namespace postern::config {
namespace {

bool same_text(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, {}, [](char c) { return std::tolower(static_cast<unsigned char>(c)); },
      [](char c) { return std::tolower(static_cast<unsigned char>(c)); });
}

// The identity of a keyring's peer is one that the rule accepts.
bool accepts(const IdentityRule& rule, const IdentityRule& identity) {
  if (rule.kind == IdentityKind::any) return true;
  if (rule.kind != identity.kind) return false;
  if (rule.kind == IdentityKind::address)
    return rule.address.family() == identity.address.family() && rule.address.contains(identity.address.address);
  return rule.kind == IdentityKind::key_id ? rule.text == identity.text : same_text(rule.text, identity.text);
}

bool names_peer(const IdentityRule& rule, const Ikev2Ends& ends) {
  if (ends.remote_name.empty()) return names_address(rule, ends.remote);
  return rule.kind == IdentityKind::any || (rule.kind == IdentityKind::fqdn && same_text(rule.text, ends.remote_name));
}

int closeness(const Ikev2Scope& scope) { return (scope.local ? 2 : 0) + (scope.fvrf != "any" ? 1 : 0); }

}  // namespace

bool in_scope(const Ikev2Scope& scope, const Ikev2Ends& ends) {
  if (scope.local && ends.local && *scope.local != *ends.local) return false;
  return scope.fvrf == "any" || scope.fvrf == ends.fvrf;
}

bool names_address(const IdentityRule& rule, const IpAddress& address) {
  if (rule.kind == IdentityKind::any) return true;
  return rule.kind == IdentityKind::address && rule.address.family() == address.family() &&
         rule.address.contains(address);
}

const Ikev2Policy* policy_for(const Ikev2& ikev2, const Ikev2Ends& ends) {
  const Ikev2Policy* best = nullptr;
  for (const Ikev2Policy& policy : ikev2.policies)
    if (in_scope(policy.match, ends) && (best == nullptr || closeness(policy.match) > closeness(best->match)))
      best = &policy;
  return best;
}

const Ikev2Profile* profile_for(const Ikev2& ikev2, const std::optional<std::string>& name, const Ikev2Ends& ends) {
  if (name) return find_named(ikev2.profiles, *name);
  for (const Ikev2Profile& profile : ikev2.profiles)
    if (in_scope(profile.match, ends) &&
        std::ranges::any_of(profile.match_remote, [&](const auto& rule) { return names_peer(rule, ends); }))
      return &profile;
  return nullptr;
}

const Ikev2Profile* profile_for(const Document& document, const Tunnel& tunnel, const Ikev2Ends& ends) {
  const IpsecProfile* const ipsec = find_named(document.profiles, tunnel.profile);
  const auto inherited = ipsec == nullptr ? std::nullopt : ipsec->ikev2_profile;
  return profile_for(document.ikev2, tunnel.ikev2_profile ? tunnel.ikev2_profile : inherited, ends);
}

const KeyringPeer* peer_at(const Keyring& keyring, const IpAddress& remote) {
  const auto first = [&](auto fits) -> const KeyringPeer* {
    const auto found = std::ranges::find_if(keyring.peers, fits);
    return found == keyring.peers.end() ? nullptr : &*found;
  };
  const Prefix host = Prefix::host(remote);
  if (const auto* const peer = first([&](const KeyringPeer& p) { return p.address == host; })) return peer;
  return first([&](const KeyringPeer& p) {
    return p.address && p.address->family() == remote.family() && p.address->contains(remote);
  });
}

std::vector<const KeyringPeer*> peers_called(const Keyring& keyring, const Ikev2Profile& profile) {
  std::vector<const KeyringPeer*> out;
  for (const KeyringPeer& p : keyring.peers)
    if (p.identity &&
        std::ranges::any_of(profile.match_remote, [&](const IdentityRule& rule) { return accepts(rule, *p.identity); }))
      out.push_back(&p);
  return out;
}

const KeyringPeer* peer_for(const Keyring& keyring, const Ikev2Profile& profile, const IpAddress& remote) {
  if (const auto* const peer = peer_at(keyring, remote)) return peer;
  const auto called = peers_called(keyring, profile);
  return called.empty() ? nullptr : called.front();
}

KeyPair keys_for(const Ikev2& ikev2, const Ikev2Profile& profile, const IpAddress& remote) {
  const Keyring* const keyring = profile.keyring ? find_named(ikev2.keyrings, *profile.keyring) : nullptr;
  const KeyringPeer* const peer = keyring == nullptr ? nullptr : peer_for(*keyring, profile, remote);
  const auto choose = [&](const Secret& inline_key, const Secret KeyringPeer::* in_keyring) -> const Secret* {
    if (!inline_key.empty()) return &inline_key;
    return peer == nullptr ? nullptr : &(peer->*in_keyring);
  };
  return {choose(profile.local_key, &KeyringPeer::local_key), choose(profile.remote_key, &KeyringPeer::remote_key),
          peer != nullptr && peer->ppk ? &*peer->ppk : nullptr};
}

std::string missing_in(const Ikev2Proposal& proposal) {
  std::string out;
  const auto add = [&](const char* what) { out += (out.empty() ? "" : ", ") + std::string(what); };
  if (proposal.encryption.empty()) add("encryption");
  const bool aead_alone =
      std::ranges::all_of(proposal.encryption, [](const auto& e) { return crypto::is_aead(e.cipher); });
  if (proposal.integrity.empty() && (proposal.encryption.empty() || !aead_alone)) add("integrity");
  if (proposal.groups.empty()) add("group");
  return out;
}

}  // namespace postern::config
