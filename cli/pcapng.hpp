// pcapng blocks (draft-ietf-opsawg-pcapng): section header, interface descriptions, enhanced packets with nanoseconds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.hpp"

namespace postern::cli {

struct CapturedPacket {
  std::uint64_t realtime_ns = 0;
  std::uint32_t original_bytes = 0;
  std::uint32_t linktype = 0;
  std::uint32_t ifindex = 0;
  std::uint32_t side = 0;  // 1 plain, 2 cipher
  bool outbound = false;
  Bytes bytes;
};

// Makes blocks; the caller writes them. An interface is described when its first packet comes: one for each device,
// link type and side, named "out0 (cipher)". At most `max_interfaces`.
class PcapngWriter {
 public:
  static constexpr std::size_t max_interfaces = 1024;

  explicit PcapngWriter(std::map<std::uint32_t, std::string> names = {}) : names_(std::move(names)) {}
  // Section header; first of all.
  [[nodiscard]] std::vector<std::byte> section(std::string_view node) const;
  // The packet, with the description of its interface in front when it is new. Empty: no interface can be described any
  // more.
  [[nodiscard]] std::vector<std::byte> packet(const CapturedPacket& packet);

 private:
  struct Key {
    std::uint32_t ifindex, linktype, side;
    auto operator<=>(const Key&) const = default;
  };
  [[nodiscard]] std::string name_of(const Key& key) const;
  std::map<std::uint32_t, std::string> names_;
  std::map<Key, std::uint32_t> interfaces_;
};

}  // namespace postern::cli
