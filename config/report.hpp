// Where every gate of the loader writes what it finds. One per load; one thread.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/core.h>

#include "config/load.hpp"

namespace postern::config {

class Report {
 public:
  // A second error about the same place is a consequence of the first and is left out.
  void error(const std::string& path, std::string message, std::string allowed = {});
  void warning(const std::string& path, std::string message, std::string allowed = {});

  [[nodiscard]] bool failed() const { return !failed_paths_.empty(); }
  [[nodiscard]] bool failed_at(const std::string& path) const { return failed_paths_.contains(path); }
  // Errors first, then warnings, each in the order found; at most `max_problems`, and then a line that says how many
  // more.
  [[nodiscard]] Problems take();

 private:
  static constexpr std::size_t max_problems = 200;
  Problems errors_, warnings_;
  std::set<std::string> failed_paths_;
};

// A JSON pointer from a format: at("/acls/{}/rules/{}", 0, 1).
template <class... Args>
[[nodiscard]] std::string at(fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format(format, std::forward<Args>(args)...);
}

// RFC 6901 escape of one reference token; control characters become '?', and so does a whole name that may be key
// material.
[[nodiscard]] std::string pointer_token(std::string_view name);

// "\"esp-foo\"", or "the value given" when the text may be key material: hex-like, long, or where keys stand.
[[nodiscard]] std::string quoted(std::string_view path, std::string_view text);

}  // namespace postern::config
