// The asking end of control.sock: one line of JSON each way, and the descriptor that a capture's answer carries.
#pragma once

#include <string>

#include <nlohmann/json.hpp>
#include <sys/types.h>

#include "base/fd.hpp"
#include "cli/exit_codes.hpp"

namespace postern::cli {

inline constexpr const char* default_run_directory = "/run/postern";
inline constexpr std::size_t max_reply_bytes = 64U << 20;

template <class T>
using Outcome = Result<T, Failure>;

// The node's name: as given, else $POSTERN_NODE, else the only one in `run_directory`.
[[nodiscard]] Outcome<std::string> choose_node(const std::string& given, const std::string& run_directory);

struct Reply {
  nlohmann::json data;
  Fd descriptor;  // empty unless one came
  pid_t daemon = 0;
};

class ControlClient {
 public:
  // Fails with Exit::not_running when nobody listens, Exit::not_permitted when the socket or the daemon refuses us.
  [[nodiscard]] static Outcome<ControlClient> connect(const std::string& node, const std::string& run_directory);
  // Waits `timeout_ms` at most for the whole answer. One request a connection.
  [[nodiscard]] Outcome<Reply> ask(const std::string& command, nlohmann::json args, int timeout_ms = 30000);

 private:
  explicit ControlClient(Fd socket) : socket_(std::move(socket)) {}
  [[nodiscard]] Outcome<void> send_line(std::string line, int timeout_ms);
  [[nodiscard]] Outcome<std::string> receive_line(int timeout_ms, Fd& descriptor);
  Fd socket_;
};

// Blocks until the process is gone; false after `timeout_ms`.
[[nodiscard]] bool wait_for_exit(pid_t pid, int timeout_ms);

}  // namespace postern::cli
