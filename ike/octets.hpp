// The growing writer of IKE messages: network byte order, lengths patched in once they are known.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/net_types.hpp"

namespace postern::ike {

using Octets = std::vector<std::byte>;

[[nodiscard]] inline Octets octets_of(Bytes bytes) { return {bytes.begin(), bytes.end()}; }

class OctetWriter {
 public:
  [[nodiscard]] std::size_t size() const { return octets_.size(); }
  [[nodiscard]] Octets take() { return std::exchange(octets_, {}); }

  void u8(std::uint8_t v) { number(v, 1); }
  void u16(std::uint16_t v) { number(v, 2); }
  void u32(std::uint32_t v) { number(v, 4); }
  void u64(std::uint64_t v) { number(v, 8); }
  void bytes(Bytes in) { octets_.insert(octets_.end(), in.begin(), in.end()); }
  // 4 bytes or 16.
  void address(const IpAddress& in) {
    const Bytes mapped = std::as_bytes(std::span(in.mapped()));
    bytes(in.family() == Family::v4 ? mapped.last(4) : mapped);
  }
  void zeros(std::size_t count) { octets_.resize(octets_.size() + count); }

  // Overwrites a field that zeros() or a number left at `at`.
  void put_u16(std::size_t at, std::size_t v) { store_be16(octets_.data() + at, static_cast<std::uint16_t>(v)); }
  void put_u32(std::size_t at, std::size_t v) { store_be32(octets_.data() + at, static_cast<std::uint32_t>(v)); }

 private:
  void number(std::uint64_t value, std::size_t width) {
    for (std::size_t shift = width * 8; shift != 0;) octets_.push_back(static_cast<std::byte>(value >> (shift -= 8)));
  }

  Octets octets_;
};

}  // namespace postern::ike
