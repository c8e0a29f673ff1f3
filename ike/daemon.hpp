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
#include <string_view>
#include <unordered_map>
#include <vector>

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
  static constexpr std::size_t max_request_bytes = 4096;
  static constexpr std::size_t max_reply_bytes = 48U << 10;  // in a datagram
  static constexpr std::size_t max_clients = 16;

  // `listener`: a listening SOCK_SEQPACKET Unix socket. Only peers of uid 0 are heard, besides ours (tests run as one
  // user).
  [[nodiscard]] static Result<std::unique_ptr<Daemon>> create(Fd listener);

  // Until SIGTERM.
  [[nodiscard]] Result<void> run();

 private:
  Daemon(Fd listener, Fd epoll, Fd signals);
  [[nodiscard]] Result<void> watch(int fd);
  [[nodiscard]] int patience(Time now) const;
  void dispatch(int fd);
  void accept_client();
  void serve_client(int fd);
  [[nodiscard]] nlohmann::json parse_and_answer(std::string_view text, std::vector<Fd> descriptors);
  [[nodiscard]] nlohmann::json answer(const nlohmann::json& request, std::vector<Fd> descriptors);
  [[nodiscard]] nlohmann::json adopt(std::vector<Fd> descriptors);
  [[nodiscard]] nlohmann::json take_policy(std::vector<Fd> descriptors);
  void reply(int fd, const nlohmann::json& body);
  [[nodiscard]] DaemonFacts facts() const;

  Fd listener_, epoll_, signals_;
  Engine engine_;
  std::unordered_map<int, Fd> clients_;
  Time started_ = Clock::now();
  std::uint64_t requests_ = 0;
  bool running_ = true;
};

}  // namespace postern::ike
