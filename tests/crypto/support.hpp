// Shared by the crypto tests: hex, packets, engines, and a reference that computes ESP by OpenSSL's EVP calls alone.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "base/bytes.hpp"
#include "crypto/packet_cipher.hpp"

namespace postern::crypto::test {

using Buffer = std::vector<std::byte>;

[[nodiscard]] Buffer from_hex(std::string_view hex);
[[nodiscard]] std::string to_hex(Bytes bytes);
[[nodiscard]] Buffer random_buffer(std::size_t size, std::mt19937_64& random);

// Every AEAD; every other cipher beside two authenticators; every authenticator beside AES-CBC and NULL.
extern const std::vector<Transform> all_transforms;
// Every combination that IKE uses for itself.
extern const std::vector<Transform> ike_transforms;

// OpenSSL always, ipsec-mb where this machine runs it.
[[nodiscard]] std::vector<EspEngine> engines();

struct Keys {
  Transform transform;
  Buffer cipher, integrity;
};
[[nodiscard]] Keys random_keys(const Transform& transform, std::mt19937_64& random);
[[nodiscard]] EspKey make_key(const Keys& keys, bool extended_sequence = false);

// A packet in the clear, laid out for seal(): room for IV and ICV, `payload_bytes` of payload, RFC 4303 §2.4 padding.
[[nodiscard]] Buffer clear_packet(const TransformSizes& sizes, std::size_t payload_bytes, std::uint32_t spi,
                                  std::uint32_t sequence, std::mt19937_64& random);
// Ciphertext (or clear text) of a packet.
[[nodiscard]] Bytes body_of(const TransformSizes& sizes, Bytes packet);

[[nodiscard]] EspJob job_for(const EspKey& key, Buffer& packet, std::uint64_t sequence = 1);
[[nodiscard]] bool seal_one(EspEngine& engine, const EspKey& key, Buffer& packet, std::uint64_t sequence = 1);
[[nodiscard]] bool open_one(EspEngine& engine, const EspKey& key, Buffer& packet);

// The whole packet that sealing `clear` with the IV in `iv` must give; `header_bytes` stand before the IV. Shares no
// code with the engines.
[[nodiscard]] Buffer reference_seal(const Keys& keys, Bytes clear, Bytes iv, std::size_t header_bytes = 8);

// The same with extended sequence numbers (RFC 4303 §2.2.1): the ICV covers the high half of `sequence` too.
[[nodiscard]] Buffer reference_seal_extended(const Keys& keys, Bytes clear, Bytes iv, std::uint64_t sequence);

// HMAC by EVP's own call; `digest` is "MD5", "SHA1" to "SHA512".
[[nodiscard]] Buffer reference_hmac(const char* digest, Bytes key, Bytes data);
// Untruncated. HMAC and CMAC by EVP's own calls, AES-XCBC from AES-ECB as RFC 3566 §4 says.
[[nodiscard]] Buffer reference_mac(Integrity integrity, Bytes key, Bytes data);

}  // namespace postern::crypto::test
