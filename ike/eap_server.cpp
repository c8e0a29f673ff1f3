#include "ike/eap_server.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace postern::ike {
namespace {

std::string names_of(const std::vector<EapType>& types) {
  std::string out;
  for (const EapType one : types) out += (out.empty() ? "" : ", ") + eap_name(one);
  return out;
}

}  // namespace

EapStep EapServer::start() {
  std::byte first{};
  if (!setup_.context.random({&first, 1})) return fail(EapFault::internal, "no random numbers");
  identifier_ = std::to_integer<std::uint8_t>(first);
  if (!setup_.query_identity) return begin_method(std::nullopt);
  setup_.context.user.reset();
  return {EapStep::Kind::more, encode_eap({EapCode::request, identifier_, EapType::identity, {}}), {}, {}};
}

EapStep EapServer::on_packet(Bytes packet) {
  if (over_) return fail(EapFault::malformed, "a packet after the end");
  if (++rounds_ > max_eap_rounds) return fail(EapFault::too_long, "EAP takes too many rounds");
  const auto response = parse_eap(packet);
  if (!response) return fail(EapFault::malformed, "an EAP packet that cannot be read");
  // RFC 3748 §4.1. IKE lets none be lost or repeated: one of another request is no accident.
  if (response->code != EapCode::response || response->identifier != identifier_)
    return fail(EapFault::malformed, "an EAP packet that answers no request of ours");
  if (std::holds_alternative<std::monostate>(method_)) return take_identity(*response);
  if (response->type == EapType::nak && !method_answered_) return take_nak(*response);
  if (response->type != method()) return fail(EapFault::malformed, "an answer of " + eap_name(response->type));
  method_answered_ = true;
  return step_of(std::visit(EapEither{[](std::monostate) { return EapMethodStep{}; },
                                      [&](auto& one) { return one.take(setup_.context, *response); }},
                            method_));
}

// RFC 3748 §5.1.
EapStep EapServer::take_identity(const EapPacket& response) {
  if (response.type != EapType::identity) return fail(EapFault::malformed, "an answer that is no identity");
  if (response.data.empty() || response.data.size() > max_eap_identity_bytes)
    return fail(EapFault::unknown_user, "an identity of another size");
  setup_.context.user.emplace(reinterpret_cast<const char*>(response.data.data()), response.data.size());
  setup_.context.tls.identity_type = setup_.context.user->contains('@') ? 3 : 2;  // RFC 7296 §3.5: e-mail, FQDN
  setup_.context.tls.identity = response.data;
  ++identifier_;
  return begin_method(std::nullopt);
}

// §5.3.1: the methods that the peer would take instead; each of ours is proposed once.
EapStep EapServer::take_nak(const EapPacket& response) {
  refused_.push_back(method());
  ++identifier_;
  return begin_method(response.data);
}

EapStep EapServer::begin_method(const std::optional<Octets>& wanted) {
  const auto fits = [&](EapType type) {
    return std::ranges::find(refused_, type) == refused_.end() &&
           (!wanted || std::ranges::find(*wanted, static_cast<std::byte>(type)) != wanted->end());
  };
  const auto next = std::ranges::find_if(setup_.methods, fits);
  if (next == setup_.methods.end())
    return fail(EapFault::no_common_method, fmt::format("the peer takes none of {}", names_of(setup_.methods)));
  switch (*next) {
    case EapType::md5: method_.emplace<EapMd5Server>(); break;
    case EapType::mschapv2: method_.emplace<EapMschapv2Server>(); break;
    case EapType::tls: method_.emplace<EapTlsServer>(); break;
    default: return fail(EapFault::internal, eap_name(*next) + " is not available");
  }
  return step_of(std::visit(EapEither{[](std::monostate) { return EapMethodStep{}; },
                                      [&](auto& one) { return one.begin(setup_.context, identifier_); }},
                            method_));
}

EapStep EapServer::step_of(EapMethodStep step) {
  if (step.kind == EapMethodStep::Kind::failed) return fail(step.failure.fault, std::move(step.failure.detail));
  if (step.kind == EapMethodStep::Kind::done) {
    over_ = true;
    return {EapStep::Kind::done, encode_eap({EapCode::success, identifier_, EapType::none, {}}), {}, {}};
  }
  if (step.kind == EapMethodStep::Kind::ask) return {EapStep::Kind::ask, {}, {}, std::move(step.question)};
  if (method_answered_) ++identifier_;
  return {EapStep::Kind::more, encode_eap({EapCode::request, identifier_, method(), std::move(step.data)}), {}, {}};
}

EapStep EapServer::on_tls(const pki::TlsProgress& progress) {
  auto* const tls = std::get_if<EapTlsServer>(&method_);
  return tls == nullptr || over_ ? fail(EapFault::malformed, "no TLS is under way") : step_of(tls->take(progress));
}

EapStep EapServer::fail(EapFault fault, std::string detail) {
  over_ = true;
  return {EapStep::Kind::failed,
          encode_eap({EapCode::failure, identifier_, EapType::none, {}}),
          {fault, std::move(detail)},
          {}};
}

const EapFailure* EapServer::refused() const {
  if (const auto* const tls = std::get_if<EapTlsServer>(&method_)) return tls->refused();
  const auto* const method = std::get_if<EapMschapv2Server>(&method_);
  return method == nullptr ? nullptr : method->refused();
}

EapType EapServer::method() const {
  return std::visit(EapEither{[](std::monostate) { return EapType::none; }, [](const auto& one) { return one.type; }},
                    method_);
}

std::string EapServer::user() const {
  return std::visit(EapEither{[](std::monostate) { return std::string(); },
                              [&](const auto& one) { return one.user(setup_.context); }},
                    method_);
}

Secret EapServer::key() const {
  return std::visit(EapEither{[](std::monostate) { return Secret(); }, [](const auto& one) { return one.key(); }},
                    method_);
}

}  // namespace postern::ike
