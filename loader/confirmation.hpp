// `config apply FILE --confirm SECONDS`: what goes back by itself unless it is confirmed in time. Two files of the run
// directory say so over a restart of posternd:
//   previous.json     the document to go back to, with its keys as they came (mode 0600, like running.json)
//   unconfirmed.json  until when
// They go with the node's stop, with a confirmation, and when the way back has been gone.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.hpp"
#include "base/secret.hpp"
#include "loader/node_paths.hpp"

namespace postern::loader {

inline constexpr std::uint32_t most_confirm_seconds = 86400;

struct Confirmation {
  std::int64_t deadline_ms = 0;   // CLOCK_BOOTTIME
  bool previous_applied = false;  // previous.json was applied itself; else it is what the file said at the start
  [[nodiscard]] std::int64_t left_ms() const;  // 0: it is over
};

[[nodiscard]] Confirmation confirm_within(std::uint32_t seconds, bool previous_applied);

// Both files, the document's first: a deadline without a way back would be worse than none.
[[nodiscard]] Result<void> write_confirmation(const NodePaths& paths, const Confirmation& pending,
                                              const Secret& previous);
// Nothing pending, or nothing that can be read: an empty optional.
[[nodiscard]] std::optional<Confirmation> read_confirmation(const NodePaths& paths);
void forget_confirmation(const NodePaths& paths);

// running.json: what an apply has put in force, for the posternd that comes after a crash. Empty: the node's own file.
[[nodiscard]] Result<void> write_running(const NodePaths& paths, const Secret& text);
void forget_running(const NodePaths& paths);

}  // namespace postern::loader
