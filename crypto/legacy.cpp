#include "crypto/legacy.hpp"

#include <bit>
#include <cstring>
#include <memory>

#include <openssl/evp.h>

#include "base/secret.hpp"

namespace postern::crypto {
namespace {

// --- MD4 (RFC 1320 §3). Words are little-endian.

constexpr std::size_t md4_block_bytes = 64;
using Md4State = std::array<std::uint32_t, 4>;

constexpr std::uint32_t choose(std::uint32_t x, std::uint32_t y, std::uint32_t z) { return (x & y) | (~x & z); }
constexpr std::uint32_t majority(std::uint32_t x, std::uint32_t y, std::uint32_t z) {
  return (x & y) | (x & z) | (y & z);
}
constexpr std::uint32_t parity(std::uint32_t x, std::uint32_t y, std::uint32_t z) { return x ^ y ^ z; }

struct Md4Round {
  std::uint32_t (*mix)(std::uint32_t, std::uint32_t, std::uint32_t);
  std::uint32_t add;
  std::array<int, 4> shifts;
  std::array<std::uint8_t, 16> order;
};
constexpr std::array<Md4Round, 3> md4_rounds = {{
    {choose, 0, {3, 7, 11, 19}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}},
    {majority, 0x5a827999, {3, 5, 9, 13}, {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15}},
    {parity, 0x6ed9eba1, {3, 9, 11, 15}, {0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15}},
}};

void md4_block(Md4State& state, const std::byte* block) {
  std::array<std::uint32_t, 16> words;
  std::memcpy(words.data(), block, md4_block_bytes);
  Md4State s = state;
  for (const Md4Round& round : md4_rounds)
    for (std::size_t i = 0; i < 16; ++i) {
      const std::uint32_t sum = s[0] + round.mix(s[1], s[2], s[3]) + words[round.order[i]] + round.add;
      s = {s[3], std::rotl(sum, round.shifts[i % 4]), s[1], s[2]};
    }
  for (std::size_t i = 0; i < s.size(); ++i) state[i] += s[i];
  wipe(std::as_writable_bytes(std::span(words)));
}

// --- DES

struct FreeDesContext {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
struct FreeDesCipher {
  void operator()(EVP_CIPHER* cipher) const { EVP_CIPHER_free(cipher); }
};

// Seven bits a byte, and odd parity in the last, which DES does not look at.
std::array<std::byte, 8> with_parity(std::span<const std::byte, des_key_bytes> key) {
  std::uint64_t bits = 0;
  for (const std::byte one : key) bits = bits << 8 | std::to_integer<std::uint64_t>(one);
  std::array<std::byte, 8> out;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto seven = static_cast<std::uint8_t>((bits >> (49 - 7 * i) & 0x7f) << 1);
    out[i] = static_cast<std::byte>(seven | (std::popcount(seven) % 2 == 0 ? 1 : 0));
  }
  return out;
}

const unsigned char* des_octets(const std::byte* p) { return reinterpret_cast<const unsigned char*>(p); }

}  // namespace

std::array<std::byte, md4_bytes> md4(Bytes message) {
  Md4State state = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
  const std::uint64_t bits = std::uint64_t{message.size()} * 8;
  while (message.size() >= md4_block_bytes) {
    md4_block(state, message.data());
    message = message.subspan(md4_block_bytes);
  }
  std::array<std::byte, 2 * md4_block_bytes> last{};
  if (!message.empty()) std::memcpy(last.data(), message.data(), message.size());
  last[message.size()] = std::byte{0x80};
  const std::size_t whole = message.size() + 1 + sizeof bits <= md4_block_bytes ? md4_block_bytes : last.size();
  std::memcpy(last.data() + whole - sizeof bits, &bits, sizeof bits);
  for (std::size_t at = 0; at < whole; at += md4_block_bytes) md4_block(state, last.data() + at);
  wipe(last);
  std::array<std::byte, md4_bytes> out;
  std::memcpy(out.data(), state.data(), out.size());
  return out;
}

// Three DES with three equal keys is one.
Result<std::array<std::byte, des_block_bytes>> des_encrypt(std::span<const std::byte, des_key_bytes> key,
                                                           std::span<const std::byte, des_block_bytes> clear) {
  const std::unique_ptr<EVP_CIPHER, FreeDesCipher> algorithm(EVP_CIPHER_fetch(nullptr, "DES-EDE3-ECB", nullptr));
  const std::unique_ptr<EVP_CIPHER_CTX, FreeDesContext> context(EVP_CIPHER_CTX_new());
  auto one = with_parity(key);
  std::array<std::byte, 24> thrice;
  for (std::size_t i = 0; i < thrice.size(); ++i) thrice[i] = one[i % one.size()];
  std::array<std::byte, des_block_bytes> out{};
  int size = 0;
  const bool good =
      algorithm && context &&
      EVP_CipherInit_ex2(context.get(), algorithm.get(), des_octets(thrice.data()), nullptr, 1, nullptr) == 1 &&
      EVP_CIPHER_CTX_set_padding(context.get(), 0) == 1 &&
      EVP_CipherUpdate(context.get(), reinterpret_cast<unsigned char*>(out.data()), &size, des_octets(clear.data()),
                       static_cast<int>(clear.size())) == 1 &&
      size == static_cast<int>(out.size());
  wipe(thrice);
  wipe(one);
  if (!good) return fail("OpenSSL cannot encrypt by DES");
  return out;
}

}  // namespace postern::crypto
