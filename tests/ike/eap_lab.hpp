// The two ends of EAP without IKE between them: a conversation, packet by packet.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <random>

#include <doctest/doctest.h>

#include "ike/eap_peer.hpp"

namespace postern::ike::lab {

inline EapRandom eap_random(std::uint64_t seed) {
  return [numbers = std::make_shared<std::mt19937_64>(seed)](MutableBytes out) -> Result<void> {
    for (std::byte& b : out) b = static_cast<std::byte>((*numbers)());
    return {};
  };
}

struct EapLab {
  std::map<std::string, std::string, std::less<>> users = {{"alice", "her password"}, {"bob", "his password"}};
  EapServer::Setup server;
  EapPeer::Setup peer;

  EapLab(std::vector<EapType> of_server, std::vector<EapType> of_peer, std::string user = "alice",
         std::string_view password = "her password") {
    server.methods = std::move(of_server);
    server.query_identity = true;
    server.context.random = eap_random(1);
    server.context.server_name = "gateway";
    server.context.password = [this](std::string_view name) -> std::optional<Secret> {
      const auto found = users.find(name);
      return found == users.end() ? std::nullopt : std::optional(Secret::copy_of(as_bytes(found->second)));
    };
    peer.methods = std::move(of_peer);
    peer.context = {eap_random(2), std::move(user), Secret::copy_of(as_bytes(password))};
  }
};

// What both ends came to. `change`: what the network makes of a packet, by its number and whose it is.
struct EapOutcome {
  EapStep server, peer;
  EapType method{};
  std::string user;
  Secret server_key, peer_key;
  std::vector<Octets> requests, responses;
};
inline EapOutcome converse(EapLab& lab,
                           const std::function<void(Octets&, std::size_t, bool from_server)>& change = {}) {
  EapServer server(lab.server);
  EapPeer peer(lab.peer);
  EapOutcome out;
  out.server = server.start();
  for (std::size_t round = 0; round < 2 * max_eap_rounds; ++round) {
    out.requests.push_back(out.server.packet);
    Octets packet = out.server.packet;
    if (change) change(packet, round, true);
    out.peer = peer.on_packet(packet);
    if (out.server.kind != EapStep::Kind::more || out.peer.kind != EapStep::Kind::more) break;
    out.responses.push_back(out.peer.packet);
    packet = out.peer.packet;
    if (change) change(packet, round, false);
    out.server = server.on_packet(packet);
  }
  out.method = server.method();
  out.user = server.user();
  out.server_key = server.key();
  out.peer_key = peer.key();
  return out;
}

}  // namespace postern::ike::lab
