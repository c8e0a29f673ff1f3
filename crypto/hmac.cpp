// OpenSSL's SHA contexts are used directly, though declared deprecated: they are plain structs, so a keyed state is
// copied with no allocation, which EVP_MAC_init() and EVP_MD_CTX_copy_ex() of 3.0 make for every packet.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "crypto/hmac.hpp"

#include <cstring>

#include <openssl/sha.h>

namespace postern::crypto {
namespace {

struct Sha1 {
  using Context = SHA_CTX;
  static constexpr std::size_t words = 5;
  static void start(Context& c) { SHA1_Init(&c); }
  static void update(Context& c, const void* data, std::size_t size) { SHA1_Update(&c, data, size); }
  static void finish(Context& c, std::byte* out) { SHA1_Final(reinterpret_cast<unsigned char*>(out), &c); }
  static void load(Context& c, const std::uint32_t* in) {
    c.h0 = in[0], c.h1 = in[1], c.h2 = in[2], c.h3 = in[3], c.h4 = in[4];
  }
  static void store(const Context& c, std::uint32_t* out) {
    out[0] = c.h0, out[1] = c.h1, out[2] = c.h2, out[3] = c.h3, out[4] = c.h4;
  }
};

struct Sha256 {
  using Context = SHA256_CTX;
  static constexpr std::size_t words = 8;
  static void start(Context& c) { SHA256_Init(&c); }
  static void update(Context& c, const void* data, std::size_t size) { SHA256_Update(&c, data, size); }
  static void finish(Context& c, std::byte* out) { SHA256_Final(reinterpret_cast<unsigned char*>(out), &c); }
  static void load(Context& c, const std::uint32_t* in) { std::memcpy(c.h, in, sizeof c.h); }
  static void store(const Context& c, std::uint32_t* out) { std::memcpy(out, c.h, sizeof c.h); }
};

template <class Hash>
void absorb(Bytes key, std::uint8_t pad, std::uint32_t* out) {
  std::array<std::uint8_t, hmac_block_bytes> block;
  block.fill(pad);
  for (std::size_t i = 0; i < key.size(); ++i) block[i] ^= std::to_integer<std::uint8_t>(key[i]);
  typename Hash::Context context;
  Hash::start(context);
  Hash::update(context, block.data(), block.size());
  Hash::store(context, out);
  wipe(std::as_writable_bytes(std::span(block)));
  wipe(std::as_writable_bytes(std::span(&context, 1)));
}

template <class Hash>
void resume(typename Hash::Context& context, const std::array<std::uint32_t, 8>& state) {
  Hash::start(context);
  Hash::load(context, state.data());
  context.Nl = hmac_block_bytes * 8;  // one block has been hashed
}

template <class Hash>
void digest(const HmacKey& key, Bytes data, std::byte* out) {
  typename Hash::Context context;
  resume<Hash>(context, key.inner);
  Hash::update(context, data.data(), data.size());
  Hash::finish(context, out);
  resume<Hash>(context, key.outer);
  Hash::update(context, out, Hash::words * sizeof(std::uint32_t));
  Hash::finish(context, out);
}

}  // namespace

Result<void> expand_hmac(Integrity integrity, Bytes key, HmacKey& out) {
  if (key.size() > hmac_block_bytes) return fail("an HMAC key longer than the hash's block");
  switch (integrity) {
    case Integrity::hmac_sha1_96:
      absorb<Sha1>(key, 0x36, out.inner.data());
      absorb<Sha1>(key, 0x5c, out.outer.data());
      return {};
    case Integrity::hmac_sha256_128:
      absorb<Sha256>(key, 0x36, out.inner.data());
      absorb<Sha256>(key, 0x5c, out.outer.data());
      return {};
    case Integrity::none: break;
  }
  return fail("no HMAC to expand a key for");
}

void hmac(Integrity integrity, const HmacKey& key, Bytes data, std::array<std::byte, max_digest_bytes>& out) {
  if (integrity == Integrity::hmac_sha1_96)
    digest<Sha1>(key, data, out.data());
  else
    digest<Sha256>(key, data, out.data());
}

}  // namespace postern::crypto
