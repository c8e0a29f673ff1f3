#include "crypto/ah.hpp"

#include <cstring>
#include <utility>

#include "crypto/expanded_key.hpp"

namespace postern::crypto {
namespace {

bool well_formed_ah(const EspJob& job) {
  const EspKey::Expanded& key = job.key->expanded();
  return key.state == EspKey::Expanded::State::ready && key.cipher == Cipher::none &&
         key.integrity != Integrity::none && job.size >= ah_fixed_bytes + key.icv_bytes &&
         job.covered_bytes <= max_ah_headers;
}

}  // namespace

void AhGroup::take(EspJob& job) {
  job.ok = false;
  if (well_formed_ah(job)) jobs_[count_++] = &job;
}

// RFC 4302 §3.3.3: the ICV field itself counts as zero, and the half of an extended sequence number that is not in the
// packet (§2.5.1) comes last.
std::span<MacJob> AhGroup::lay_out() {
  for (std::size_t i = 0; i < count_; ++i) {
    const EspJob& job = *jobs_[i];
    const EspKey::Expanded& key = job.key->expanded();
    Lent& lent = lent_[i];
    std::byte* const headers = job.esp - job.covered_bytes;
    std::byte* const icv = job.esp + ah_fixed_bytes;
    std::memcpy(lent.headers.data(), headers, job.covered_bytes);
    std::memcpy(headers, job.covered, job.covered_bytes);
    std::memcpy(lent.icv.data(), icv, key.icv_bytes);
    std::memset(icv, 0, key.icv_bytes);
    std::uint32_t size = job.covered_bytes + job.size;
    if (key.extended_sequence) {
      std::memcpy(lent.behind.data(), job.esp + job.size, sequence_high_bytes);
      put_sequence_high(job, job.esp + job.size);
      size += sequence_high_bytes;
    }
    macs_[i] = {job.key, headers, size, lent.computed.data(), false};
  }
  return std::span(macs_).first(count_);
}

void AhGroup::put_back() {
  for (std::size_t i = 0; i < count_; ++i) {
    const EspJob& job = *jobs_[i];
    const EspKey::Expanded& key = job.key->expanded();
    std::memcpy(job.esp - job.covered_bytes, lent_[i].headers.data(), job.covered_bytes);
    std::memcpy(job.esp + ah_fixed_bytes, lent_[i].icv.data(), key.icv_bytes);
    if (key.extended_sequence) std::memcpy(job.esp + job.size, lent_[i].behind.data(), sequence_high_bytes);
  }
}

void AhGroup::write_icvs() {
  const std::size_t count = std::exchange(count_, 0);
  for (std::size_t i = 0; i < count; ++i) {
    EspJob& job = *jobs_[i];
    job.ok = macs_[i].ok;
    if (job.ok) std::memcpy(job.esp + ah_fixed_bytes, lent_[i].computed.data(), job.key->expanded().icv_bytes);
  }
}

void AhGroup::compare_icvs() {
  const std::size_t count = std::exchange(count_, 0);
  for (std::size_t i = 0; i < count; ++i) {
    EspJob& job = *jobs_[i];
    job.ok =
        macs_[i].ok && icv_matches(job.esp + ah_fixed_bytes, lent_[i].computed.data(), job.key->expanded().icv_bytes);
  }
}

}  // namespace postern::crypto
