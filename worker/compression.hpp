// IPComp (RFC 3173) with DEFLATE (RFC 2394): a payload made smaller before ESP or AH protects it.
//
//   | next header (1) | flags (1), zero | CPI (2) | raw DEFLATE of the payload |
//
// Every payload is compressed by itself (RFC 3173 §2: packets get lost and overtake each other). Owner: one worker
// thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>

#include <zlib.h>

#include "base/bytes.hpp"
#include "base/net_types.hpp"
#include "maps/drops.hpp"

namespace postern {

inline constexpr std::uint8_t ipcomp_protocol = 108;
inline constexpr std::uint32_t ipcomp_header = 4;
inline constexpr std::uint32_t longest_plain = 65535;
// RFC 2394 §2.3: shorter payloads rarely gain anything.
inline constexpr std::uint32_t least_to_compress = 90;

// Memory for one zlib stream, taken once. zlib asks for pieces of it; nothing is given back.
class DeflateArena {
 public:
  explicit DeflateArena(std::size_t bytes)
      : memory_(std::make_unique_for_overwrite<std::byte[]>(bytes)), size_(bytes) {}
  [[nodiscard]] z_stream stream();  // of this arena; the arena stays where it is

 private:
  static void* take(void* arena, unsigned items, unsigned bytes);
  static void give(void* arena, void* address);
  std::unique_ptr<std::byte[]> memory_;
  std::size_t size_, used_ = 0;
};

struct Decompressed {
  Bytes payload;  // in the Compression's own memory, until its next call
  std::uint8_t next_header = 0;
};

class Compression {
 public:
  Compression();
  ~Compression();
  Compression(const Compression&) = delete;
  Compression& operator=(const Compression&) = delete;

  // IPComp header and compressed payload, in memory of our own until the next call. Empty: with its header it would not
  // be smaller, and goes as it is (RFC 3173 §2.2).
  [[nodiscard]] std::optional<MutableBytes> compress(Bytes payload, std::uint8_t next_header, std::uint16_t cpi);

  // `ipcomp` begins at the IPComp header; at most `longest` bytes come of it. Drop::ipcomp_header: shorter than that,
  // or of another CPI; ipcomp_data: no whole DEFLATE stream; ipcomp_too_long. What follows the stream is ignored.
  [[nodiscard]] std::expected<Decompressed, Drop> decompress(Bytes ipcomp, std::uint16_t cpi, std::size_t longest);

 private:
  DeflateArena deflate_memory_, inflate_memory_;
  z_stream deflate_, inflate_;
  std::unique_ptr<std::byte[]> out_;  // longest_plain
};

}  // namespace postern
