#include "cli/access_rule.hpp"

#include <fmt/core.h>

#include "cli/render.hpp"
#include "cli/text.hpp"

namespace postern::cli {
namespace {

using nlohmann::json;

// " eq 80 443", " range 1 2"
std::string ports_words(const json& ranges) {
  std::string out;
  for (const json& range : ranges) {
    const auto first = number(range, "first"), last = number(range, "last");
    out += first == last ? fmt::format(" eq {}", first) : fmt::format(" range {} {}", first, last);
  }
  return out;
}

std::string side_words(const json& rule, const char* key, const char* ports_key) {
  return address_and_wildcard(text(rule, key)) + ports_words(list(rule, ports_key));
}

// " match-all +syn -ack"
std::string flags_words(const json& rule) {
  const auto flags = rule.find("tcp_flags");
  if (flags == rule.end()) return "";
  std::string out = " match-" + text(*flags, "match");
  for (const json& flag : list(*flags, "set")) out += " +" + printable(flag.get<std::string>());
  for (const json& flag : list(*flags, "clear")) out += " -" + printable(flag.get<std::string>());
  return out;
}

std::string options_words(const json& rule) {
  std::string out;
  const auto add = [&](const char* key, const char* word) {
    if (rule.contains(key)) out += fmt::format("{} {}", word, number(rule, key));
  };
  add("icmp_type", "");
  add("icmp_code", "");
  if (flag(rule, "established")) out += " established";
  out += flags_words(rule);
  if (flag(rule, "fragments")) out += " fragments";
  add("dscp", " dscp");
  add("precedence", " precedence");
  add("tos", " tos");
  if (rule.contains("time_range"))
    out += " time-range " + text(rule, "time_range") + (flag(rule, "active") ? " (active)" : " (inactive)");
  if (rule.contains("log")) out += " " + text(rule, "log");
  if (rule.contains("log_tag")) out += " " + text(rule, "log_tag");
  return out;
}

}  // namespace

std::string access_rule(const json& rule) {
  const auto matches = number(rule, "matches");
  return fmt::format("{} {} {} {}", text(rule, "action"), text(rule, "proto"), side_words(rule, "src", "src_ports"),
                     side_words(rule, "dst", "dst_ports")) +
         options_words(rule) + (matches == 0 ? "" : fmt::format(" ({} match{})", matches, matches == 1 ? "" : "es"));
}

std::string render_access_lists(const json& data) {
  std::string out;
  for (const json& acl : list(data, "access_lists")) {
    const bool v6 = text(acl, "family") == "ipv6";
    out += (v6 ? "IPv6 access list " : "Extended IP access list ") + text(acl, "name") + "\n";
    for (const json& rule : list(acl, "rules"))
      out += v6 ? fmt::format("    {} sequence {}\n", access_rule(rule), number(rule, "sequence"))
                : fmt::format("    {} {}\n", number(rule, "sequence"), access_rule(rule));
  }
  return out.empty() ? "No access lists.\n" : out;
}

}  // namespace postern::cli
