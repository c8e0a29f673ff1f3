// The notations of the guide and the one place where foreign text becomes terminal text. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace postern::cli {

// Control characters (C0, DEL, C1) and broken UTF-8 as \xNN: a name cannot move the cursor or begin a line.
[[nodiscard]] std::string printable(std::string_view text);

// Members of a reply as printable text. A missing or null member is `absent`.
[[nodiscard]] std::string text(const nlohmann::json& object, const char* key, std::string_view absent = "");
[[nodiscard]] std::uint64_t number(const nlohmann::json& object, const char* key);
[[nodiscard]] bool flag(const nlohmann::json& object, const char* key);
// The array under `key`, or an empty one.
[[nodiscard]] const nlohmann::json& list(const nlohmann::json& object, const char* key);

// IPv6 in upper case, as the guide prints it.
[[nodiscard]] std::string address(std::string_view text);
// "10.1.0.0/16" to "10.1.0.0/255.255.0.0"; IPv6 "2001:DB8::/64". The guide's addr/mask.
[[nodiscard]] std::string address_and_mask(std::string_view prefix);
// "10.1.0.0/16" to "10.1.0.0 0.0.255.255", "host 10.1.0.2", "any"; IPv6 keeps its length. The guide's access list form.
[[nodiscard]] std::string address_and_wildcard(std::string_view prefix);
// addr/mask/prot/port
[[nodiscard]] std::string selector(std::string_view prefix, std::uint64_t protocol, std::uint64_t port);
[[nodiscard]] bool is_v6(std::string_view address_or_prefix);

[[nodiscard]] std::string spi(std::string_view hex);     // "0x1001(4097)"
[[nodiscard]] std::string clock(std::uint64_t seconds);  // "00:03:53"
[[nodiscard]] std::string yes_no(bool value);            // "Y", "N"

}  // namespace postern::cli
