#include "ike/mschapv2.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>

#include <fmt/format.h>

#include "crypto/digest.hpp"
#include "crypto/legacy.hpp"

namespace postern::ike {
namespace {

// RFC 2759 §8.7, RFC 3079 §3.4.
constexpr std::string_view signing_magic = "Magic server to client signing constant";
constexpr std::string_view iteration_magic = "Pad to make it do more than one iteration";
constexpr std::string_view master_magic = "This is the MPPE Master Key";
constexpr std::string_view client_sends_magic =
    "On the client side, this is the send key; on the server side, it is the receive key.";
constexpr std::string_view client_receives_magic =
    "On the client side, this is the receive key; on the server side, it is the send key.";
constexpr std::size_t session_key_bytes = 16, msk_bytes = 64;

constexpr std::array<std::byte, 40> filled(unsigned char with) {
  std::array<std::byte, 40> out{};
  out.fill(static_cast<std::byte>(with));
  return out;
}
constexpr auto pad1 = filled(0x00), pad2 = filled(0xf2);  // SHSpad1, SHSpad2

std::string_view without_domain(std::string_view user) {
  const auto at = user.rfind('\\');
  return at == std::string_view::npos ? user : user.substr(at + 1);
}

// §8.2.
Result<std::array<std::byte, 8>> challenge_hash(const MschapExchange& exchange) {
  POSTERN_TRY(digest, crypto::sha1({exchange.peer, exchange.authenticator, as_bytes(without_domain(exchange.user))}));
  std::array<std::byte, 8> out;
  std::memcpy(out.data(), digest.data(), out.size());
  return out;
}

// §8.4: the hash of the hash.
std::array<std::byte, crypto::md4_bytes> hash_of(const Secret& password_hash) {
  return crypto::md4(password_hash.bytes());
}

// One character of UTF-8, but NUL; nothing: it is none.
std::optional<char32_t> next_character(ByteReader& in) {
  const std::uint8_t first = in.u8();
  if (first < 0x80) return first == 0 ? std::nullopt : std::optional<char32_t>(first);
  const int more = first >= 0xf0 && first < 0xf5   ? 3
                   : first >= 0xe0 && first < 0xf0 ? 2
                                                   : first >= 0xc2 && first < 0xe0;
  if (more == 0) return std::nullopt;
  char32_t out = first & (0x3fU >> more);
  for (int i = 0; i < more; ++i) {
    const std::uint8_t next = in.u8();
    if (!in.ok() || (next & 0xc0) != 0x80) return std::nullopt;
    out = out << 6 | (next & 0x3f);
  }
  const bool overlong = (more == 2 && out < 0x800) || (more == 3 && out < 0x10000);
  return overlong || out > 0x10ffff || (out >= 0xd800 && out < 0xe000) ? std::nullopt : std::optional(out);
}

// Both directions of RFC 3079 §3.3, GetAsymmetricStartKey.
Result<Secret> start_key(const Secret& master, std::string_view magic) {
  POSTERN_TRY(digest, crypto::sha1({master.bytes(), pad1, as_bytes(magic), pad2}));
  Secret out = Secret::copy_of(Bytes(digest).first(session_key_bytes));
  wipe(digest);
  return out;
}

Result<Secret> master_key(const Secret& password_hash, const MschapResponse& response) {
  auto twice = hash_of(password_hash);
  auto digest = crypto::sha1({twice, response, as_bytes(master_magic)});
  wipe(twice);
  if (!digest) return std::unexpected(digest.error());
  Secret out = Secret::copy_of(Bytes(*digest).first(session_key_bytes));
  wipe(*digest);
  return out;
}

}  // namespace

Result<Secret> nt_password_hash(const Secret& password) {
  Secret units(2 * max_mschap_password_units);
  std::size_t size = 0;
  ByteReader in(password.bytes());
  const auto put = [&](char32_t unit) {
    units.mutable_bytes()[size++] = static_cast<std::byte>(unit & 0xff);
    units.mutable_bytes()[size++] = static_cast<std::byte>(unit >> 8);
  };
  while (in.remaining() != 0) {
    const auto character = next_character(in);
    if (!character) return fail("the password is no text in UTF-8");
    if (size + (*character < 0x10000 ? 2U : 4U) > units.size()) return fail("the password is too long");
    if (*character >= 0x10000) put(0xd800 + ((*character - 0x10000) >> 10));
    put(*character >= 0x10000 ? 0xdc00 + ((*character - 0x10000) & 0x3ff) : *character);
  }
  auto digest = crypto::md4(units.bytes().first(size));
  Secret out = Secret::copy_of(digest);
  wipe(digest);
  return out;
}

// §8.5: three keys of the hash's 16 bytes and five zeros.
Result<MschapResponse> nt_response(const MschapExchange& exchange, const Secret& password_hash) {
  if (password_hash.size() != crypto::md4_bytes) return fail("no password hash");
  POSTERN_TRY(challenge, challenge_hash(exchange));
  Secret padded(3 * crypto::des_key_bytes);
  std::ranges::fill(padded.mutable_bytes(), std::byte{0});
  std::ranges::copy(password_hash.bytes(), padded.mutable_bytes().begin());
  MschapResponse out;
  for (std::size_t i = 0; i < 3; ++i) {
    const auto key = padded.bytes().subspan(i * crypto::des_key_bytes).first<crypto::des_key_bytes>();
    POSTERN_TRY(block, crypto::des_encrypt(key, std::span<const std::byte, 8>(challenge)));
    std::memcpy(out.data() + i * block.size(), block.data(), block.size());
  }
  return out;
}

Result<std::string> authenticator_response(const MschapExchange& exchange, const Secret& password_hash,
                                           const MschapResponse& response) {
  auto twice = hash_of(password_hash);
  const auto first = crypto::sha1({twice, response, as_bytes(signing_magic)});
  wipe(twice);
  if (!first) return std::unexpected(first.error());
  POSTERN_TRY(challenge, challenge_hash(exchange));
  POSTERN_TRY(digest, crypto::sha1({*first, challenge, as_bytes(iteration_magic)}));
  std::string out = "S=";
  for (const std::byte one : digest) out += fmt::format("{:02X}", std::to_integer<unsigned>(one));
  return out;
}

Result<Secret> mschap_msk(const Secret& password_hash, const MschapResponse& response) {
  POSTERN_TRY(master, master_key(password_hash, response));
  POSTERN_TRY(receive, start_key(master, client_sends_magic));
  POSTERN_TRY(send, start_key(master, client_receives_magic));
  Secret out(msk_bytes);
  std::ranges::fill(out.mutable_bytes(), std::byte{0});
  std::ranges::copy(receive.bytes(), out.mutable_bytes().begin());
  std::ranges::copy(send.bytes(), out.mutable_bytes().begin() + session_key_bytes);
  return out;
}

}  // namespace postern::ike
