#include "cli/pcapng.hpp"

#include <cstring>
#include <string_view>

#include <fmt/core.h>

namespace postern::cli {
namespace {

// Little-endian, as the section header's byte-order magic says; this tree is little-endian only (base/bytes.hpp).
class Block {
 public:
  explicit Block(std::uint32_t type) {
    u32(type);
    u32(0);  // total length, once it is known
  }
  void u16(std::uint16_t v) { raw(&v, sizeof v); }
  void u32(std::uint32_t v) { raw(&v, sizeof v); }
  void u64(std::uint64_t v) { raw(&v, sizeof v); }
  void bytes(Bytes in) {
    out_.insert(out_.end(), in.begin(), in.end());
    pad();
  }
  void option(std::uint16_t code, Bytes value) {
    u16(code);
    u16(static_cast<std::uint16_t>(value.size()));
    bytes(value);
  }
  void option(std::uint16_t code, std::string_view value) { option(code, as_bytes(value)); }
  void end_of_options() { u32(0); }
  [[nodiscard]] std::vector<std::byte> finish() {
    const auto total = static_cast<std::uint32_t>(out_.size() + 4);
    u32(total);
    std::memcpy(out_.data() + 4, &total, sizeof total);
    return std::move(out_);
  }

 private:
  void raw(const void* data, std::size_t size) {
    const auto* const first = static_cast<const std::byte*>(data);
    out_.insert(out_.end(), first, first + size);
  }
  void pad() { out_.resize((out_.size() + 3) / 4 * 4); }
  std::vector<std::byte> out_;
};

constexpr std::uint32_t section_header = 0x0A0D0D0A, interface_description = 1, enhanced_packet = 6;
constexpr std::uint16_t shb_userappl = 4, opt_comment = 1, if_name = 2, if_tsresol = 9, epb_flags = 2;

}  // namespace

std::vector<std::byte> PcapngWriter::section(std::string_view node) const {
  Block block(section_header);
  block.u32(0x1A2B3C4D);
  block.u16(1);
  block.u16(0);
  block.u64(~std::uint64_t{0});  // section length: not given
  block.option(opt_comment, fmt::format("Postern node {}", node));
  block.option(shb_userappl, "postern capture");
  block.end_of_options();
  return block.finish();
}

std::string PcapngWriter::name_of(const Key& key) const {
  const auto named = names_.find(key.ifindex);
  const std::string device = named == names_.end() ? fmt::format("ifindex {}", key.ifindex) : named->second;
  return device + (key.side == 2 ? " (cipher)" : " (plain)");
}

std::vector<std::byte> PcapngWriter::packet(const CapturedPacket& packet) {
  const Key key{packet.ifindex, packet.linktype, packet.side};
  std::vector<std::byte> out;
  auto interface = interfaces_.find(key);
  if (interface == interfaces_.end()) {
    if (interfaces_.size() == max_interfaces) return {};
    interface = interfaces_.emplace(key, static_cast<std::uint32_t>(interfaces_.size())).first;
    Block block(interface_description);
    block.u16(static_cast<std::uint16_t>(packet.linktype));
    block.u16(0);
    block.u32(0);  // snap length: none
    block.option(if_name, name_of(key));
    block.option(if_tsresol, std::string_view("\x09", 1));  // 10^-9 s
    block.end_of_options();
    out = block.finish();
  }
  Block block(enhanced_packet);
  block.u32(interface->second);
  block.u32(static_cast<std::uint32_t>(packet.realtime_ns >> 32));
  block.u32(static_cast<std::uint32_t>(packet.realtime_ns));
  block.u32(static_cast<std::uint32_t>(packet.bytes.size()));
  block.u32(packet.original_bytes);
  block.bytes(packet.bytes);
  const std::uint32_t direction = packet.outbound ? 2 : 1;  // epb_flags bits 0-1: 01 inbound, 10 outbound
  block.option(epb_flags, std::as_bytes(std::span(&direction, 1)));
  block.end_of_options();
  const auto made = block.finish();
  out.insert(out.end(), made.begin(), made.end());
  return out;
}

}  // namespace postern::cli
