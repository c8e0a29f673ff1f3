#include <array>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "base/bytes.hpp"

namespace postern {
namespace {

std::vector<std::byte> bytes_of(std::initializer_list<int> values) {
  std::vector<std::byte> out;
  for (const int v : values) out.push_back(static_cast<std::byte>(v));
  return out;
}

TEST_CASE("ByteReader: fields in network order, up to the last byte") {
  const auto bytes = bytes_of({0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b,
                               0x0c, 0x0d, 0x0e, 0x0f, 0x10, 0x11, 0x12, 0xf3, 0xf4, 0xf5});
  ByteReader in(bytes);
  CHECK(in.u8() == 0x01);
  CHECK(in.u16() == 0x0203);
  CHECK(in.u24() == 0x040506);
  CHECK(in.u32() == 0x0708090aU);
  CHECK(in.u64() == 0x0b0c0d0e0f101112U);
  CHECK(in.remaining() == 3);
  CHECK(in.u24() == 0xf3f4f5);
  CHECK(in.ok());
  CHECK(in.remaining() == 0);
  CHECK(in.rest().empty());
  CHECK(in.ok());
}

TEST_CASE("ByteReader: a read past the end fails for good and yields nothing") {
  const auto bytes = bytes_of({1, 2, 3});
  SUBCASE("a number") {
    ByteReader in(bytes);
    CHECK(in.u32() == 0);
    CHECK_FALSE(in.ok());
    CHECK(in.u8() == 0);  // though three bytes were there
    CHECK(in.take(0).empty());
    CHECK(in.remaining() == 0);
    CHECK_FALSE(in.ok());
  }
  SUBCASE("a span") {
    ByteReader in(bytes);
    CHECK(in.take(4).empty());
    CHECK_FALSE(in.ok());
  }
  SUBCASE("a length that a peer made huge") {
    ByteReader in(bytes);
    CHECK(in.take(~std::size_t{0}).empty());
    CHECK_FALSE(in.ok());
  }
  SUBCASE("an array, zeroed") {
    ByteReader in(bytes);
    CHECK(in.array<4>() == std::array<std::byte, 4>{});
    CHECK_FALSE(in.ok());
  }
  SUBCASE("a skip") {
    ByteReader in(bytes);
    in.skip(3);
    CHECK(in.ok());
    in.skip(1);
    CHECK_FALSE(in.ok());
  }
  SUBCASE("nothing to read") {
    ByteReader in({});
    CHECK(in.u8() == 0);
    CHECK_FALSE(in.ok());
  }
}

TEST_CASE("ByteReader: spans and arrays of exactly what is there") {
  const auto bytes = bytes_of({1, 2, 3, 4, 5});
  ByteReader in(bytes);
  CHECK(in.array<2>() == std::array{std::byte{1}, std::byte{2}});
  const Bytes two = in.take(2);
  CHECK(two.data() == bytes.data() + 2);
  CHECK(two.size() == 2);
  const Bytes rest = in.rest();
  CHECK(rest.size() == 1);
  CHECK(rest[0] == std::byte{5});
  CHECK(in.ok());
}

TEST_CASE("ByteWriter: fields in network order, read back") {
  std::array<std::byte, 22> out;
  out.fill(std::byte{0xee});
  ByteWriter writer(out);
  writer.u8(0x01);
  writer.u16(0x0203);
  writer.u32(0x04050607);
  writer.u64(0x08090a0b0c0d0e0fU);
  writer.bytes(as_bytes("abc"));
  writer.zeros(3);
  CHECK(writer.ok());
  CHECK(writer.size() == 21);
  ByteReader in(writer.written());
  CHECK(in.u8() == 0x01);
  CHECK(in.u16() == 0x0203);
  CHECK(in.u32() == 0x04050607U);
  CHECK(in.u64() == 0x08090a0b0c0d0e0fU);
  CHECK(in.u24() == 0x616263);
  CHECK(in.u24() == 0);
  CHECK(in.ok());
  CHECK(in.remaining() == 0);
  CHECK(out[21] == std::byte{0xee});
}

TEST_CASE("ByteWriter: a write past the end fails for good and writes nothing") {
  std::array<std::byte, 4> out;
  out.fill(std::byte{0xee});
  ByteWriter writer(out);
  writer.u16(0x0102);
  SUBCASE("a number") { writer.u32(0x03040506); }
  SUBCASE("bytes") { writer.bytes(as_bytes("abc")); }
  SUBCASE("zeros") { writer.zeros(3); }
  SUBCASE("a huge count") { writer.zeros(~std::size_t{0}); }
  CHECK_FALSE(writer.ok());
  writer.u8(7);  // would fit
  CHECK_FALSE(writer.ok());
  CHECK(writer.size() == 2);
  CHECK(out[2] == std::byte{0xee});
  CHECK(out[3] == std::byte{0xee});
}

TEST_CASE("ByteWriter: empty bytes fit anywhere") {
  ByteWriter writer({});
  writer.bytes({});
  writer.zeros(0);
  CHECK(writer.ok());
  CHECK(writer.written().empty());
}

TEST_CASE("load and store at odd addresses") {
  std::array<std::byte, 9> memory{};
  store_be16(memory.data() + 1, 0x0102);
  store_be32(memory.data() + 3, 0xfffefdfc);
  CHECK(memory[1] == std::byte{1});
  CHECK(memory[2] == std::byte{2});
  CHECK(memory[3] == std::byte{0xff});
  CHECK(memory[6] == std::byte{0xfc});
  CHECK(memory[0] == std::byte{0});
  CHECK(memory[7] == std::byte{0});
  CHECK(load_be16(memory.data() + 1) == 0x0102);
  CHECK(load_be32(memory.data() + 3) == 0xfffefdfcU);
}

}  // namespace
}  // namespace postern
