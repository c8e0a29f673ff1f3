#include "crypto/ah.hpp"

#include <array>

#include "crypto/expanded_key.hpp"
#include "crypto/hmac.hpp"

namespace postern::crypto {
namespace {

constexpr std::array<std::byte, max_digest_bytes> zero_icv{};

using Digest = std::array<std::byte, max_digest_bytes>;

bool well_formed_ah(const EspJob& job) {
  const EspKey::Expanded& key = job.key->expanded();
  return key.state == EspKey::Expanded::State::ready && key.cipher == Cipher::none && hash_of(key.integrity) &&
         job.size >= ah_fixed_bytes + key.icv_bytes;
}

// RFC 4302 §3.3.3: the ICV field itself counts as zero, and the half of an extended sequence number that is not in the
// packet (§2.5.1) comes last.
void authenticate(const EspJob& job, Digest& out) {
  const EspKey::Expanded& key = job.key->expanded();
  const std::size_t behind = ah_fixed_bytes + key.icv_bytes;
  std::array<std::byte, sequence_high_bytes> high;
  put_sequence_high(job, high.data());
  const std::array<Bytes, 5> parts = {Bytes(job.covered, job.covered_bytes), Bytes(job.esp, ah_fixed_bytes),
                                      Bytes(zero_icv).first(key.icv_bytes), Bytes(job.esp + behind, job.size - behind),
                                      high};
  hmac(*hash_of(key.integrity), key.hmac, std::span(parts).first(key.extended_sequence ? 5 : 4), out.data());
}

}  // namespace

void seal_ah(std::span<EspJob> jobs) {
  for (EspJob& job : jobs) {
    if (job.covered == nullptr) continue;
    job.ok = well_formed_ah(job);
    if (!job.ok) continue;
    Digest digest;
    authenticate(job, digest);
    std::memcpy(job.esp + ah_fixed_bytes, digest.data(), job.key->expanded().icv_bytes);
  }
}

void open_ah(std::span<EspJob> jobs) {
  for (EspJob& job : jobs) {
    if (job.covered == nullptr) continue;
    job.ok = false;
    if (!well_formed_ah(job)) continue;
    Digest digest;
    authenticate(job, digest);
    job.ok = icv_matches(job.esp + ah_fixed_bytes, digest.data(), job.key->expanded().icv_bytes);
  }
}

}  // namespace postern::crypto
