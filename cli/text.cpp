#include "cli/text.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/core.h>

#include "base/net_types.hpp"

namespace postern::cli {
namespace {

using nlohmann::json;

bool continuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

// Bytes of the whole UTF-8 character at the front that may be printed; 0: it may not.
std::size_t printable_prefix(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return first >= 0x20 && first != 0x7f ? 1 : 0;
  const std::size_t size = first >= 0xc2 && first < 0xe0   ? 2
                           : first >= 0xe0 && first < 0xf0 ? 3
                           : first >= 0xf0 && first < 0xf5 ? 4
                                                           : 0;
  if (size == 0 || text.size() < size ||
      !std::all_of(text.begin() + 1, text.begin() + static_cast<std::ptrdiff_t>(size), continuation))
    return 0;
  const auto second = static_cast<unsigned char>(text[1]);
  if (first == 0xc2 && second < 0xa0) return 0;  // C1: U+0080..U+009F
  if (first == 0xe2 && second == 0x80 && static_cast<unsigned char>(text[2]) >= 0xaa &&
      static_cast<unsigned char>(text[2]) <= 0xae)
    return 0;  // bidi overrides
  return size;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t size = printable_prefix(text);
    if (size == 0)
      out += fmt::format("\\x{:02X}", static_cast<unsigned char>(text[0]));
    else
      out += text.substr(0, size);
    text.remove_prefix(std::max<std::size_t>(size, 1));
  }
  return out;
}

std::string text(const json& object, const char* key, std::string_view absent) {
  const auto member = object.find(key);
  if (member == object.end() || member->is_null()) return std::string(absent);
  return printable(member->is_string() ? member->get_ref<const std::string&>() : member->dump());
}

std::uint64_t number(const json& object, const char* key) {
  const auto member = object.find(key);
  return member == object.end() || !member->is_number() ? 0 : member->get<std::uint64_t>();
}

bool flag(const json& object, const char* key) {
  const auto member = object.find(key);
  return member != object.end() && member->is_boolean() && member->get<bool>();
}

const json& list(const json& object, const char* key) {
  static const json none = json::array();
  const auto member = object.find(key);
  return member == object.end() || !member->is_array() ? none : *member;
}

bool is_v6(std::string_view text) { return text.find(':') != std::string_view::npos; }

std::string address(std::string_view text) {
  std::string out = printable(text);
  if (is_v6(out))
    std::ranges::transform(out, out.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return out;
}

std::string address_and_mask(std::string_view text) {
  const auto prefix = Prefix::parse(text);
  if (!prefix || prefix->family() == Family::v6) return address(text);
  const std::uint32_t mask = prefix->length == 0 ? 0 : ~std::uint32_t{0} << (32 - prefix->length);
  return prefix->address.text() + "/" + IpAddress::v4(mask).text();
}

std::string address_and_wildcard(std::string_view text) {
  const auto prefix = Prefix::parse(text);
  if (!prefix) return address(text);  // "any", or a wildcard mask that is no prefix
  if (*prefix == Prefix::host(prefix->address)) return "host " + address(prefix->address.text());
  if (prefix->family() == Family::v6) return address(text);
  const std::uint32_t wildcard =
      prefix->length == 0 ? ~std::uint32_t{0} : ~(~std::uint32_t{0} << (32 - prefix->length));
  return prefix->address.text() + " " + IpAddress::v4(wildcard).text();
}

std::string selector(std::string_view prefix, std::uint64_t protocol, std::uint64_t port) {
  return fmt::format("{}/{}/{}", address_and_mask(prefix), protocol, port);
}

std::string spi(std::string_view hex) {
  std::uint32_t value = 0;
  if (hex.starts_with("0x")) std::from_chars(hex.data() + 2, hex.data() + hex.size(), value, 16);
  return fmt::format("0x{:X}({})", value, value);
}

std::string clock(std::uint64_t seconds) {
  return fmt::format("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
}

std::string yes_no(bool value) { return value ? "Y" : "N"; }

}  // namespace postern::cli
