// MD4 and single DES, which MS-CHAPv2 is made of.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "crypto/digest.hpp"
#include "crypto/legacy.hpp"

namespace postern::crypto {
namespace {

std::string hex(Bytes bytes) {
  std::string out;
  for (const std::byte one : bytes) out += fmt::format("{:02x}", std::to_integer<unsigned>(one));
  return out;
}

}  // namespace

TEST_CASE("MD4: RFC 1320 appendix A.5, and the edges of its padding") {
  struct Row {
    std::string message;
    const char* digest;
  };
  std::string digits;
  for (int i = 0; i < 8; ++i) digits += "1234567890";
  const Row rows[] = {
      {"", "31d6cfe0d16ae931b73c59d7e0c089c0"},
      {"a", "bde52cb31de33e46245e05fbdbd6fb24"},
      {"abc", "a448017aaf21d8525fc10ae87aa6729d"},
      {"message digest", "d9130a8164549fe818874806e1c7014b"},
      {"abcdefghijklmnopqrstuvwxyz", "d79e1c308aa5bbcdeea8ed63df412da9"},
      {"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", "043f8582f241db351ce627e153e7f0e4"},
      {digits, "e33b4ddc9c38f2199c3e7b164fcc0536"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.message);
    CHECK(hex(md4(as_bytes(row.message))) == row.digest);
  }
  // 55 bytes and the length fill one block, 56 need another; each differs from its neighbours.
  std::string last;
  for (std::size_t size = 53; size < 67; ++size) {
    const std::string one = hex(md4(as_bytes(std::string(size, 'x'))));
    CHECK(one != last);
    last = one;
  }
}

TEST_CASE("DES: one block by 56 bits") {
  constexpr std::array<unsigned char, 7> key = {0x12, 0x69, 0x5b, 0xc9, 0xb7, 0xb7, 0xf8};
  constexpr std::array<unsigned char, 8> clear = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef};
  const auto sealed = des_encrypt(std::as_bytes(std::span(key)), std::as_bytes(std::span(clear)));
  REQUIRE(sealed);
  CHECK(hex(*sealed) == "85e813540f0ab405");
}

TEST_CASE("MD5: RFC 1321 appendix A.5") {
  CHECK(hex(*md5({})) == "d41d8cd98f00b204e9800998ecf8427e");
  CHECK(hex(*md5({as_bytes("a"), as_bytes("bc")})) == "900150983cd24fb0d6963f7d28e17f72");
}

}  // namespace postern::crypto
