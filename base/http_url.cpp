#include "base/http_url.hpp"

#include <algorithm>
#include <charconv>
#include <string>

namespace postern {
namespace {

constexpr std::string_view scheme = "http://";

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); }

bool is_host(std::string_view host) {
  if (host.size() > 2 && host.front() == '[' && host.back() == ']')
    return std::ranges::all_of(host.substr(1, host.size() - 2),
                               [](char c) { return is_hex(c) || c == ':' || c == '.'; });
  if (host.empty() || host.starts_with('.') || host.find("..") != std::string_view::npos) return false;
  return std::ranges::all_of(
      host, [](char c) { return is_digit(c) || (c >= 'a' && c <= 'z') || c == '-' || c == '.' || c == '_'; });
}

bool is_port(std::string_view digits) {
  unsigned port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  return error == std::errc() && end == digits.data() + digits.size() && is_digit(digits.front()) && port >= 1 &&
         port <= 65535;
}

bool is_authority(std::string_view text) {
  const std::size_t bracket = text.rfind(']');
  const std::size_t colon = text.find(':', bracket == std::string_view::npos ? 0 : bracket);
  if (colon == std::string_view::npos) return is_host(text);
  return is_host(text.substr(0, colon)) && colon + 1 < text.size() && is_port(text.substr(colon + 1));
}

// As whoever fetches it reads it: "%2e" is a dot.
bool is_dots(std::string_view part) {
  std::string plain;
  while (!part.empty()) {
    const bool dot = part.front() == '.';
    const bool coded = part.size() >= 3 && part[0] == '%' && part[1] == '2' && (part[2] == 'e' || part[2] == 'E');
    if (!dot && !coded) return false;
    plain += '.';
    part.remove_prefix(dot ? 1 : 3);
  }
  return plain == "." || plain == "..";
}

bool is_path(std::string_view path) {
  constexpr std::string_view never = "\"<>\\^`{|}#";
  if (!std::ranges::all_of(path, [&](char c) { return c > 0x20 && c < 0x7f && never.find(c) == never.npos; }))
    return false;
  while (!path.empty()) {
    path.remove_prefix(1);  // '/'
    const std::string_view part = path.substr(0, path.find_first_of("/?"));
    if (is_dots(part)) return false;
    path.remove_prefix(part.size());
    if (path.starts_with('?')) return true;
  }
  return true;
}

}  // namespace

bool is_http_url(std::string_view text) {
  if (text.size() > max_url_bytes || !text.starts_with(scheme)) return false;
  const std::string_view rest = text.substr(scheme.size());
  const std::size_t slash = rest.find('/');
  return slash != std::string_view::npos && is_authority(rest.substr(0, slash)) && is_path(rest.substr(slash));
}

bool is_http_prefix(std::string_view text) {
  return text == scheme || (is_http_url(text) && text.ends_with('/') && text.find('?') == std::string_view::npos);
}

}  // namespace postern
