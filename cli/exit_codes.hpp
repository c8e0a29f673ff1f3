// What postern returns, as docs/CLI.md and postern(8) say.
#pragma once

#include <string>

namespace postern::cli {

enum class Exit : int { ok = 0, failed = 1, usage = 2, not_running = 3, not_permitted = 4 };

// Why a command ended, and what to do next. `hint` may be empty.
struct Failure {
  Exit exit = Exit::failed;
  std::string message;
  std::string hint;
};

}  // namespace postern::cli
