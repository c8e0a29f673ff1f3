#include "loader/confirmation.hpp"

#include <algorithm>
#include <fstream>
#include <sstream>

#include <nlohmann/json.hpp>
#include <time.h>
#include <unistd.h>

#include "loader/state_file.hpp"

namespace postern::loader {
namespace {

// Goes on while the machine sleeps: an operator who has cut the way to it waits by the clock on the wall.
std::int64_t now_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

std::string_view view_of(const Secret& text) {
  return {reinterpret_cast<const char*>(text.bytes().data()), text.size()};
}

}  // namespace

std::int64_t Confirmation::left_ms() const { return std::max<std::int64_t>(deadline_ms - now_ms(), 0); }

Confirmation confirm_within(std::uint32_t seconds, bool previous_applied) {
  return {now_ms() + std::int64_t{seconds} * 1000, previous_applied};
}

Result<void> write_confirmation(const NodePaths& paths, const Confirmation& pending, const Secret& previous) {
  POSTERN_CHECK(write_file(paths.file("previous.json"), view_of(previous), 0600));
  const nlohmann::json line = {{"deadline_ms", pending.deadline_ms}, {"previous_applied", pending.previous_applied}};
  return write_file(paths.file("unconfirmed.json"), line.dump() + "\n", 0600);
}

std::optional<Confirmation> read_confirmation(const NodePaths& paths) {
  std::ifstream file(paths.file("unconfirmed.json"));
  if (!file) return std::nullopt;
  std::stringstream text;
  text << file.rdbuf();
  const auto line = nlohmann::json::parse(text.str(), nullptr, false);
  if (!line.is_object() || !line.contains("deadline_ms") || !line["deadline_ms"].is_number_integer())
    return std::nullopt;
  const bool applied = line.contains("previous_applied") && line["previous_applied"] == true;
  return Confirmation{line["deadline_ms"].get<std::int64_t>(), applied};
}

void forget_confirmation(const NodePaths& paths) {
  for (const char* name : {"unconfirmed.json", "previous.json"}) ::unlink(paths.file(name).c_str());
}

Result<void> write_running(const NodePaths& paths, const Secret& text) {
  return write_file(paths.file("running.json"), view_of(text), 0600);
}

void forget_running(const NodePaths& paths) { ::unlink(paths.file("running.json").c_str()); }

}  // namespace postern::loader
