// The loop of postern-resolver: posternd gives it its end of the channel to postern-ike ("channel"), over which names
// and URLs come; threads ask for them (resolver/lookups.hpp).
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

inline constexpr std::size_t lookup_threads = 4, fetch_threads = 4, max_questions_a_turn = 64;

class Daemon {
 public:
  // `listener`: base/child_loop.hpp. Threads are not there before start().
  [[nodiscard]] static Result<std::unique_ptr<Daemon>> create(Fd listener, NameLookups::Ask ask_name,
                                                              UrlLookups::Ask ask_url);
  [[nodiscard]] Result<void> start();
  [[nodiscard]] Result<void> run() { return loop_->run(); }

 private:
  Daemon(NameLookups names, UrlLookups urls) : names_(std::move(names)), urls_(std::move(urls)) {}
  [[nodiscard]] std::string answer(std::string_view text, std::vector<Fd> descriptors);
  void on_ready(int fd);
  void take_channel(Fd channel);
  void serve_channel();
  void take_question(Frame& frame);
  template <class Pool>
  void send_answers(Pool& pool);
  void send(const Frame& frame);

  NameLookups names_;
  UrlLookups urls_;
  std::unique_ptr<ChildLoop> loop_;
  Fd channel_;
  std::uint64_t channel_number_ = 0;  // what was asked over an earlier one is answered to nobody
  std::vector<std::byte> buffer_;
};

// resolver/sandbox.cpp: gives up root for the user postern-resolver, and every system call that the loop,
// getaddrinfo(3) and libcurl do not need. Call before start().
[[nodiscard]] Result<void> enter_sandbox();

}  // namespace postern::resolver
