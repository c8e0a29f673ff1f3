// postern-resolver's side of a node: started once the document has a peer by name, may be sent to one (RFC 5685),
// or fetches certificates (RFC 7296 §3.6).
#include <algorithm>

#include "loader/node.hpp"

namespace postern::loader {
namespace {

bool needs_resolver(const config::Document& document) {
  if (!document.ikev2.options.cert_lookup.empty()) return true;
  if (std::ranges::any_of(document.ikev2.profiles, [](const auto& profile) { return profile.redirect.follow; }))
    return true;
  return std::ranges::any_of(document.crypto_maps, [](const config::CryptoMap& map) {
    return std::ranges::any_of(map.entries, [](const config::MapEntry& entry) {
      return std::ranges::any_of(entry.peers, &config::Peer::is_name);
    });
  });
}

}  // namespace

void Node::bring_resolver() {
  if (!resolver_ && !needs_resolver(document_)) return;
  if (!resolver_)
    resolver_ =
        std::make_unique<SideChild>(SideChild::Setup{"postern-resolver", paths_.name, paths_.file("resolver.sock"),
                                                     loop_.get(), &state_.resolver, [this] { save_state(); }});
  if (!resolver_->runs()) resolver_->bring();
}

Result<Fd> Node::resolver_channel_for_ike() {
  if (!resolver_) return fail("broker: postern-resolver does not run", EAGAIN);
  return resolver_->channel();
}

}  // namespace postern::loader
