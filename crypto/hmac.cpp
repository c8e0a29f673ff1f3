// OpenSSL's SHA and MD5 contexts are used directly, though declared deprecated: they are plain structs, so a keyed
// state is copied with no allocation, which EVP_MAC_init() and EVP_MD_CTX_copy_ex() of 3.0 make for every packet.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "crypto/hmac.hpp"

#include <cstring>

#include <openssl/md5.h>
#include <openssl/sha.h>

namespace postern::crypto {
namespace {

unsigned char* digest_octets(std::byte* p) { return reinterpret_cast<unsigned char*>(p); }

struct Sha1 {
  using Context = SHA_CTX;
  static constexpr std::size_t block = SHA_CBLOCK, digest = SHA_DIGEST_LENGTH;
  static void start(Context& c) { SHA1_Init(&c); }
  static void update(Context& c, Bytes in) { SHA1_Update(&c, in.data(), in.size()); }
  static void finish(Context& c, std::byte* out) { SHA1_Final(digest_octets(out), &c); }
  static void load(Context& c, const std::byte* in) {
    std::array<std::uint32_t, 5> h;
    std::memcpy(h.data(), in, sizeof h);
    c.h0 = h[0], c.h1 = h[1], c.h2 = h[2], c.h3 = h[3], c.h4 = h[4];
  }
  static void store(const Context& c, std::byte* out) {
    const std::array<std::uint32_t, 5> h = {c.h0, c.h1, c.h2, c.h3, c.h4};
    std::memcpy(out, h.data(), sizeof h);
  }
};

struct Sha256 {
  using Context = SHA256_CTX;
  static constexpr std::size_t block = SHA256_CBLOCK, digest = SHA256_DIGEST_LENGTH;
  static void start(Context& c) { SHA256_Init(&c); }
  static void update(Context& c, Bytes in) { SHA256_Update(&c, in.data(), in.size()); }
  static void finish(Context& c, std::byte* out) { SHA256_Final(digest_octets(out), &c); }
  static void load(Context& c, const std::byte* in) { std::memcpy(c.h, in, sizeof c.h); }
  static void store(const Context& c, std::byte* out) { std::memcpy(out, c.h, sizeof c.h); }
};

struct Sha512 {
  using Context = SHA512_CTX;
  static constexpr std::size_t block = SHA512_CBLOCK, digest = SHA512_DIGEST_LENGTH;
  static void start(Context& c) { SHA512_Init(&c); }
  static void update(Context& c, Bytes in) { SHA512_Update(&c, in.data(), in.size()); }
  static void finish(Context& c, std::byte* out) { SHA512_Final(digest_octets(out), &c); }
  static void load(Context& c, const std::byte* in) { std::memcpy(c.h, in, sizeof c.h); }
  static void store(const Context& c, std::byte* out) { std::memcpy(out, c.h, sizeof c.h); }
};

struct Sha384 : Sha512 {
  static constexpr std::size_t digest = SHA384_DIGEST_LENGTH;
  static void start(Context& c) { SHA384_Init(&c); }
  static void update(Context& c, Bytes in) { SHA384_Update(&c, in.data(), in.size()); }
  static void finish(Context& c, std::byte* out) { SHA384_Final(digest_octets(out), &c); }
};

struct Md5 {
  using Context = MD5_CTX;
  static constexpr std::size_t block = MD5_CBLOCK, digest = MD5_DIGEST_LENGTH;
  static void start(Context& c) { MD5_Init(&c); }
  static void update(Context& c, Bytes in) { MD5_Update(&c, in.data(), in.size()); }
  static void finish(Context& c, std::byte* out) { MD5_Final(digest_octets(out), &c); }
  static void load(Context& c, const std::byte* in) {
    std::array<std::uint32_t, 4> h;
    std::memcpy(h.data(), in, sizeof h);
    c.A = h[0], c.B = h[1], c.C = h[2], c.D = h[3];
  }
  static void store(const Context& c, std::byte* out) {
    const std::array<std::uint32_t, 4> h = {c.A, c.B, c.C, c.D};
    std::memcpy(out, h.data(), sizeof h);
  }
};

template <class Algorithm>
void absorb(Bytes key, std::uint8_t pad, std::byte* out) {
  std::array<std::byte, Algorithm::block> block;
  block.fill(std::byte{pad});
  for (std::size_t i = 0; i < key.size(); ++i) block[i] ^= key[i];
  typename Algorithm::Context context;
  Algorithm::start(context);
  Algorithm::update(context, block);
  Algorithm::store(context, out);
  wipe(block);
  wipe(std::as_writable_bytes(std::span(&context, 1)));
}

template <class Algorithm>
void expand(Bytes key, HmacKey& out) {
  std::array<std::byte, Algorithm::digest> hashed;
  if (key.size() > Algorithm::block) {
    typename Algorithm::Context context;
    Algorithm::start(context);
    Algorithm::update(context, key);
    Algorithm::finish(context, hashed.data());
    wipe(std::as_writable_bytes(std::span(&context, 1)));
    key = hashed;
  }
  absorb<Algorithm>(key, 0x36, out.inner.data());
  absorb<Algorithm>(key, 0x5c, out.outer.data());
  wipe(hashed);
}

template <class Algorithm>
void resume(typename Algorithm::Context& context, const std::byte* state) {
  Algorithm::start(context);
  Algorithm::load(context, state);
  context.Nl = Algorithm::block * 8;  // one block has been hashed
}

template <class Algorithm>
void authenticate(const HmacKey& key, std::span<const Bytes> parts, std::byte* out) {
  typename Algorithm::Context context;
  resume<Algorithm>(context, key.inner.data());
  for (const Bytes part : parts) Algorithm::update(context, part);
  Algorithm::finish(context, out);
  resume<Algorithm>(context, key.outer.data());
  Algorithm::update(context, {out, Algorithm::digest});
  Algorithm::finish(context, out);
  wipe(std::as_writable_bytes(std::span(&context, 1)));  // a PRF's output is a key
}

}  // namespace

std::size_t digest_bytes(Hash hash) {
  switch (hash) {
    case Hash::sha1: return Sha1::digest;
    case Hash::sha256: return Sha256::digest;
    case Hash::sha384: return Sha384::digest;
    case Hash::md5: return Md5::digest;
    case Hash::sha512: break;
  }
  return Sha512::digest;
}

std::optional<Hash> hash_of(Integrity integrity) {
  switch (integrity) {
    case Integrity::hmac_sha1_96: return Hash::sha1;
    case Integrity::hmac_sha256_128: return Hash::sha256;
    case Integrity::hmac_sha384_192: return Hash::sha384;
    case Integrity::hmac_sha512_256: return Hash::sha512;
    case Integrity::hmac_md5_96: return Hash::md5;
    case Integrity::aes_xcbc_96:
    case Integrity::aes_cmac_96:
    case Integrity::none: break;
  }
  return std::nullopt;
}

void expand_hmac(Hash hash, Bytes key, HmacKey& out) {
  switch (hash) {
    case Hash::sha1: return expand<Sha1>(key, out);
    case Hash::sha256: return expand<Sha256>(key, out);
    case Hash::sha384: return expand<Sha384>(key, out);
    case Hash::sha512: return expand<Sha512>(key, out);
    case Hash::md5: return expand<Md5>(key, out);
  }
}

void hmac(Hash hash, const HmacKey& key, std::span<const Bytes> parts, std::byte* out) {
  switch (hash) {
    case Hash::sha1: return authenticate<Sha1>(key, parts, out);
    case Hash::sha256: return authenticate<Sha256>(key, parts, out);
    case Hash::sha384: return authenticate<Sha384>(key, parts, out);
    case Hash::sha512: return authenticate<Sha512>(key, parts, out);
    case Hash::md5: return authenticate<Md5>(key, parts, out);
  }
}

}  // namespace postern::crypto
