// systemd, where there is one: readiness, status, watchdog, and the descriptor store that keeps the memory files over a
// restart of both processes. Everything is a no-op without $NOTIFY_SOCKET.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "loader/shared_memory.hpp"

namespace postern::loader {

void notify_ready(const std::string& status);
void notify_status(const std::string& status);
void notify_reloading();
void notify_stopping();
void notify_watchdog();
// How often notify_watchdog() must be called; none: no watchdog asked for.
[[nodiscard]] std::optional<std::chrono::microseconds> watchdog_interval();

// Stores them under the names "sa-state", "counters", "adjacency", replacing older ones of these names.
void store_memory_files(const MemoryFiles& files);
// What the store handed back at start; incomplete when it had nothing. Call once: takes the descriptors over.
[[nodiscard]] MemoryFiles take_stored_memory_files();

}  // namespace postern::loader
