// TLS as far as EAP sees it: flights as long as real ones, and one secret.
#pragma once

#include <map>
#include <string>

#include "session_lab.hpp"

namespace postern::ike::lab {

// One end of a handshake: what it says when, which is what the other end waits for.
struct FakeTls {
  std::string secret = "sixty-four bytes that only the two ends of this handshake can have";
  std::int64_t valid_s = 365 * 86400;
  bool refuses = false;  // the other's certificate, when that has come
  bool with_alert = true;
  std::map<std::uint64_t, std::size_t> steps = {};

  static Octets flight(bool server, std::size_t step) {
    static constexpr std::size_t sizes[2][2] = {{200, 3000}, {2600, 60}};
    return step < 2 ? Octets(sizes[server][step], static_cast<std::byte>(16 * server + step + 1)) : Octets{};
  }
  pki::Answer take(const pki::TlsQuestion& question) {
    if (question.begins) steps[question.conversation] = 0;
    const auto known = steps.find(question.conversation);
    if (known == steps.end()) return pki::Refusal{pki::RefusalKind::unavailable, {}, "not there", {}, {}};
    const std::size_t step = known->second++;
    pki::TlsProgress out;
    const Octets awaited = question.server ? flight(false, step) : step == 0 ? Octets{} : flight(true, step - 1);
    out.by_peer = question.records != awaited;
    out.failed = out.by_peer || (refuses && step == 1);
    if (out.by_peer) {
      out.why = "alert";
      return out;
    }
    if (out.failed) {
      out.why = "certificate CN=other: has expired";
      if (with_alert) out.records = Octets(7, std::byte{0x15});
      return out;
    }
    out.records = flight(question.server, step);
    out.finished = step == (question.server ? 1U : 2U);
    if (!out.finished) return out;
    out.key = lab::secret(secret);
    out.subject = question.server ? "CN=alice" : "CN=gateway";
    out.valid_s = valid_s;
    return out;
  }
};

}  // namespace postern::ike::lab
