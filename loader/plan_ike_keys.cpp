#include "loader/plan_ike_keys.hpp"

#include <algorithm>

#include "config/ikev2_lookup.hpp"
#include "loader/plan_ike_values.hpp"

namespace postern::loader {
namespace {

const config::Keyring* keyring_of(const config::Ikev2& ikev2, const config::Ikev2Profile& profile) {
  return profile.keyring ? config::find_named(ikev2.keyrings, *profile.keyring) : nullptr;
}

bool whole(const config::Ikev2Profile& profile, const ike::PeerKey& key) {
  return !(needs_key(profile.local_method) && key.local_key.empty()) &&
         !(needs_key(profile.remote_method) && key.remote_key.empty());
}

// Nothing where the profile needs a key that neither of the two has.
void add_key(std::vector<ike::PeerKey>& to, const config::Ikev2Profile& profile, const Prefix& remote,
             const config::KeyringPeer* peer, ike::IdentityMatch identity) {
  const auto own_or = [&](const Secret& own, Secret config::KeyringPeer::* theirs) {
    return !own.empty() || peer == nullptr ? own : peer->*theirs;
  };
  ike::PeerKey key{remote, {}, {}, ppk_of(peer && peer->ppk ? &*peer->ppk : nullptr), std::move(identity)};
  if (needs_key(profile.local_method)) key.local_key = own_or(profile.local_key, &config::KeyringPeer::local_key);
  if (needs_key(profile.remote_method)) key.remote_key = own_or(profile.remote_key, &config::KeyringPeer::remote_key);
  if (whole(profile, key)) to.push_back(std::move(key));
}

void add_by_identity(std::vector<ike::PeerKey>& to, const config::Keyring* keyring, const config::Ikev2Profile& profile,
                     const Prefix& remote) {
  if (keyring != nullptr)
    for (const auto* const peer : config::peers_called(*keyring, profile))
      add_key(to, profile, remote, peer, match_of(*peer->identity));
  // Who needs no key of the keyring: the profile has it, or the peer comes by EAP, and is known by its name then.
  add_key(to, profile, remote, nullptr, {});
}

}  // namespace

std::vector<ike::PeerKey> peer_keys(const config::Ikev2& ikev2, const config::Ikev2Profile& profile, Family family) {
  const Prefix any{family == Family::v4 ? IpAddress::v4(0) : IpAddress{}, 0};
  std::vector<ike::PeerKey> hosts, networks, called;
  const auto* const keyring = keyring_of(ikev2, profile);
  if (keyring != nullptr)
    for (const config::KeyringPeer& peer : keyring->peers)
      if (peer.address && peer.address->family() == family)
        add_key(*peer.address == Prefix::host(peer.address->address) ? hosts : networks, profile, *peer.address, &peer,
                {});
  add_by_identity(called, keyring, profile, any);
  for (auto* const more : {&networks, &called}) std::ranges::move(*more, std::back_inserter(hosts));
  return hosts;
}

std::vector<ike::PeerKey> identity_keys(const config::Ikev2& ikev2, const config::Ikev2Profile& profile,
                                        const IpAddress& remote) {
  std::vector<ike::PeerKey> out;
  const auto* const keyring = keyring_of(ikev2, profile);
  if (keyring == nullptr || config::peer_at(*keyring, remote) != nullptr) return out;
  add_by_identity(out, keyring, profile, Prefix::host(remote));
  if (std::ranges::none_of(out, &ike::PeerKey::is_by_identity)) out.clear();
  return out;
}

}  // namespace postern::loader
