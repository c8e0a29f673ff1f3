// postern-ike's loop. posternd talks to it over ike.sock (SOCK_SEQPACKET, one JSON text a datagram): "show ..."
// questions, and {"command": "adopt"} that carries a broker socket by SCM_RIGHTS, sent at start and by every later
// posternd. It lives on without posternd and ends at SIGTERM.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <unordered_map>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "base/result.hpp"
#include "ike/show.hpp"

namespace postern::ike {

class Daemon {
 public:
  static constexpr std::size_t max_request_bytes = 4096;
  static constexpr std::size_t max_clients = 16;

  // `listener`: a listening SOCK_SEQPACKET Unix socket. Only peers of uid 0 are heard, besides ours (tests run as one
  // user).
  [[nodiscard]] static Result<std::unique_ptr<Daemon>> create(Fd listener);

  // Until SIGTERM.
  [[nodiscard]] Result<void> run();

 private:
  Daemon(Fd listener, Fd epoll, Fd signals)
      : listener_(std::move(listener)), epoll_(std::move(epoll)), signals_(std::move(signals)) {}
  [[nodiscard]] Result<void> watch(int fd);
  void dispatch(int fd);
  void accept_client();
  void serve_client(int fd);
  void reply(int fd, std::string_view request);
  [[nodiscard]] DaemonFacts facts() const;

  Fd listener_, epoll_, signals_, broker_;
  std::unordered_map<int, Fd> clients_;
  Time started_ = Clock::now();
  std::uint64_t requests_ = 0;
  bool running_ = true;
};

}  // namespace postern::ike
