// The checked reader and writer: a cursor, a sticky failure, network byte order. Peers' bytes are read with nothing
// else.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace postern {

using Bytes = std::span<const std::byte>;
using MutableBytes = std::span<std::byte>;

[[nodiscard]] inline Bytes as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// Reads big-endian fields from a borrowed span. The first read past the end makes ok() false for good; reads after that
// return zeros and empty spans, so a parser checks once, at its end.
class ByteReader {
 public:
  explicit ByteReader(Bytes bytes) : bytes_(bytes) {}

  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] std::size_t remaining() const { return bytes_.size(); }

  std::uint8_t u8() { return static_cast<std::uint8_t>(number(1)); }
  std::uint16_t u16() { return static_cast<std::uint16_t>(number(2)); }
  std::uint32_t u24() { return static_cast<std::uint32_t>(number(3)); }
  std::uint32_t u32() { return static_cast<std::uint32_t>(number(4)); }
  std::uint64_t u64() { return number(8); }
  void skip(std::size_t count) { take(count); }

  // `count` bytes, borrowed from the input.
  Bytes take(std::size_t count) {
    if (count > bytes_.size()) {
      ok_ = false;
      bytes_ = {};
      return {};
    }
    const Bytes out = bytes_.first(count);
    bytes_ = bytes_.subspan(count);
    return out;
  }

  template <std::size_t N>
  std::array<std::byte, N> array() {
    std::array<std::byte, N> out{};
    const Bytes in = take(N);
    if (in.size() == N) std::memcpy(out.data(), in.data(), N);
    return out;
  }

  Bytes rest() { return take(bytes_.size()); }

 private:
  std::uint64_t number(std::size_t width) {
    std::uint64_t value = 0;
    for (const std::byte b : take(width)) value = value << 8 | std::to_integer<std::uint64_t>(b);
    return value;
  }

  Bytes bytes_;
  bool ok_ = true;
};

// Writes big-endian fields into a borrowed span; the first write past its end makes ok() false for good.
class ByteWriter {
 public:
  explicit ByteWriter(MutableBytes bytes) : bytes_(bytes) {}

  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] std::size_t size() const { return written_; }
  [[nodiscard]] Bytes written() const { return bytes_.first(written_); }

  void u8(std::uint8_t v) { number(v, 1); }
  void u16(std::uint16_t v) { number(v, 2); }
  void u32(std::uint32_t v) { number(v, 4); }
  void u64(std::uint64_t v) { number(v, 8); }
  void bytes(Bytes in) {
    const MutableBytes out = room(in.size());
    if (!in.empty() && out.size() == in.size()) std::memcpy(out.data(), in.data(), in.size());
  }
  void zeros(std::size_t count) {
    for (std::byte& b : room(count)) b = std::byte{0};
  }

 private:
  void number(std::uint64_t value, std::size_t width) {
    std::size_t shift = width * 8;
    for (std::byte& b : room(width)) b = static_cast<std::byte>(value >> (shift -= 8));
  }
  MutableBytes room(std::size_t count) {
    if (!ok_ || count > bytes_.size() - written_) {
      ok_ = false;
      return {};
    }
    const MutableBytes out = bytes_.subspan(written_, count);
    written_ += count;
    return out;
  }

  MutableBytes bytes_;
  std::size_t written_ = 0;
  bool ok_ = true;
};

// Unaligned big-endian fields at an address whose bounds the caller has already checked: for the data path.
[[nodiscard]] inline std::uint16_t load_be16(const std::byte* p) {
  std::uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_bswap16(v);
}
[[nodiscard]] inline std::uint32_t load_be32(const std::byte* p) {
  std::uint32_t v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_bswap32(v);
}
inline void store_be16(std::byte* p, std::uint16_t v) {
  v = __builtin_bswap16(v);
  std::memcpy(p, &v, sizeof v);
}
inline void store_be32(std::byte* p, std::uint32_t v) {
  v = __builtin_bswap32(v);
  std::memcpy(p, &v, sizeof v);
}

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "load_be*/store_be* swap");

}  // namespace postern
