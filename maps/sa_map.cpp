#include "maps/sa_map.hpp"

#include <cstring>

namespace postern {
namespace {

postern_address to_wire(const IpAddress& address) {
  postern_address out;
  std::memcpy(out.bytes, address.mapped().data(), sizeof out.bytes);
  return out;
}

IpAddress from_wire(const postern_address& address) {
  std::array<std::uint8_t, 16> bytes;
  std::memcpy(bytes.data(), address.bytes, bytes.size());
  return IpAddress::from_mapped(bytes);
}

postern_sa_key key_of(const InboundSaEntry& entry) {
  postern_sa_key key{};
  key.vrf = entry.vrf;
  key.spi = __builtin_bswap32(static_cast<std::uint32_t>(entry.spi));
  key.destination = to_wire(entry.destination);
  key.protocol = static_cast<std::uint8_t>(entry.protocol);
  return key;
}

}  // namespace

Result<void> SaMap::insert(const InboundSaEntry& entry) const { return put(entry, BPF_NOEXIST); }
Result<void> SaMap::replace(const InboundSaEntry& entry) const { return put(entry, BPF_ANY); }

Result<void> SaMap::put(const InboundSaEntry& entry, std::uint64_t flags) const {
  if (static_cast<std::uint32_t>(entry.spi) < first_usable_spi) return fail("SPI 0..255 is reserved", EINVAL);
  postern_sa value{};
  value.slot = entry.slot;
  value.flow = entry.flow;
  value.encap_port = __builtin_bswap16(entry.encap_port);
  value.peer = to_wire(entry.peer);
  return map_->update(key_of(entry), value, flags);
}

Result<bool> SaMap::erase(const InboundSaEntry& entry) const { return map_->erase(key_of(entry)); }

Result<void> SaMap::erase_expected(const InboundSaEntry& entry) const {
  POSTERN_TRY(now, map_->lookup(key_of(entry)));
  if (now && now->slot == expected_sa) POSTERN_CHECK(erase(entry));
  return {};
}

Result<std::vector<InboundSaEntry>> SaMap::list() const {
  std::vector<InboundSaEntry> entries;
  POSTERN_TRY(keys, map_->keys());
  for (const postern_sa_key& key : keys) {
    POSTERN_TRY(value, map_->lookup(key));
    if (!value) continue;  // went away meanwhile
    entries.push_back({.vrf = key.vrf,
                       .spi = Spi{__builtin_bswap32(key.spi)},
                       .destination = from_wire(key.destination),
                       .protocol = static_cast<IpProto>(key.protocol),
                       .slot = value->slot,
                       .flow = value->flow,
                       .encap_port = __builtin_bswap16(value->encap_port),
                       .peer = from_wire(value->peer)});
  }
  return entries;
}

}  // namespace postern
