#include "ike/crash_token.hpp"

#include <algorithm>

#include "crypto/prf.hpp"

namespace postern::ike {
namespace {

constexpr auto prf_of_tokens = crypto::Prf::hmac_sha256;
constexpr std::size_t secret_bytes = 32;

bool shorter_or_before(const Secret& a, const Secret& b) {
  return std::ranges::lexicographical_compare(a.bytes(), b.bytes());
}

// Each once and in order, whatever the order of the policy's connections.
std::vector<Secret> keys_of(const Policy& policy) {
  std::vector<Secret> out;
  for (const auto& connection : policy.connections) {
    for (const Secret* const key : {&connection->local_key, &connection->remote_key}) out.push_back(*key);
    for (const auto* const peers : {&connection->peer_keys, &connection->identity_keys})
      for (const PeerKey& peer : *peers)
        for (const Secret* const key : {&peer.local_key, &peer.remote_key}) out.push_back(*key);
  }
  std::ranges::sort(out, shorter_or_before);
  const auto same = std::ranges::unique(out);
  out.erase(same.begin(), same.end());
  return out;
}

Result<Secret> secret_of(const Policy& policy) {
  POSTERN_TRY(state, crypto::prf(prf_of_tokens, policy.node_key.bytes(), {as_bytes("postern: tokens of RFC 6290")}));
  for (const Secret& key : keys_of(policy)) {
    POSTERN_TRY(next, crypto::prf(prf_of_tokens, state.bytes(), {key.bytes()}));
    state = std::move(next);
  }
  return state;
}

std::optional<Octets> token_of(const Secret& secret, std::uint64_t spi_i, std::uint64_t spi_r) {
  OctetWriter spis;
  spis.u64(spi_i);
  spis.u64(spi_r);
  const auto token = crypto::prf(prf_of_tokens, secret.bytes(), {spis.take()});
  if (!token) return std::nullopt;
  return octets_of(token->bytes());
}

}  // namespace

Result<void> CrashTokens::set_policy(const Policy& policy) {
  if (policy.node_key.empty()) {
    if (!secrets_.empty()) return {};
    Secret own(secret_bytes);
    POSTERN_CHECK(random_(own.mutable_bytes()));
    secrets_.push_back(std::move(own));
    return {};
  }
  POSTERN_TRY(secret, secret_of(policy));
  std::erase(secrets_, secret);
  secrets_.insert(secrets_.begin(), std::move(secret));
  if (secrets_.size() > most_secrets) secrets_.resize(most_secrets);
  return {};
}

std::optional<Octets> CrashTokens::token(std::uint64_t spi_i, std::uint64_t spi_r) const {
  return secrets_.empty() ? std::nullopt : token_of(secrets_.front(), spi_i, spi_r);
}

std::vector<Octets> CrashTokens::tokens(std::uint64_t spi_i, std::uint64_t spi_r) const {
  std::vector<Octets> out;
  for (const Secret& secret : secrets_)
    if (auto one = token_of(secret, spi_i, spi_r)) out.push_back(std::move(*one));
  return out;
}

}  // namespace postern::ike
