// The loop of a child of posternd: one thread, epoll over a control socket on which posternd asks, and whatever else
// the child watches. A request is one datagram, with at most four descriptors; its answer is one datagram, or, where it
// is too long, a memory file that comes with {"bytes": N}. Ends with SIGTERM. Only peers of uid 0 are heard, besides
// ours (tests run as one user).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "base/result.hpp"

namespace postern {

class ChildLoop {
 public:
  static constexpr std::size_t max_request_bytes = 4096, max_reply_bytes = 48U << 10, max_clients = 16;

  struct Hooks {
    std::function<std::string(std::string_view request, std::vector<Fd> descriptors)> answer;
    std::function<void(int fd)> on_ready;  // of a descriptor of watch()
    // When on_time() wants its turn; nothing: it waits for descriptors alone. on_time() comes after each turn.
    std::function<std::optional<Time>()> next_time = {};
    std::function<void()> on_time = {};
  };

  // `listener`: a listening SOCK_SEQPACKET Unix socket. The hooks are called from run() alone.
  [[nodiscard]] static Result<std::unique_ptr<ChildLoop>> create(Fd listener, Hooks hooks);
  // A closed descriptor leaves by itself.
  [[nodiscard]] Result<void> watch(int fd);
  [[nodiscard]] Result<void> run();
  [[nodiscard]] std::uint64_t requests() const { return requests_; }

 private:
  ChildLoop(Fd listener, Fd epoll, Fd signals, Hooks hooks);
  [[nodiscard]] int patience(Time now) const;
  void dispatch(int fd);
  void accept_client();
  void serve_client(int fd);
  void reply(int fd, std::string_view text);

  Fd listener_, epoll_, signals_;
  Hooks hooks_;
  std::unordered_map<int, Fd> clients_;
  std::uint64_t requests_ = 0;
  bool running_ = true;
};

// {"node", its name} and the listening descriptor, of `PROGRAM --node NAME --listen-fd N`, as posternd starts children.
struct ChildOptions {
  std::string node;
  int listen_fd = -1;
};
[[nodiscard]] Result<ChildOptions> child_options(const char* program, int argc, char** argv);

// main() of a child: reads the options, starts the log, runs `body`, and says how it ended.
[[nodiscard]] int run_child(const char* program, int argc, char** argv, Result<void> (*body)(Fd listener));

}  // namespace postern
