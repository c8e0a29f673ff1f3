// The loop of postern-resolver: posternd gives it its end of the channel to postern-ike ("channel"), over which names
// come; threads ask for them (resolver/lookups.hpp).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/child_loop.hpp"
#include "base/fd.hpp"
#include "base/result.hpp"
#include "resolver/lookups.hpp"

namespace postern::resolver {

inline constexpr std::size_t lookup_threads = 4, max_questions_a_turn = 64;

class Daemon {
 public:
  // `listener`: base/child_loop.hpp. Threads are not there before start().
  [[nodiscard]] static Result<std::unique_ptr<Daemon>> create(Fd listener, Lookups::Ask ask);
  [[nodiscard]] Result<void> start() { return lookups_.start(lookup_threads); }
  [[nodiscard]] Result<void> run() { return loop_->run(); }

 private:
  explicit Daemon(Lookups lookups) : lookups_(std::move(lookups)) {}
  [[nodiscard]] std::string answer(std::string_view text, std::vector<Fd> descriptors);
  void on_ready(int fd);
  void take_channel(Fd channel);
  void serve_channel();
  void send_answers();

  Lookups lookups_;
  std::unique_ptr<ChildLoop> loop_;
  Fd channel_;
  std::uint64_t channel_number_ = 0;  // what was asked over an earlier one is answered to nobody
  std::vector<std::byte> buffer_;
};

// resolver/sandbox.cpp: gives up root for the user postern-resolver, and every system call that neither the loop nor
// getaddrinfo(3) needs. Call before start().
[[nodiscard]] Result<void> enter_sandbox();

}  // namespace postern::resolver
