// EAP-TLS (RFC 5216, RFC 9190): fragments of TLS records in both directions. TLS itself runs in postern-pki, where the
// private keys are; a half asks it and goes on with its answer.
#pragma once

#include "ike/eap_method.hpp"

namespace postern::ike {

inline constexpr std::size_t eap_tls_fragment_bytes = 1024, max_eap_tls_bytes = 32768;

// Flags, length and data (§3.1), one message at a time each way.
class EapTlsRecords {
 public:
  enum class Got : std::uint8_t { fragment, whole, nothing, start, malformed, too_long };
  [[nodiscard]] Got take(Bytes data);
  [[nodiscard]] Octets taken() { return std::exchange(in_, {}); }

  void put(Octets records) { out_ = std::move(records), sent_ = 0, begun_ = false; }
  [[nodiscard]] bool has_more() const { return sent_ < out_.size(); }
  [[nodiscard]] Octets next();  // the next fragment
  [[nodiscard]] static Octets empty() { return {std::byte{0}}; }
  [[nodiscard]] static Octets start() { return {std::byte{0x20}}; }

 private:
  Octets in_, out_;
  std::size_t sent_ = 0, expected_ = 0;
  bool begun_ = false;
};

class EapTlsServer {
 public:
  static constexpr EapType type = EapType::tls;
  [[nodiscard]] EapMethodStep begin(const EapServerContext& context, std::uint8_t identifier);
  [[nodiscard]] EapMethodStep take(const EapServerContext& context, const EapPacket& response);
  [[nodiscard]] EapMethodStep take(const pki::TlsProgress& progress);
  [[nodiscard]] Secret key() const { return key_; }
  // The alert is on its way, the Failure not yet: why.
  [[nodiscard]] const EapFailure* refused() const { return failed_ ? &*failed_ : nullptr; }
  // What it called itself, which its certificate names; else that's subject.
  [[nodiscard]] std::string user(const EapServerContext& context) const { return context.user.value_or(subject_); }

 private:
  EapTlsRecords records_;
  pki::TlsQuestion question_;
  bool finished_ = false;
  std::optional<EapFailure> failed_;
  std::string subject_;
  Secret key_;
};

class EapTlsPeer {
 public:
  static constexpr EapType type = EapType::tls;
  [[nodiscard]] EapMethodStep take(const EapPeerContext& context, const EapPacket& request);
  [[nodiscard]] EapMethodStep take(const pki::TlsProgress& progress);
  [[nodiscard]] bool may_succeed() const { return finished_ && !records_.has_more(); }
  [[nodiscard]] Secret key() const { return key_; }
  // Why it ended at our end, while the server has not said Failure yet.
  [[nodiscard]] const std::optional<EapFailure>& failed() const { return failed_; }

 private:
  EapTlsRecords records_;
  pki::TlsQuestion question_;
  bool started_ = false, finished_ = false;
  std::optional<EapFailure> failed_;
  Secret key_;
};

}  // namespace postern::ike
