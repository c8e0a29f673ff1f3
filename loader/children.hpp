// The two children over their lives: found again, started, ended; and how soon a crashed one is started anew.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include <nlohmann/json.hpp>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "base/result.hpp"
#include "loader/broker.hpp"
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

// postern-ike: the connection to ike.sock over which posternd asks it, and the broker of the socket that it was given.
inline constexpr std::chrono::milliseconds usual_answer{1000};
inline constexpr std::chrono::milliseconds slow_answer{5000};  // where it opens sockets and asks the worker meanwhile
struct IkeChild {
  Child process;
  Fd socket;
  std::unique_ptr<Broker> broker;
  // Another descriptor that is served while we wait: the worker's, which postern-ike may be waiting for in turn until
  // we have done what the worker asks (worker/sa_channel.hpp: sa_installed). -1: none.
  std::function<int()> also;
  std::function<void()> serve_also;
  std::uint64_t next_question = 1;
  const char* called = "postern-ike";  // or the other child that answers so

  // One question and its answer. Descriptors are borrowed. Serves the broker while it waits.
  [[nodiscard]] Result<nlohmann::json> ask(const nlohmann::json& question, std::span<const int> descriptors = {},
                                           std::chrono::milliseconds wait = usual_answer);
};
using MakeBroker = std::function<std::unique_ptr<Broker>(Fd)>;
[[nodiscard]] Result<IkeChild> start_ike(const std::string& node, const std::string& socket_path,
                                         const MakeBroker& make_broker);
[[nodiscard]] std::optional<IkeChild> adopt_ike(const ProcessId& id, const std::string& socket_path,
                                                const MakeBroker& make_broker);

// postern-pki, postern-resolver: the same without a broker (loader/side_child.hpp).
[[nodiscard]] Result<IkeChild> start_side(const char* program, const std::string& node, const std::string& socket_path);
[[nodiscard]] std::optional<IkeChild> adopt_side(const char* program, const ProcessId& id,
                                                 const std::string& socket_path);

}  // namespace postern::loader
