#include "crypto/ccm.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace postern::crypto {
namespace {

constexpr std::size_t block_bytes = 16;
using Block = std::array<std::byte, block_bytes>;
constexpr Block zeros{};
constexpr std::uint8_t length_bytes = 4;  // RFC 4309 §4: L

// RFC 3610 §2.3: A_0, the counter zero.
Block first_counter(const CcmPacket& packet) {
  Block out{};
  out[0] = std::byte{length_bytes - 1};
  std::memcpy(out.data() + 1, packet.nonce, ccm_nonce_bytes);
  return out;
}

// RFC 3610 §2.2: B_0.
Block first_block(const CcmPacket& packet) {
  Block out = first_counter(packet);
  out[0] = static_cast<std::byte>(0x40U | (packet.icv_bytes - 2) / 2 << 3 | (length_bytes - 1U));
  const std::uint32_t length = __builtin_bswap32(static_cast<std::uint32_t>(packet.text.size()));
  std::memcpy(out.data() + 1 + ccm_nonce_bytes, &length, sizeof length);
  return out;
}

// §2.2: the length in two bytes, and the data, in whole blocks.
bool mac_of_aad(OpenSslCipher& cbc, Bytes aad, Block& mac) {
  Block block{};
  block[0] = static_cast<std::byte>(aad.size() >> 8);
  block[1] = static_cast<std::byte>(aad.size());
  for (std::size_t at = 2;; at = 0) {
    const std::size_t size = std::min(block_bytes - at, aad.size());
    std::memcpy(block.data() + at, aad.data(), size);
    aad = aad.subspan(size);
    if (!cbc.process(mac.data(), block.data(), block_bytes)) return false;
    if (aad.empty()) return true;
    block = {};
  }
}

// What CBC gives last is the MAC.
bool cbc_mac(OpenSslCipher& cbc, const CcmPacket& packet, Block& mac) {
  const Block b0 = first_block(packet);
  if (!cbc.start(packet.key, zeros.data()) || !cbc.process(mac.data(), b0.data(), block_bytes) ||
      !mac_of_aad(cbc, packet.aad, mac))
    return false;
  std::array<std::byte, 1024> scratch;
  Bytes rest = packet.text;
  while (rest.size() >= block_bytes) {
    const std::size_t size = std::min(scratch.size(), rest.size() / block_bytes * block_bytes);
    if (!cbc.process(scratch.data(), rest.data(), size)) return false;
    std::memcpy(mac.data(), scratch.data() + size - block_bytes, block_bytes);
    rest = rest.subspan(size);
  }
  if (rest.empty()) return true;
  Block last{};
  std::ranges::copy(rest, last.begin());
  return cbc.process(mac.data(), last.data(), block_bytes);
}

// The key stream of A_0 covers the MAC, that of A_1, A_2, ... the text.
bool crypt(OpenSslCipher& ctr, const CcmPacket& packet, Block& s0) {
  const Block a0 = first_counter(packet);
  return ctr.start(packet.key, a0.data()) && ctr.process(s0.data(), zeros.data(), block_bytes) &&
         ctr.process(packet.text.data(), packet.text.data(), packet.text.size());
}

void cover(const Block& mac, const Block& s0, std::byte* tag) {
  for (std::size_t i = 0; i < block_bytes; ++i) tag[i] = mac[i] ^ s0[i];
}

}  // namespace

bool ccm_seal(OpenSslCipher& cbc, OpenSslCipher& ctr, const CcmPacket& packet, std::byte* tag) {
  Block mac, s0;
  if (!cbc_mac(cbc, packet, mac) || !crypt(ctr, packet, s0)) return false;
  cover(mac, s0, tag);
  return true;
}

bool ccm_open(OpenSslCipher& cbc, OpenSslCipher& ctr, const CcmPacket& packet, std::byte* tag) {
  Block mac, s0;
  if (!crypt(ctr, packet, s0) || !cbc_mac(cbc, packet, mac)) return false;
  cover(mac, s0, tag);
  return true;
}

}  // namespace postern::crypto
