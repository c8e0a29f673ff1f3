#include "ike/eap_tls.hpp"

#include <algorithm>

namespace postern::ike {
namespace {

constexpr std::uint8_t has_length = 0x80, has_more_fragments = 0x40, is_start = 0x20;

EapMethodStep tls_malformed() { return EapMethodStep::fail(EapFault::malformed, "an EAP-TLS packet out of its turn"); }

EapMethodStep not_taken(EapTlsRecords::Got got) {
  return got == EapTlsRecords::Got::too_long ? EapMethodStep::fail(EapFault::too_long, "EAP-TLS of too many bytes")
                                             : tls_malformed();
}

EapFailure failure_in(const pki::TlsProgress& progress) {
  return {progress.by_peer ? EapFault::refused : EapFault::not_authentic, progress.why};
}

Result<std::uint64_t> conversation_of(const EapRandom& random) {
  std::array<std::byte, 8> bytes{};
  POSTERN_CHECK(random(bytes));
  return ByteReader(bytes).u64();
}

}  // namespace

EapTlsRecords::Got EapTlsRecords::take(Bytes data) {
  ByteReader in(data);
  const std::uint8_t flags = in.u8();
  const std::uint32_t length = (flags & has_length) != 0 ? in.u32() : 0;
  const Bytes part = in.rest();
  if (!in.ok()) return Got::malformed;
  if ((flags & is_start) != 0) return in_.empty() && part.empty() && flags == is_start ? Got::start : Got::malformed;
  if (part.empty()) return flags == 0 && in_.empty() ? Got::nothing : Got::malformed;
  if (in_.empty()) expected_ = (flags & has_length) != 0 ? length : 0;
  if ((flags & has_length) != 0 && length != expected_) return Got::malformed;
  if (expected_ > max_eap_tls_bytes || in_.size() + part.size() > max_eap_tls_bytes) return Got::too_long;
  in_.insert(in_.end(), part.begin(), part.end());
  if (expected_ != 0 && in_.size() > expected_) return Got::malformed;
  if ((flags & has_more_fragments) != 0) return Got::fragment;
  return expected_ == 0 || in_.size() == expected_ ? Got::whole : Got::malformed;
}

// §3.1: the first of several says how long all are.
Octets EapTlsRecords::next() {
  const std::size_t size = std::min(eap_tls_fragment_bytes, out_.size() - sent_);
  const bool more = sent_ + size < out_.size(), first_of_many = more && !begun_;
  OctetWriter out;
  out.u8(static_cast<std::uint8_t>((first_of_many ? has_length : 0) | (more ? has_more_fragments : 0)));
  if (first_of_many) out.u32(static_cast<std::uint32_t>(out_.size()));
  out.bytes(Bytes(out_).subspan(sent_, size));
  sent_ += size;
  begun_ = true;
  return out.take();
}

// --- server

EapMethodStep EapTlsServer::begin(const EapServerContext& context, std::uint8_t) {
  const auto conversation = conversation_of(context.random);
  if (!conversation) return EapMethodStep::fail(EapFault::internal, "no random numbers");
  question_ = context.tls;
  if (question_.identity.empty()) return EapMethodStep::fail(EapFault::unknown_user, "the peer has not said who it is");
  question_.conversation = *conversation;
  question_.server = true;
  question_.begins = true;
  return EapMethodStep::send(EapTlsRecords::start());
}

EapMethodStep EapTlsServer::take(const EapServerContext&, const EapPacket& response) {
  const auto got = records_.take(response.data);
  if (got == EapTlsRecords::Got::nothing) {
    if (records_.has_more()) return EapMethodStep::send(records_.next());
    if (failed_) return EapMethodStep::fail(failed_->fault, failed_->detail);
    return finished_ ? EapMethodStep::done() : tls_malformed();
  }
  if (failed_) return EapMethodStep::fail(failed_->fault, failed_->detail);
  if (records_.has_more() || finished_) return tls_malformed();
  if (got == EapTlsRecords::Got::fragment) return EapMethodStep::send(EapTlsRecords::empty());
  if (got != EapTlsRecords::Got::whole) return not_taken(got);
  question_.records = records_.taken();
  auto step = EapMethodStep::ask(question_);
  question_.begins = false;
  return step;
}

EapMethodStep EapTlsServer::take(const pki::TlsProgress& progress) {
  finished_ = progress.finished;
  if (progress.failed) failed_ = failure_in(progress);
  if (finished_) key_ = progress.key;
  subject_ = progress.subject;
  if (progress.records.empty())
    return failed_ ? EapMethodStep::fail(failed_->fault, failed_->detail)
                   : EapMethodStep::fail(EapFault::malformed, "TLS that does not go on");
  records_.put(progress.records);
  return EapMethodStep::send(records_.next());
}

// --- peer

EapMethodStep EapTlsPeer::take(const EapPeerContext& context, const EapPacket& request) {
  const auto got = records_.take(request.data);
  if (got == EapTlsRecords::Got::start) {
    const auto conversation = conversation_of(context.random);
    if (started_ || !conversation) return tls_malformed();
    started_ = true;
    question_ = context.tls;
    question_.conversation = *conversation;
    question_.begins = true;
    auto step = EapMethodStep::ask(question_);
    question_.begins = false;
    return step;
  }
  if (!started_ || finished_ || failed_) return tls_malformed();
  if (got == EapTlsRecords::Got::nothing && records_.has_more()) return EapMethodStep::send(records_.next());
  if (records_.has_more()) return tls_malformed();
  if (got == EapTlsRecords::Got::fragment) return EapMethodStep::send(EapTlsRecords::empty());
  if (got != EapTlsRecords::Got::whole) return not_taken(got);
  question_.records = records_.taken();
  return EapMethodStep::ask(question_);
}

// §2.1.3, RFC 9190 §2.1.1: what there is to say, an alert too, else nothing: the server goes on by itself.
EapMethodStep EapTlsPeer::take(const pki::TlsProgress& progress) {
  finished_ = progress.finished;
  if (progress.failed) failed_ = failure_in(progress);
  if (finished_) key_ = progress.key;
  if (progress.records.empty()) return EapMethodStep::send(EapTlsRecords::empty());
  records_.put(progress.records);
  return EapMethodStep::send(records_.next());
}

}  // namespace postern::ike
