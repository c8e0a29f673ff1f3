#include "ike/payload_rules.hpp"

#include <algorithm>
#include <span>

namespace postern::ike {
namespace {

using enum PayloadType;

struct Row {
  PayloadType payload;
  std::size_t min, max;
};
constexpr std::size_t any = max_payloads;

// RFC 7296 appendix C. Notify and vendor ID payloads may stand in every message (§2.5, §3.12), in any order.
constexpr Row init_request[] = {{sa, 1, 1}, {ke, 1, 1}, {nonce, 1, 1}};
constexpr Row init_response[] = {{sa, 1, 1}, {ke, 1, 1}, {nonce, 1, 1}, {certificate_request, 0, any}};

constexpr Row auth_request[] = {
    {id_initiator, 1, 1},  {id_responder, 0, 1}, {certificate, 0, any}, {certificate_request, 0, any}, {auth, 1, 1},
    {configuration, 0, 1}, {sa, 1, 1},           {ts_initiator, 1, 1},  {ts_responder, 1, 1}};
// Without AUTH the initiator asks for EAP (§2.16).
constexpr Row auth_request_for_eap[] = {{id_initiator, 1, 1},          {id_responder, 0, 1},  {certificate, 0, any},
                                        {certificate_request, 0, any}, {configuration, 0, 1}, {sa, 1, 1},
                                        {ts_initiator, 1, 1},          {ts_responder, 1, 1}};
// RFC 6023: the IKE SA alone.
constexpr Row auth_request_childless[] = {{id_initiator, 1, 1},          {id_responder, 0, 1}, {certificate, 0, any},
                                          {certificate_request, 0, any}, {auth, 1, 1},         {configuration, 0, 1}};
constexpr Row auth_request_for_eap_childless[] = {{id_initiator, 1, 1},
                                                  {id_responder, 0, 1},
                                                  {certificate, 0, any},
                                                  {certificate_request, 0, any},
                                                  {configuration, 0, 1}};
constexpr Row auth_response[] = {
    {id_responder, 1, 1}, {certificate, 0, any}, {auth, 1, 1},        {configuration, 0, 1},
    {sa, 1, 1},           {ts_initiator, 1, 1},  {ts_responder, 1, 1}};
// §1.2: the IKE SA stands, the child failed; or none was asked for (RFC 6023).
constexpr Row auth_response_without_child[] = {
    {id_responder, 1, 1}, {certificate, 0, any}, {auth, 1, 1}, {configuration, 0, 1}};
constexpr Row auth_response_eap_first[] = {{id_responder, 1, 1}, {certificate, 0, any}, {auth, 0, 1}, {eap, 1, 1}};
constexpr Row auth_eap[] = {{eap, 1, 1}};
constexpr Row auth_eap_last_request[] = {{auth, 1, 1}};
constexpr Row auth_eap_last_response[] = {
    {auth, 1, 1}, {configuration, 0, 1}, {sa, 1, 1}, {ts_initiator, 1, 1}, {ts_responder, 1, 1}};
constexpr Row auth_eap_last_without_child[] = {{auth, 1, 1}, {configuration, 0, 1}};

constexpr Row child_sa[] = {{sa, 1, 1},           {nonce, 1, 1},        {ke, 0, 1},
                            {ts_initiator, 1, 1}, {ts_responder, 1, 1}, {configuration, 0, 1}};
constexpr Row rekey_ike[] = {{sa, 1, 1}, {nonce, 1, 1}, {ke, 1, 1}};

constexpr Row informational[] = {{delete_, 0, any}, {configuration, 0, 1}};

// A shape that a message may have.
struct Shape {
  std::span<const Row> rows;
};

// The first is the one that a message which fits none is measured against.
constexpr Shape init_request_shapes[] = {{init_request}};
constexpr Shape init_response_shapes[] = {{init_response}};
constexpr Shape auth_request_shapes[] = {
    {auth_request}, {auth_request_childless}, {auth_request_for_eap}, {auth_request_for_eap_childless},
    {auth_eap},     {auth_eap_last_request}};
constexpr Shape auth_response_shapes[] = {{auth_response},           {auth_response_without_child},
                                          {auth_response_eap_first}, {auth_eap},
                                          {auth_eap_last_response},  {auth_eap_last_without_child}};
constexpr Shape child_shapes[] = {{child_sa}};
constexpr Shape rekey_ike_shapes[] = {{rekey_ike}};
constexpr Shape informational_shapes[] = {{informational}};

bool proposes_ike(const Message& message) {
  const auto* offer = message.find<SaPayload>(sa);
  return offer != nullptr && std::ranges::count(offer->proposals, ProtocolId::ike, &Proposal::protocol) != 0;
}

std::span<const Shape> shapes_of(const Message& message) {
  const bool response = message.header.response;
  switch (message.header.exchange) {
    case ExchangeType::ike_sa_init: return response ? std::span(init_response_shapes) : init_request_shapes;
    case ExchangeType::ike_auth: return response ? std::span<const Shape>(auth_response_shapes) : auth_request_shapes;
    case ExchangeType::create_child_sa:
      if (message.notify(NotifyType::rekey_sa) == nullptr && proposes_ike(message)) return rekey_ike_shapes;
      return child_shapes;
    case ExchangeType::informational: return informational_shapes;
  }
  return {};
}

// §2.5: what we do not know and is not critical is skipped.
bool is_free(PayloadType type) { return type == notify || type == vendor_id || type < sa || type > eap; }

std::optional<std::string> mismatch(const Message& message, const Shape& shape) {
  for (const Row& row : shape.rows) {
    const auto count = static_cast<std::size_t>(std::ranges::count(message.payloads, row.payload, &Payload::type));
    if (count < row.min) return "without " + text(row.payload);
    if (count > row.max) return "with more than one " + text(row.payload);
  }
  for (const Payload& payload : message.payloads)
    if (!is_free(payload.type) && std::ranges::count(shape.rows, payload.type, &Row::payload) == 0)
      return "with " + text(payload.type);
  return std::nullopt;
}

// A responder that does nothing else may say why: an error in any exchange, a cookie (§2.6, §2.21) or another gateway
// (RFC 5685 §3) in the first.
bool is_refusal(const Message& message) {
  if (!message.header.response) return false;
  const bool says_why =
      message.error() != nullptr ||
      (message.header.exchange == ExchangeType::ike_sa_init &&
       (message.notify(NotifyType::cookie) != nullptr || message.notify(NotifyType::redirect) != nullptr));
  return says_why && std::ranges::all_of(message.payloads, is_free, &Payload::type);
}

// §3.1: who may send what outside an IKE SA.
std::optional<std::string> broken_header(const Header& header) {
  if (header.exchange != ExchangeType::ike_sa_init) return std::nullopt;
  if (header.from_initiator == header.response) return "with flags I and R that contradict each other";
  if (header.message_id != 0) return "with a message ID other than 0";
  if (!header.response && header.responder_spi != 0) return "with a responder SPI";
  return std::nullopt;
}

// §3.3: SA payloads of an IKE SA propose IKE, those of a child anything else; an offer counts its proposals (§3.3.1).
std::optional<std::string> broken_sa(const Message& message, bool wants_ike) {
  const auto* offer = message.find<SaPayload>(sa);
  if (offer == nullptr) return std::nullopt;
  std::uint8_t expected = 1;
  for (const Proposal& proposal : offer->proposals) {
    if ((proposal.protocol == ProtocolId::ike) != wants_ike)
      return "with an SA payload that proposes " + text(proposal.protocol);
    if (!message.header.response && proposal.number != expected++) return "with proposals not numbered 1, 2, 3";
  }
  if (message.header.response && offer->proposals.size() != 1) return "with a choice of not exactly one proposal";
  return std::nullopt;
}

// §1.3.3: one child is rekeyed by one exchange.
std::optional<std::string> broken_rekey(const Message& message) {
  const auto is_rekey = [](const Payload& p) {
    const auto* body = std::get_if<NotifyPayload>(&p.body);
    return body != nullptr && body->type == NotifyType::rekey_sa;
  };
  if (std::ranges::count_if(message.payloads, is_rekey) > 1) return "with more than one REKEY_SA";
  return std::nullopt;
}

std::optional<std::string> broken(const Message& message) {
  const auto shapes = shapes_of(message);
  if (shapes.empty()) return "that we do not know";
  if (auto why = broken_header(message.header)) return why;
  if (is_refusal(message)) return std::nullopt;
  if (std::ranges::none_of(shapes, [&](const Shape& s) { return !mismatch(message, s); }))
    return mismatch(message, shapes.front());
  const bool wants_ike = message.header.exchange == ExchangeType::ike_sa_init || shapes.data() == rekey_ike_shapes;
  if (auto why = broken_sa(message, wants_ike)) return why;
  return broken_rekey(message);
}

}  // namespace

std::optional<std::string> broken_rule(const Message& message) {
  const auto why = broken(message);
  if (!why) return std::nullopt;
  return text(message.header.exchange) + (message.header.response ? " response " : " request ") + *why;
}

}  // namespace postern::ike
