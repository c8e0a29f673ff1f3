// AH's integrity check value (RFC 4302 §3.3.3): the jobs of a batch that are AH. Which authenticators AH takes:
// crypto/ah_transforms.hpp.
//
// Such a job's `esp` begins at the AH header and its `covered` holds the IP headers in front of it, mutable fields
// zero:
//
//   covered: | IP headers |   esp: | next header, length, reserved, SPI, sequence (12) | ICV | padding | payload |
//                                  ^ esp                                                             size bytes ^
//
// The authenticators of an engine want one piece. So what the ICV covers is laid out in the packet itself while they
// run: the `covered_bytes` in front of `esp`, where the packet has its headers, are lent for it, and with extended
// sequence numbers the 4 bytes behind its end too.
#pragma once

#include <algorithm>
#include <array>
#include <span>

#include "crypto/ah_transforms.hpp"
#include "crypto/packet_cipher.hpp"

namespace postern::crypto {

// Room-private: the AH jobs among these, the others are left alone. Writes, or compares, the ICV; the padding behind it
// is covered as it is. Jobs shorter than header and ICV, or behind more headers than max_ah_headers, fail.
class AhGroup {
 public:
  static constexpr std::size_t capacity = 16;

  // Not a full group. The job is done, failed, when it cannot be AH.
  void take(EspJob& job);
  [[nodiscard]] bool full() const { return count_ == capacity; }
  // Their packets hold what the ICV covers until put_back().
  [[nodiscard]] std::span<MacJob> lay_out();
  void put_back();
  // Empties the group.
  void write_icvs();
  void compare_icvs();

 private:
  struct Lent {
    std::array<std::byte, max_ah_headers> headers;
    std::array<std::byte, 32> icv, computed;
    std::array<std::byte, 4> behind;
  };
  std::array<EspJob*, capacity> jobs_;
  std::array<MacJob, capacity> macs_;
  std::array<Lent, capacity> lent_;
  std::size_t count_ = 0;
};

// `done`: of AhGroup.
template <class Engine>
void authenticate_ah(Engine& engine, std::span<EspJob> jobs, void (AhGroup::*done)()) {
  const auto is_ah = [](const EspJob& job) { return job.covered != nullptr; };
  const auto first = std::ranges::find_if(jobs, is_ah);
  if (first == jobs.end()) [[likely]]
    return;
  AhGroup group;
  const auto run = [&] {
    engine.authenticate(group.lay_out());
    group.put_back();
    (group.*done)();
  };
  for (EspJob& job : std::span(first, jobs.end())) {
    if (!is_ah(job)) continue;
    group.take(job);
    if (group.full()) run();
  }
  run();
}

}  // namespace postern::crypto
