#include "loader/service_manager.hpp"

#include <array>
#include <cstdlib>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <systemd/sd-daemon.h>

#include "base/clock.hpp"

namespace postern::loader {
namespace {

constexpr std::array<std::pair<const char*, Fd MemoryFiles::*>, 3> stored_names = {{
    {"sa-state", &MemoryFiles::sa_state},
    {"counters", &MemoryFiles::counters},
    {"adjacency", &MemoryFiles::adjacency},
}};

void notify(const std::string& text) { sd_notify(0, text.c_str()); }

void take_one(MemoryFiles& files, int fd, std::string_view name) {
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  Fd owned(fd);
  for (const auto& [known, member] : stored_names)
    if (name == known) files.*member = std::move(owned);
}

}  // namespace

void notify_ready(const std::string& status) { notify("READY=1\nSTATUS=" + status); }
void notify_status(const std::string& status) { notify("STATUS=" + status); }
void notify_reloading() {
  // sd_notify(3): Type=notify-reload wants the monotonic time of the beginning.
  notify("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(monotonic_ns() / 1000));
}
void notify_stopping() { notify("STOPPING=1"); }
void notify_watchdog() { notify("WATCHDOG=1"); }

std::optional<std::chrono::microseconds> watchdog_interval() {
  std::uint64_t microseconds = 0;
  if (sd_watchdog_enabled(0, &microseconds) <= 0) return std::nullopt;
  return std::chrono::microseconds(microseconds / 2);
}

void store_memory_files(const MemoryFiles& files) {
  for (const auto& [name, member] : stored_names) {
    sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);
    const int fd = (files.*member).get();
    sd_pid_notify_with_fds(0, 0, (std::string("FDSTORE=1\nFDNAME=") + name).c_str(), &fd, 1);
  }
}

MemoryFiles take_stored_memory_files() {
  MemoryFiles files;
  char** names = nullptr;
  const int count = sd_listen_fds_with_names(1, &names);
  for (int i = 0; i < count; ++i) {
    take_one(files, SD_LISTEN_FDS_START + i, names[i]);
    std::free(names[i]);
  }
  std::free(names);
  return files;
}

}  // namespace postern::loader
