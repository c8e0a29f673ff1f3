// postern-ike's loop. posternd talks to it over ike.sock (SOCK_SEQPACKET, one JSON text a datagram; the answer repeats
// the question's "id"): "show ..." and other commands (daemon_commands.cpp); {"command": "adopt"} that carries a broker
// socket by SCM_RIGHTS, sent at start and by every later posternd; {"command": "policy"} that carries the files of
// ike/policy_link.hpp. An answer too long for a datagram is in a memory file that comes with {"bytes": N}. It lives on
// without posternd.
//
// SIGTERM ends it as a crash does: child SAs run on in the worker, and the next life takes over from them. {"command":
// "goodbye"} comes first where the node itself ends: the peers are told.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/child_loop.hpp"
#include "base/clock.hpp"
#include "base/fd.hpp"
#include "base/result.hpp"
#include "ike/daemon_engine.hpp"
#include "ike/show.hpp"

namespace postern::ike {

// What posternd commands, besides adopt and policy. Pure but for the engine it is done to.
[[nodiscard]] nlohmann::json command(Engine& engine, const DaemonFacts& facts, const nlohmann::json& request, Time now);

class Daemon {
 public:
  // `listener`: a listening SOCK_SEQPACKET Unix socket (base/child_loop.hpp).
  [[nodiscard]] static Result<std::unique_ptr<Daemon>> create(Fd listener);

  // Until SIGTERM.
  [[nodiscard]] Result<void> run() { return loop_->run(); }

 private:
  Daemon();
  [[nodiscard]] std::string parse_and_answer(std::string_view text, std::vector<Fd> descriptors);
  [[nodiscard]] nlohmann::json answer(const nlohmann::json& request, std::vector<Fd> descriptors);
  [[nodiscard]] nlohmann::json adopt(std::vector<Fd> descriptors);
  [[nodiscard]] nlohmann::json take_policy(std::vector<Fd> descriptors);
  [[nodiscard]] DaemonFacts facts() const;

  std::unique_ptr<ChildLoop> loop_;
  Engine engine_;
  Time started_ = Clock::now();
};

}  // namespace postern::ike
