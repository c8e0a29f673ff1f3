#include "ike/policy.hpp"

#include <algorithm>

namespace postern::ike {

const ChildPolicy* Connection::child(std::string_view child_name) const {
  const auto found = std::ranges::find(children, child_name, &ChildPolicy::name);
  return found == children.end() ? nullptr : &*found;
}

bool Connection::always() const {
  return std::ranges::any_of(children, [](const ChildPolicy& one) { return one.initiate == Initiate::always; });
}

bool Connection::follows_redirects() const {
  return redirect.follow && std::ranges::none_of(children, &ChildPolicy::transport);
}

bool uses_eap_tls(const Connection& connection) {
  const auto has = [](const std::vector<EapType>& methods) {
    return std::ranges::find(methods, EapType::tls) != methods.end();
  };
  return (connection.local_auth == AuthKind::eap && has(connection.eap_peer.methods)) ||
         (connection.remote_auth == AuthKind::eap && has(connection.eap_server.methods));
}

namespace {

bool may_use(const ChildPolicy& child, const IpAddress& remote) {
  return child.peers.empty() || std::ranges::find(child.peers, remote) != child.peers.end();
}

const PeerKey* key_for(const Connection& from, const IpAddress& remote) {
  const auto found = std::ranges::find_if(from.peer_keys, [&](const PeerKey& key) {
    return key.remote.family() == remote.family() && key.remote.contains(remote);
  });
  return found == from.peer_keys.end() ? nullptr : &*found;
}

void take_keys(const Connection& from, const PeerKey& first, Connection& to) {
  to.local_key = first.local_key;
  to.remote_key = first.remote_key;
  to.ppk = first.ppk;
  to.identity_keys.clear();
  // Those by address stand before; behind is the key of whoever is not in the keyring, if the profile has one.
  if (first.is_by_identity())
    to.identity_keys.assign(from.peer_keys.begin() + (&first - from.peer_keys.data()), from.peer_keys.end());
}

std::shared_ptr<const Connection> made_of(const Connection& from, const IpAddress& remote) {
  const PeerKey* const key = key_for(from, remote);
  if (key == nullptr || from.local.family() != remote.family()) return nullptr;
  if (std::ranges::none_of(from.children, [&](const ChildPolicy& child) { return may_use(child, remote); }))
    return nullptr;
  auto out = std::make_shared<Connection>(from);
  out->template_name = from.name;
  out->name += " of " + remote.text();
  out->remote = remote;
  take_keys(from, *key, *out);
  out->peer_keys.clear();
  std::erase_if(out->children, [&](const ChildPolicy& child) { return !may_use(child, remote); });
  return out;
}

bool between(const std::vector<Selector>& selectors, const IpAddress& end) {
  return std::ranges::all_of(selectors, [&](const Selector& s) { return s.first == end && s.last == end; });
}

}  // namespace

std::shared_ptr<const Connection> at_address(const Connection& named, const IpAddress& remote) {
  auto out = std::make_shared<Connection>(named);
  out->remote = remote;
  out->home.reset();
  const bool by_certificates = is_signature(named.local_auth) && is_signature(named.remote_auth);
  if (const PeerKey* const key = key_for(named, remote)) {
    take_keys(named, *key, *out);
  } else if (!by_certificates) {
    return nullptr;
  }
  for (ChildPolicy& child : out->children)
    if (child.transport_between_ends)
      child.transport = between(child.local, out->local) && between(child.remote, remote);
  return out;
}

std::shared_ptr<const Connection> sent_to(const Connection& connection, const IpAddress& gateway) {
  auto out = std::make_shared<Connection>(connection);
  if (!out->home) out->home = out->remote;
  out->remote = gateway;
  return out;
}

std::shared_ptr<const Connection> sent_home(const Connection& connection) {
  auto out = std::make_shared<Connection>(connection);
  if (out->home) out->remote = *out->home;
  out->home.reset();
  return out;
}

std::vector<std::shared_ptr<const Connection>> connections_between(const Policy& policy, std::uint32_t fvrf,
                                                                   const IpAddress& local, const IpAddress& remote) {
  std::vector<std::shared_ptr<const Connection>> out;
  for (const auto& connection : policy.connections) {
    if (connection->fvrf != fvrf || connection->local != local) continue;
    if (connection->is_template()) {
      if (auto made = made_of(*connection, remote)) out.push_back(std::move(made));
    } else if (connection->remote == remote) {
      out.push_back(connection);
    }
  }
  return out;
}

std::optional<SharedKeys> keys_with(const Connection& connection, const Identity& peer) {
  if (connection.identity_keys.empty()) return SharedKeys{connection.local_key, connection.remote_key, connection.ppk};
  for (const PeerKey& one : connection.identity_keys)
    if (matches(one.identity, peer)) return SharedKeys{one.local_key, one.remote_key, one.ppk};
  return std::nullopt;
}

std::shared_ptr<const Connection> connection_now(const Policy& policy, const Connection& made) {
  const std::string& name = made.template_name.empty() ? made.name : made.template_name;
  for (const auto& connection : policy.connections)
    if (connection->name == name) return made.template_name.empty() ? connection : made_of(*connection, made.remote);
  return nullptr;
}

}  // namespace postern::ike
