// The two children over their lives: found again, started, ended; and how soon a crashed one is started anew.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "base/result.hpp"
#include "loader/process.hpp"
#include "loader/worker_link.hpp"

namespace postern::loader {

// The first restart is immediate; crashes in a row wait longer, and a life of a minute is forgiven.
class RestartPace {
 public:
  // The child has ended: how long to wait before the next start.
  [[nodiscard]] Duration after_crash(Time started, Time now);

 private:
  std::uint32_t in_a_row_ = 0;
};

struct WorkerChild {
  Child process;
  WorkerLink link;
};

// worker.sock is made anew and the worker started on it; the link is connected. Hello is the caller's.
[[nodiscard]] Result<WorkerChild> start_worker(const std::string& node, const std::string& socket_path);
// The worker of an earlier posternd, if it lives and takes our connection.
[[nodiscard]] std::optional<WorkerChild> adopt_worker(const ProcessId& id, const std::string& socket_path);

// postern-ike: the connection to ike.sock over which posternd asks it, and the broker's end that it was given.
struct IkeChild {
  Child process;
  Fd socket;
  Fd broker;

  // One question and its answer, waiting at most a second.
  [[nodiscard]] Result<nlohmann::json> ask(const nlohmann::json& question) const;
};
[[nodiscard]] Result<IkeChild> start_ike(const std::string& node, const std::string& socket_path);
[[nodiscard]] std::optional<IkeChild> adopt_ike(const ProcessId& id, const std::string& socket_path);

}  // namespace postern::loader
