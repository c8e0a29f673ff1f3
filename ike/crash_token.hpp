// Quick crash detection (RFC 6290): a token for each IKE SA, which its peer gets while the IKE SA stands. Who has lost
// the IKE SA makes it again from the SPIs alone (§5.1) and shows it to the peer, which then knows that the IKE SA is
// gone.
//
// The secret behind the tokens is stored nowhere: it follows from the node's key and the pre-shared keys of its policy,
// which a restarted node has again. After a change of those the one before is remembered for as long as the process
// lives. Peers, who know keys of the policy, do not know the node's key; who can read that on the host does not know
// the keys.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "base/secret.hpp"
#include "ike/octets.hpp"
#include "ike/policy.hpp"

namespace postern::ike {

class CrashTokens {
 public:
  using Random = std::function<Result<void>(MutableBytes)>;
  explicit CrashTokens(Random random) : random_(std::move(random)) {}

  // A policy without a node's key: tokens are of this process alone.
  [[nodiscard]] Result<void> set_policy(const Policy& policy);
  // For a peer. Nothing: no policy yet.
  [[nodiscard]] std::optional<Octets> token(std::uint64_t spi_i, std::uint64_t spi_r) const;
  // For one that asks about an IKE SA that is not here: each that it may have got.
  [[nodiscard]] std::vector<Octets> tokens(std::uint64_t spi_i, std::uint64_t spi_r) const;

 private:
  static constexpr std::size_t most_secrets = 2;
  Random random_;
  std::vector<Secret> secrets_;  // the one in use first
};

}  // namespace postern::ike
