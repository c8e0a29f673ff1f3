// Hexadecimal, as the tables of the wire tests write bytes; spaces are for the reader.
#pragma once

#include <string_view>

#include "base/secret.hpp"
#include "ike/octets.hpp"

namespace postern::ike::test {

inline Octets octets(std::string_view hex) {
  Octets out;
  int high = -1;
  for (const char c : hex) {
    if (c == ' ') continue;
    const int digit = c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
    if (high >= 0) out.push_back(static_cast<std::byte>(high * 16 + digit));
    high = high >= 0 ? -1 : digit;
  }
  return out;
}

inline Secret secret(std::string_view hex) { return Secret::copy_of(octets(hex)); }

inline bool same(Bytes a, Bytes b) { return octets_of(a) == octets_of(b); }

}  // namespace postern::ike::test
