// A child that serves postern-ike over a channel of its own, and of which posternd wants no more than that it is there
// and has its configuration: postern-pki, postern-resolver. Found again or started once it is needed, replaced when it
// dies.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "loader/children.hpp"
#include "loader/event_loop.hpp"

namespace postern::loader {

class SideChild {
 public:
  struct Setup {
    const char* program;
    std::string node, socket_path;
    EventLoop* loop;                               // borrowed, as `known` is
    ProcessId* known;                              // of an earlier posternd; kept true
    std::function<void()> save_state;              // `known` has changed
    std::function<Result<void>()> configure = {};  // tells it what it has to know
  };
  explicit SideChild(Setup setup) : setup_(std::move(setup)) {}

  // It is needed: there, and configured anew. What cannot be done now is tried again.
  void bring();
  [[nodiscard]] bool runs() const { return child_.has_value(); }
  void end(std::chrono::milliseconds patience);

  // Its answer, "id" and all.
  [[nodiscard]] Result<nlohmann::json> ask(const nlohmann::json& question);
  // The data of its answer; what it refused is an error. `descriptor` is borrowed, -1 for none.
  [[nodiscard]] Result<nlohmann::json> ask_for(const nlohmann::json& question, int descriptor = -1);
  // One end of a new channel, whose other end it has. EAGAIN while it does not run.
  [[nodiscard]] Result<Fd> channel();

 private:
  void lost();
  Setup setup_;
  std::optional<IkeChild> child_;
  Time started_{};
  RestartPace pace_;
};

}  // namespace postern::loader
