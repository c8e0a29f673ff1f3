#include "ios/lines.hpp"

#include <algorithm>
#include <array>
#include <cctype>

namespace postern::ios {
namespace {

constexpr std::array<std::string_view, 12> interface_kinds = {
    "BDI",         "Ethernet",        "FastEthernet", "FortyGigabitEthernet", "GigabitEthernet",
    "HundredGigE", "Loopback",        "Serial",       "TenGigabitEthernet",   "Tunnel",
    "Vlan",        "Virtual-Template"};

bool blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

// "Device(config-if)# " and "Router> ": a name, perhaps a mode in parentheses, and '#' or '>'.
std::string_view without_prompt(std::string_view text) {
  const auto end = text.find_first_of("#> \t");
  if (end == std::string_view::npos || end == 0 || (text[end] != '#' && text[end] != '>')) return text;
  const std::string_view name = text.substr(0, end);
  const bool prompt = std::ranges::all_of(name, [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '(' || c == ')' || c == '.';
  });
  return prompt ? text.substr(end + 1) : text;
}

std::string_view without_remark(std::string_view text) {
  for (const std::string_view mark : {"==>", "//"})
    if (const auto at = text.find(mark);
        at != std::string_view::npos && (at == 0 || blank(text[at - 1]) || mark == "==>"))
      text = text.substr(0, at);
  while (!text.empty() && (text.back() == '=' || blank(text.back()))) text.remove_suffix(1);
  return text;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

std::vector<std::string> words_of_line(std::string_view text) {
  std::vector<std::string> out;
  for (text = trimmed(text); !text.empty() && out.size() <= max_line_words; text = trimmed(text)) {
    const bool quoted = text.front() == '"' && text.find('"', 1) != std::string_view::npos;
    const auto end = quoted ? text.find('"', 1) : std::min(text.find(' '), text.find('\t'));
    out.emplace_back(text.substr(quoted ? 1 : 0, end == std::string_view::npos ? end : end - (quoted ? 1 : 0)));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + (quoted ? 1 : 0));
  }
  return out;
}

std::vector<std::string_view> pattern_words(std::string_view pattern) {
  std::vector<std::string_view> out;
  while (!pattern.empty()) {
    const auto space = pattern.find(' ');
    out.push_back(pattern.substr(0, space));
    pattern.remove_prefix(space == std::string_view::npos ? pattern.size() : space + 1);
  }
  return out;
}

bool spells(std::string_view given, std::string_view literal) {
  const std::string lowered = lower(given);
  if (lowered == literal) return true;
  // One letter is not enough to know a word by; a number abbreviates nothing.
  return lowered.size() >= 2 && literal.starts_with(lowered) &&
         std::isdigit(static_cast<unsigned char>(lowered[0])) == 0;
}

}  // namespace

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

std::vector<Line> read_lines(std::string_view text) {
  std::vector<Line> out;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const auto end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    const bool indented = line.starts_with(' ') || line.starts_with('\t');
    const std::string_view command = without_prompt(trimmed(line));
    const bool prompted = command.size() != trimmed(line).size();
    line = trimmed(without_remark(command));
    if (line.empty() || line.front() == '!' || line == ".") continue;
    auto words = line.size() > max_line_bytes ? std::vector<std::string>{} : words_of_line(line);
    if (words.size() > max_line_words) words.clear();
    out.push_back({number, std::move(words), prompted, indented});
  }
  return out;
}

std::optional<std::vector<std::string>> match(std::string_view pattern, const std::vector<std::string>& words) {
  std::vector<std::string> taken;
  std::size_t at = 0;
  for (const std::string_view wanted : pattern_words(pattern)) {
    if (at == words.size()) return std::nullopt;
    if (wanted.ends_with("...>")) {
      taken.insert(taken.end(), words.begin() + static_cast<std::ptrdiff_t>(at), words.end());
      return taken;
    }
    if (wanted.starts_with('<'))
      taken.push_back(words[at]);
    else if (!spells(words[at], wanted))
      return std::nullopt;
    ++at;
  }
  return at == words.size() ? std::optional(taken) : std::nullopt;
}

std::size_t literals_in_full(std::string_view pattern, const std::vector<std::string>& words) {
  std::size_t at = 0, full = 0;
  for (const std::string_view wanted : pattern_words(pattern)) {
    if (at == words.size()) break;
    full += lower(words[at++]) == wanted ? 1 : 0;
  }
  return full;
}

std::string interface_name(std::string_view text) {
  const auto digit = std::ranges::find_if(text, [](unsigned char c) { return std::isdigit(c) != 0; });
  const std::string kind = lower(trimmed(text.substr(0, static_cast<std::size_t>(digit - text.begin()))));
  if (kind.size() < 2) return std::string(text);
  for (const std::string_view known : interface_kinds)
    if (lower(known).starts_with(kind)) return std::string(known) + std::string(digit, text.end());
  return std::string(text);
}

}  // namespace postern::ios
