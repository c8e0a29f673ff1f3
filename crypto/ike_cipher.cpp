#include "crypto/ike_cipher.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "base/registers.hpp"
#include "base/secret.hpp"
#include "crypto/block_mac.hpp"
#include "crypto/ccm.hpp"
#include "crypto/hmac.hpp"
#include "crypto/openssl_cipher.hpp"
#include "crypto/random.hpp"
#include "crypto/transforms.hpp"

namespace postern::crypto {
namespace {

constexpr std::size_t max_plain_bytes = 65535;

Error no_cipher() { return {"OpenSSL refused an IKE message", 0}; }

}  // namespace

Result<TransformSizes> ike_sizes_of(const Transform& transform) {
  const NamedTransform* const row = find_cipher(transform.cipher, transform.key_bits);
  if (row == nullptr || row->ike_word.empty()) return fail("not a cipher of IKE");
  POSTERN_TRY(sizes, sizes_of(transform));
  if (transform.integrity != Integrity::none && find_integrity(transform.integrity)->ike_word.empty())
    return fail("not an authenticator of IKE");
  if (iv_must_not_repeat(transform.cipher)) sizes.block_bytes = 1;  // RFC 5282 §3, RFC 5930 §2.2: no alignment
  return sizes;
}

struct IkeCipher::Implementation {
  Transform transform;
  TransformSizes sizes;
  Secret cipher_key;  // an AEAD's without its salt
  Secret salt;
  std::optional<Hash> hash;
  std::optional<LockedHmacKey> hmac_key;
  std::unique_ptr<LockedBlockMac> block_mac_key;
  // RFC 5282 §3.1, RFC 5930 §2.1: unique for a key. It begins at random, so that two objects with one key do not meet
  // either.
  std::uint64_t next_iv = 0;

  using Out = std::vector<std::byte>;
  using Nonce = std::array<std::byte, 16>;

  [[nodiscard]] Result<void> crypt(OpenSslCipher::Direction direction, Bytes header, Bytes iv, MutableBytes text,
                                   MutableBytes icv) const;
  [[nodiscard]] Result<void> crypt_ccm(OpenSslCipher::Direction direction, Bytes header, Bytes iv, MutableBytes text,
                                       MutableBytes icv) const;
  [[nodiscard]] bool authenticates() const { return hash.has_value() || block_mac_key != nullptr; }
  [[nodiscard]] Result<void> authenticate(Bytes header, Bytes body, std::byte* digest) const;
  [[nodiscard]] Result<void> write_iv(MutableBytes iv);
  [[nodiscard]] Result<void> verify(Bytes header, Bytes body) const;
};

// `text` in place. An AEAD's ICV is written, or compared.
Result<void> IkeCipher::Implementation::crypt(OpenSslCipher::Direction direction, Bytes header, Bytes iv,
                                              MutableBytes text, MutableBytes icv) const {
  if (is_ccm(transform.cipher)) return crypt_ccm(direction, header, iv, text, icv);
  POSTERN_TRY(cipher, OpenSslCipher::create(transform.cipher, transform.key_bits, direction));
  const bool aead = is_aead(transform.cipher);
  Nonce nonce{};  // RFC 5282 §4: salt | IV; RFC 5930 §2.1: and the block's number; CBC: the IV
  std::ranges::copy(salt.bytes(), nonce.begin());
  std::memcpy(nonce.data() + salt.size(), iv.data(), iv.size());
  if (transform.cipher == Cipher::aes_ctr) nonce.back() = std::byte{1};
  bool good = cipher.start(cipher_key.bytes().data(), nonce.data());
  if (aead) good = good && cipher.process(nullptr, header.data(), header.size());
  good = good && cipher.process(text.data(), text.data(), text.size());
  if (aead && direction == OpenSslCipher::Direction::encrypt)
    good = good && cipher.finish() && cipher.get_tag(icv.data(), icv.size());
  else if (aead)
    good = good && cipher.expect_tag(icv.data(), icv.size()) && cipher.finish();
  cipher.forget();
  clear_vector_registers();
  if (good) return {};
  if (aead && direction == OpenSslCipher::Direction::decrypt) return fail("the integrity check failed");
  return std::unexpected(no_cipher());
}

Result<void> IkeCipher::Implementation::crypt_ccm(OpenSslCipher::Direction direction, Bytes header, Bytes iv,
                                                  MutableBytes text, MutableBytes icv) const {
  const auto encrypt = OpenSslCipher::Direction::encrypt;
  POSTERN_TRY(cbc, OpenSslCipher::create(Cipher::aes_cbc, transform.key_bits, encrypt));
  POSTERN_TRY(ctr, OpenSslCipher::create(Cipher::aes_ctr, transform.key_bits, encrypt));
  std::array<std::byte, ccm_nonce_bytes> nonce{};
  std::ranges::copy(salt.bytes(), nonce.begin());
  std::memcpy(nonce.data() + salt.size(), iv.data(), iv.size());
  const CcmPacket packet{cipher_key.bytes().data(), nonce.data(), header, text, sizes.icv_bytes};
  std::array<std::byte, ccm_tag_bytes> tag;
  const bool done =
      direction == encrypt ? ccm_seal(cbc, ctr, packet, tag.data()) : ccm_open(cbc, ctr, packet, tag.data());
  cbc.forget();
  ctr.forget();
  clear_vector_registers();
  if (!done) return std::unexpected(no_cipher());
  const Bytes made = Bytes(tag).first(icv.size());
  if (direction == encrypt)
    std::ranges::copy(made, icv.begin());
  else if (!equal_in_constant_time(made, icv))
    return fail("the integrity check failed");
  return {};
}

// RFC 7296 §3.14: from the first byte of the header through the padding.
Result<void> IkeCipher::Implementation::authenticate(Bytes header, Bytes body, std::byte* digest) const {
  const std::array<Bytes, 2> covered = {header, body};
  if (hash)
    hmac(*hash, hmac_key->get(), covered, digest);
  else if (!block_mac_key->mac(covered, digest))
    return std::unexpected(no_cipher());
  clear_vector_registers();
  return {};
}

Result<void> IkeCipher::Implementation::write_iv(MutableBytes iv) {
  if (!iv_must_not_repeat(transform.cipher)) return random_bytes(iv);  // RFC 7296 §3.14: unpredictable
  std::uint64_t value = next_iv++;
  for (std::size_t i = iv.size(); i-- > 0; value >>= 8) iv[i] = static_cast<std::byte>(value);
  return {};
}

Result<void> IkeCipher::Implementation::verify(Bytes header, Bytes body) const {
  std::array<std::byte, max_digest_bytes> digest;
  const std::size_t covered = body.size() - sizes.icv_bytes;
  POSTERN_CHECK(authenticate(header, body.first(covered), digest.data()));
  if (!equal_in_constant_time(body.subspan(covered), Bytes(digest).first(sizes.icv_bytes)))
    return fail("the integrity check failed");
  return {};
}

Result<IkeCipher> IkeCipher::create(const Transform& transform, Bytes cipher_key, Bytes integrity_key) {
  POSTERN_TRY(sizes, ike_sizes_of(transform));
  if (cipher_key.size() != sizes.key_bytes || integrity_key.size() != sizes.integrity_key_bytes)
    return fail("IKE keys of " + std::to_string(cipher_key.size()) + " and " + std::to_string(integrity_key.size()) +
                " bytes; the transform takes " + std::to_string(sizes.key_bytes) + " and " +
                std::to_string(sizes.integrity_key_bytes));
  auto implementation = std::make_unique<Implementation>();
  implementation->transform = transform;
  implementation->sizes = sizes;
  const std::size_t salt = sizes.salt_bytes;
  implementation->cipher_key = Secret::copy_of(cipher_key.first(cipher_key.size() - salt));
  implementation->salt = Secret::copy_of(cipher_key.last(salt));
  implementation->hash = hash_of(transform.integrity);
  if (implementation->hash) implementation->hmac_key.emplace(*implementation->hash, integrity_key);
  if (is_block_mac(transform.integrity)) {
    POSTERN_TRY(mac, LockedBlockMac::create(transform.integrity, integrity_key));
    implementation->block_mac_key = std::make_unique<LockedBlockMac>(std::move(mac));
  }
  POSTERN_CHECK(random_bytes(std::as_writable_bytes(std::span(&implementation->next_iv, 1))));
  return IkeCipher(sizes, std::move(implementation));
}

IkeCipher::IkeCipher(const TransformSizes& sizes, std::unique_ptr<Implementation> implementation)
    : sizes_(sizes), implementation_(std::move(implementation)) {}
IkeCipher::IkeCipher(IkeCipher&&) noexcept = default;
IkeCipher& IkeCipher::operator=(IkeCipher&&) noexcept = default;
IkeCipher::~IkeCipher() = default;

std::size_t IkeCipher::sealed_bytes(std::size_t plain) const {
  const std::size_t blocks = (plain + sizes_.block_bytes) / sizes_.block_bytes;  // with the pad length byte
  return sizes_.iv_bytes + blocks * sizes_.block_bytes + sizes_.icv_bytes;
}

Result<std::vector<std::byte>> IkeCipher::seal(Bytes header, Bytes plain) {
  if (plain.size() > max_plain_bytes) return fail("an IKE message of " + std::to_string(plain.size()) + " bytes");
  std::vector<std::byte> out(sealed_bytes(plain.size()));
  const std::size_t text_bytes = out.size() - sizes_.iv_bytes - sizes_.icv_bytes;
  const MutableBytes iv = MutableBytes(out).first(sizes_.iv_bytes);
  const MutableBytes text = MutableBytes(out).subspan(sizes_.iv_bytes, text_bytes);
  const MutableBytes icv = MutableBytes(out).last(sizes_.icv_bytes);
  std::ranges::copy(plain, text.begin());
  text.back() = static_cast<std::byte>(text_bytes - plain.size() - 1);
  POSTERN_CHECK(implementation_->write_iv(iv));
  POSTERN_CHECK(implementation_->crypt(OpenSslCipher::Direction::encrypt, header, iv, text, icv));
  if (implementation_->authenticates()) {
    std::array<std::byte, max_digest_bytes> digest;
    POSTERN_CHECK(
        implementation_->authenticate(header, Bytes(out).first(out.size() - sizes_.icv_bytes), digest.data()));
    std::ranges::copy(Bytes(digest).first(sizes_.icv_bytes), icv.begin());
  }
  return out;
}

Result<std::vector<std::byte>> IkeCipher::open(Bytes header, Bytes body) const {
  const std::size_t around = std::size_t{sizes_.iv_bytes} + sizes_.icv_bytes;
  if (body.size() < around + sizes_.block_bytes || body.size() > max_plain_bytes ||
      (body.size() - around) % sizes_.block_bytes != 0)
    return fail("an Encrypted payload of " + std::to_string(body.size()) + " bytes");
  if (implementation_->authenticates()) POSTERN_CHECK(implementation_->verify(header, body));
  const Bytes text = body.subspan(sizes_.iv_bytes, body.size() - around);
  std::vector<std::byte> plain(text.begin(), text.end());
  std::array<std::byte, max_digest_bytes> icv;
  std::ranges::copy(body.last(sizes_.icv_bytes), icv.begin());
  POSTERN_CHECK(implementation_->crypt(OpenSslCipher::Direction::decrypt, header, body.first(sizes_.iv_bytes), plain,
                                       MutableBytes(icv).first(sizes_.icv_bytes)));
  const std::size_t padding = std::to_integer<std::size_t>(plain.back()) + 1;
  if (padding > plain.size()) return fail("the padding is longer than the Encrypted payload");
  plain.resize(plain.size() - padding);
  return plain;
}

}  // namespace postern::crypto
