#include "config/report.hpp"

#include <algorithm>

namespace postern::config {
namespace {

// Sixteen bytes in hex are 32 digits; anything with a run of twelve may be a part of a key, and so may long text.
bool may_be_key(std::string_view text) {
  std::size_t run = 0, longest = 0;
  for (const unsigned char c : text) {
    run = std::isxdigit(c) != 0 ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  return text.size() > 64 || longest >= 12;
}

}  // namespace

void Report::error(const std::string& path, std::string message, std::string allowed) {
  if (!failed_paths_.insert(path).second) return;
  errors_.push_back({path, std::move(message), std::move(allowed), Severity::error});
}

void Report::warning(const std::string& path, std::string message, std::string allowed) {
  warnings_.push_back({path, std::move(message), std::move(allowed), Severity::warning});
}

Problems Report::take() {
  Problems out = std::move(errors_);
  out.insert(out.end(), std::make_move_iterator(warnings_.begin()), std::make_move_iterator(warnings_.end()));
  if (out.size() <= max_problems) return out;
  const std::size_t more = out.size() - max_problems;
  const Severity severity = out[max_problems].severity;
  out.resize(max_problems);
  out.push_back({"", fmt::format("{} more problems are not listed", more), "", severity});
  return out;
}

std::string pointer_token(std::string_view name) {
  if (may_be_key(name)) return "?";
  std::string out;
  for (const char c : name) {
    if (c == '~')
      out += "~0";
    else if (c == '/')
      out += "~1";
    else
      out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  return out;
}

std::string quoted(std::string_view path, std::string_view text) {
  for (const std::string_view secret : {"/session_key", "/pre_shared_key", "/authentication", "/password"})
    if (path.find(secret) != std::string_view::npos) return "the value given";
  if (may_be_key(text)) return "the value given";
  std::string out = "\"";
  for (const char c : text) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  return out + "\"";
}

std::string Problem::text() const {
  std::string out = severity == Severity::warning ? "%Warning: " : "";
  out += (path.empty() ? "document" : path) + ": " + message;
  if (!allowed.empty()) out += " (allowed: " + allowed + ")";
  return out;
}

std::string to_text(const Problems& problems) {
  std::string out;
  for (const Severity severity : {Severity::error, Severity::warning})
    for (const Problem& problem : problems)
      if (problem.severity == severity) out += problem.text() + "\n";
  return out;
}

}  // namespace postern::config
