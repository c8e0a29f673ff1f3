#include "ike/eap_peer.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace postern::ike {
EapStep EapPeer::on_packet(Bytes packet) {
  if (over_) return fail(EapFault::malformed, "a packet after the end");
  if (++rounds_ > max_eap_rounds) return fail(EapFault::too_long, "EAP takes too many rounds");
  const auto parsed = parse_eap(packet);
  if (!parsed) return fail(EapFault::malformed, "an EAP packet that cannot be read");
  switch (parsed->code) {
    case EapCode::success:
    case EapCode::failure: return end(parsed->code);
    case EapCode::response: return fail(EapFault::malformed, "an EAP response, which is ours to give");
    case EapCode::request: break;
  }
  // IKE repeats its messages by itself, so that nothing comes twice in two of them.
  if (std::ranges::equal(packet, last_)) return fail(EapFault::malformed, "the same EAP request again");
  last_ = octets_of(packet);
  identifier_ = parsed->identifier;
  return take_request(*parsed);
}

EapStep EapPeer::take_request(const EapPacket& request) {
  const bool begun = !std::holds_alternative<std::monostate>(method_);
  if (request.type == EapType::identity && !begun)
    return respond(EapType::identity, octets_of(as_bytes(setup_.context.user)));
  if (request.type == EapType::notification) return respond(EapType::notification, {});
  if (begun && request.type == method()) return run_method(request);
  if (begun) return fail(EapFault::malformed, "a request of " + eap_name(request.type));
  if (std::ranges::find(setup_.methods, request.type) == setup_.methods.end()) {
    Octets wanted;
    for (const EapType one : setup_.methods) wanted.push_back(static_cast<std::byte>(one));
    refused_.push_back(request.type);
    return respond(EapType::nak, std::move(wanted));  // RFC 3748 §5.3.1
  }
  switch (request.type) {
    case EapType::md5: method_.emplace<EapMd5Peer>(); break;
    case EapType::mschapv2: method_.emplace<EapMschapv2Peer>(); break;
    case EapType::tls: method_.emplace<EapTlsPeer>(); break;
    default: return fail(EapFault::internal, eap_name(request.type) + " is not available");
  }
  return run_method(request);
}

EapStep EapPeer::run_method(const EapPacket& request) {
  return step_of(std::visit(EapEither{[](std::monostate) { return EapMethodStep{}; },
                                      [&](auto& one) { return one.take(setup_.context, request); }},
                            method_));
}

EapStep EapPeer::on_tls(const pki::TlsProgress& progress) {
  auto* const tls = std::get_if<EapTlsPeer>(&method_);
  return tls == nullptr || over_ ? fail(EapFault::malformed, "no TLS is under way") : step_of(tls->take(progress));
}

EapStep EapPeer::step_of(EapMethodStep step) {
  if (step.kind == EapMethodStep::Kind::failed) return fail(step.failure.fault, std::move(step.failure.detail));
  if (step.kind == EapMethodStep::Kind::ask) return {EapStep::Kind::ask, {}, {}, std::move(step.question)};
  return respond(method(), std::move(step.data));
}

// RFC 3748 §4.2: a Success before the method is through is nobody's word.
EapStep EapPeer::end(EapCode code) {
  const bool begun = !std::holds_alternative<std::monostate>(method_);
  if (code == EapCode::failure) {
    if (const auto* const tls = std::get_if<EapTlsPeer>(&method_))
      return tls->failed() ? fail(tls->failed()->fault, tls->failed()->detail)
                           : fail(EapFault::refused, "the server refuses our certificate");
    if (begun) return fail(EapFault::wrong_password, "the server refuses " + setup_.context.user);
    if (refused_.empty()) return fail(EapFault::refused, "the server refuses before any method");
    return fail(EapFault::no_common_method, fmt::format("the server has {} alone", eap_name(refused_.back())));
  }
  const bool through = std::visit(
      EapEither{[](std::monostate) { return false; }, [](const auto& one) { return one.may_succeed(); }}, method_);
  if (!through) return fail(EapFault::not_authentic, "Success before the method was through");
  over_ = true;
  return {EapStep::Kind::done, {}, {}, {}};
}

EapStep EapPeer::respond(EapType type, Octets data) {
  return {EapStep::Kind::more, encode_eap({EapCode::response, identifier_, type, std::move(data)}), {}, {}};
}

EapStep EapPeer::fail(EapFault fault, std::string detail) {
  over_ = true;
  return {EapStep::Kind::failed, {}, {fault, std::move(detail)}, {}};
}

EapType EapPeer::method() const {
  return std::visit(EapEither{[](std::monostate) { return EapType::none; }, [](const auto& one) { return one.type; }},
                    method_);
}

Secret EapPeer::key() const {
  return std::visit(EapEither{[](std::monostate) { return Secret(); }, [](const auto& one) { return one.key(); }},
                    method_);
}

}  // namespace postern::ike
