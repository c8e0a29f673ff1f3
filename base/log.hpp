// One log for every process: spdlog to standard error (journald takes it from there). Cold paths only; keys never.
#pragma once

#include <string_view>

#include <spdlog/spdlog.h>

namespace postern {

// Names the process in every line ("postern-worker[N1]"); `level` as spdlog spells it. Call once, first thing in main.
// On a terminal: time and colour; under journald ($JOURNAL_STREAM): syslog priorities and no time.
void start_log(std::string_view process, std::string_view node, std::string_view level = "info");

}  // namespace postern
