#include "crypto/block_mac.hpp"

#include <algorithm>
#include <cstring>

#include "base/secret.hpp"

namespace postern::crypto {
namespace {

using Block = std::array<std::byte, block_mac_bytes>;
constexpr Block zeros{};

Block filled(std::uint8_t value) {
  Block out;
  out.fill(std::byte{value});
  return out;
}

// One block, by CBC from an IV of zeros.
bool encrypt(OpenSslCipher& aes_cbc, Bytes key, const Block& in, Block& out) {
  return aes_cbc.start(key.data(), zeros.data()) && aes_cbc.process(out.data(), in.data(), in.size());
}

// RFC 4493 §2.3: the product with x in GF(2^128), without a branch on the key.
void double_block(const Block& in, Block& out) {
  const unsigned carry = std::to_integer<unsigned>(in[0]) >> 7;
  for (std::size_t i = 0; i + 1 < in.size(); ++i) out[i] = in[i] << 1 | in[i + 1] >> 7;
  out.back() = in.back() << 1 ^ static_cast<std::byte>(0x87U & (0U - carry));
}

// RFC 3566 §4 (1).
bool expand_xcbc(OpenSslCipher& aes_cbc, Bytes key, BlockMacKey& out) {
  return encrypt(aes_cbc, key, filled(1), out.cipher) && encrypt(aes_cbc, key, filled(2), out.whole) &&
         encrypt(aes_cbc, key, filled(3), out.part);
}

// RFC 4493 §2.3.
bool expand_cmac(OpenSslCipher& aes_cbc, Bytes key, BlockMacKey& out) {
  Block l;
  if (!encrypt(aes_cbc, key, zeros, l)) return false;
  std::ranges::copy(key, out.cipher.begin());
  double_block(l, out.whole);
  double_block(out.whole, out.part);
  wipe(l);
  return true;
}

// Blocks go to the cipher as they fill up; the last, whole or not, stays behind.
class Chain {
 public:
  explicit Chain(OpenSslCipher& aes_cbc) : aes_cbc_(aes_cbc) {}

  bool add(Bytes in) {
    if (in.empty()) return true;
    if (held_ < last_.size()) hold(in, std::min(in.size(), last_.size() - held_));
    if (in.empty()) return true;
    if (!encrypt_last()) return false;
    while (in.size() > last_.size()) {
      const std::size_t size = std::min(scratch_.size(), (in.size() - 1) / last_.size() * last_.size());
      if (!aes_cbc_.process(scratch_.data(), in.data(), size)) return false;
      in = in.subspan(size);
    }
    hold(in, in.size());
    return true;
  }

  bool finish(const BlockMacKey& key, std::byte* out) {
    const bool whole = held_ == last_.size();
    if (!whole) {
      last_[held_] = std::byte{0x80};
      std::fill(last_.begin() + static_cast<std::ptrdiff_t>(held_) + 1, last_.end(), std::byte{0});
    }
    const Block& with = whole ? key.whole : key.part;
    for (std::size_t i = 0; i < last_.size(); ++i) last_[i] ^= with[i];
    return aes_cbc_.process(out, last_.data(), last_.size());
  }

 private:
  void hold(Bytes& in, std::size_t size) {
    std::memcpy(last_.data() + held_, in.data(), size);
    held_ += size;
    in = in.subspan(size);
  }
  bool encrypt_last() {
    held_ = 0;
    return aes_cbc_.process(scratch_.data(), last_.data(), last_.size());
  }

  OpenSslCipher& aes_cbc_;
  Block last_;
  std::size_t held_ = 0;
  std::array<std::byte, 1024> scratch_;  // what CBC gives on the way is nobody's business
};

}  // namespace

Result<void> expand_block_mac(Integrity integrity, Bytes key, BlockMacKey& out) {
  POSTERN_TRY(aes_cbc, OpenSslCipher::create(Cipher::aes_cbc, 128, OpenSslCipher::Direction::encrypt));
  const bool done =
      integrity == Integrity::aes_xcbc_96 ? expand_xcbc(aes_cbc, key, out) : expand_cmac(aes_cbc, key, out);
  aes_cbc.forget();
  return done ? Result<void>() : fail("OpenSSL refused an AES key");
}

bool block_mac(OpenSslCipher& aes_cbc, const BlockMacKey& key, std::span<const Bytes> parts, std::byte* out) {
  if (!aes_cbc.start(key.cipher.data(), zeros.data())) return false;
  Chain chain(aes_cbc);
  for (const Bytes part : parts)
    if (!chain.add(part)) return false;
  return chain.finish(key, out);
}

Result<LockedBlockMac> LockedBlockMac::create(Integrity integrity, Bytes key) {
  if (key.size() != block_mac_bytes) return fail("a key of AES-128 has 16 bytes");
  Secret memory(sizeof(BlockMacKey));
  POSTERN_CHECK(expand_block_mac(integrity, key, *new (memory.mutable_bytes().data()) BlockMacKey));
  POSTERN_TRY(aes_cbc, OpenSslCipher::create(Cipher::aes_cbc, 128, OpenSslCipher::Direction::encrypt));
  return LockedBlockMac(std::move(memory), std::move(aes_cbc));
}

bool LockedBlockMac::mac(std::span<const Bytes> parts, std::byte* out) {
  const auto& key = *std::launder(reinterpret_cast<const BlockMacKey*>(memory_.bytes().data()));
  const bool done = block_mac(aes_cbc_, key, parts, out);
  aes_cbc_.forget();
  return done;
}

}  // namespace postern::crypto
