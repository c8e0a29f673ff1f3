// Datagrams: which session they belong to, and what strangers are answered.
#include <algorithm>

#include <fmt/format.h>

#include "ike/manager.hpp"

namespace postern::ike {
namespace {

// RFC 7296 §3.1: the bits of the header that tell who answers whom, also of a version that we do not parse.
constexpr std::uint8_t flag_initiator = 0x08, flag_response = 0x20;

std::optional<Header> foreign_header(Bytes bytes) {
  ByteReader in(bytes);
  Header header;
  header.initiator_spi = in.u64();
  header.responder_spi = in.u64();
  in.skip(2);
  header.exchange = ExchangeType{in.u8()};
  const std::uint8_t flags = in.u8();
  header.from_initiator = (flags & flag_initiator) != 0;
  header.response = (flags & flag_response) != 0;
  header.message_id = in.u32();
  return in.ok() ? std::optional(header) : std::nullopt;
}

bool is_protected(Bytes bytes) {
  ByteReader in(bytes);
  in.skip(16);
  const PayloadType first{in.u8()};
  return in.ok() && (first == PayloadType::encrypted || first == PayloadType::encrypted_fragment);
}

// Whether what a request has come to is that it was refused for what it holds.
bool is_invalid(const Actions& actions) {
  return std::ranges::any_of(actions, [](const Action& one) {
    const auto* const event = std::get_if<Event>(&one);
    return event != nullptr && event->failure && event->failure->kind == FailureKind::invalid_syntax;
  });
}

Header response_to(const Header& request) {
  return {request.initiator_spi, request.responder_spi, request.exchange, !request.from_initiator, true,
          request.message_id};
}

}  // namespace

void Manager::answer(const Datagram& datagram, const Message& message) {
  setup_.effects->send(SendDatagram{datagram.local, datagram.remote, datagram.fvrf, encode_message(message)});
}

void Manager::ignored(const Datagram& datagram, std::string why) {
  Event event;
  event.kind = EventKind::message_ignored;
  event.local = datagram.local;
  event.remote = datagram.remote;
  event.text = std::move(why);
  tell(event);
}

void Manager::on_datagram(const Datagram& datagram, Time now) {
  const auto header = parse_header(datagram.bytes);
  if (!header) {
    if (header.error().error == ParseError::unsupported_version) return refuse_version(datagram, now);
    return ignored(datagram, "not an IKE message: " + text(header.error()));
  }
  const bool begins = header->exchange == ExchangeType::ike_sa_init && header->responder_spi == 0 &&
                      header->from_initiator && !header->response;
  if (begins) return on_init_request(datagram, *header, now);
  // Flag I is of who began the IKE SA: its messages name us as responder.
  const Key key = header->from_initiator ? header->responder_spi : header->initiator_spi;
  Entry* const entry = key == 0 ? nullptr : find(key);
  if (entry == nullptr) return answer_unknown_spi(datagram, *header, now);
  // The answer may have been long in coming: the peer may have set up IKE SAs of its own meanwhile.
  if (entry->session->phase() == SessionPhase::init_sent)
    entry->session->set_initial_contact(alone_with(*entry->session->connection(), key));
  with(key, now,
       [&](Session& session) { return session.on_datagram(datagram.bytes, datagram.local, datagram.remote, now); });
}

void Manager::on_init_request(const Datagram& datagram, const Header& header, Time now) {
  if (header.initiator_spi == 0) return ignored(datagram, "IKE_SA_INIT request without an initiator's SPI");
  const InitKey init{header.initiator_spi, datagram.remote, datagram.fvrf};
  if (const auto known = inits_.find(init); known != inits_.end()) {
    const Key key = known->second;
    return with(key, now, [&](Session& session) {
      return session.on_datagram(datagram.bytes, datagram.local, datagram.remote, now);
    });
  }
  if (!may_begin(datagram, header, now) || redirect_stranger(datagram, header, now)) return;
  auto session =
      Session::responder({&surroundings_, datagram.local, datagram.remote, datagram.fvrf, false, setup_.lifetimes});
  Actions first = session->on_datagram(datagram.bytes, datagram.local, datagram.remote, now);
  // Nothing is kept that a limit would count, and it has cost us a key pair: who forges addresses gets no further.
  if (is_invalid(first) && !invalid_requests_.take(now)) {
    cookies_until_ = now + std::chrono::seconds(10);
    return ignored(datagram, "too many IKE_SA_INIT requests with public values that are none");
  }
  begin(std::move(session), std::move(first), init, now);
}

// What a stranger gets before anything is kept for it.
bool Manager::may_begin(const Datagram& datagram, const Header& header, Time now) {
  if (shutting_down_) return false;
  const auto fits = connections_between(*policy_, datagram.fvrf, datagram.local.address, datagram.remote.address);
  if (fits.empty() && ask_about_stranger(datagram, now)) {
    ignored(datagram, "nobody's address, and a peer's name is being looked up");
    return false;
  }
  if (fits.empty()) {
    refuse_stranger(datagram, header, now);
    return false;
  }
  const Room room = room_for(datagram.remote);
  // An address that is forged can neither use up the share of those who have it, nor make others give way: those who
  // have it give a cookie back.
  if (room == Room::there && half_open_.size() < setup_.limits.cookie_from &&
      half_open_.of_address(datagram.remote) < setup_.limits.cookie_from_per_address && now >= cookies_until_)
    return true;
  // RFC 7296 §2.6: the COOKIE notify is the first payload.
  const auto message = parse_message(datagram.bytes);
  const NoncePayload* const nonce = message ? message->find<NoncePayload>(PayloadType::nonce) : nullptr;
  if (nonce == nullptr) {
    ignored(datagram, "IKE_SA_INIT request that cannot be read, while COOKIE is demanded");
    return false;
  }
  const NotifyPayload* const cookie = message->notify(NotifyType::cookie);
  const bool receives =
      cookie != nullptr && cookies_.valid(cookie->data, nonce->data, datagram.remote, header.initiator_spi, now);
  if (!receives) demand_cookie(datagram, header, nonce->data, now);
  if (receives && room == Room::none) ignored(datagram, "too many half-open IKE SAs, and nobody has more of them");
  return receives && room != Room::none;
}

Manager::Room Manager::room_for(const Endpoint& remote) const {
  const bool full_here = half_open_.of_address(remote) >= setup_.limits.half_open_per_address;
  if (!full_here && half_open_.size() < setup_.limits.half_open) return Room::there;
  return half_open_.gives_way_to(remote, full_here) ? Room::made : Room::none;
}

// Only once its own IKE SA is there: one that is refused takes nobody's place.
void Manager::make_room_for(const Endpoint& remote, Time now) {
  const bool full_here = half_open_.of_address(remote) >= setup_.limits.half_open_per_address;
  if (!full_here && half_open_.size() < setup_.limits.half_open) return;
  if (const auto other = half_open_.gives_way_to(remote, full_here)) close(*other, now, false);
}

void Manager::demand_cookie(const Datagram& datagram, const Header& header, Bytes nonce, Time now) {
  auto cookie = cookies_.make(nonce, datagram.remote, header.initiator_spi, now);
  if (!cookie) return;
  Message message{response_to(header), {}};
  message.add_notify(NotifyType::cookie, std::move(*cookie));
  answer(datagram, message);
}

void Manager::refuse_stranger(const Datagram& datagram, const Header& header, Time now) {
  if (!unprotected_answers_.take(now)) return;
  Event event;
  event.kind = EventKind::attempt_failed;
  event.local = datagram.local;
  event.remote = datagram.remote;
  event.spi_i = header.initiator_spi;
  Failure failure;
  failure.kind = FailureKind::no_connection;
  failure.summary = fmt::format("no crypto map entry or tunnel between {} and {}", datagram.local.address.text(),
                                datagram.remote.address.text());
  failure.offered = "IKE_SA_INIT from " + datagram.remote.address.text();
  failure.remedy = fmt::format("set peer {} in a crypto map of the interface with {}, or a tunnel between both",
                               datagram.remote.address.text(), datagram.local.address.text());
  event.text = failure.summary;
  event.failure = std::move(failure);
  tell(event);
  Message message{response_to(header), {}};
  message.add_notify(NotifyType::no_proposal_chosen);
  answer(datagram, message);
}

// RFC 7296 §2.5: a request of a higher major version is answered with the highest that we speak.
void Manager::refuse_version(const Datagram& datagram, Time now) {
  const auto header = foreign_header(datagram.bytes);
  ignored(datagram, "a major version that is not 2");
  if (!header || header->response || !unprotected_answers_.take(now)) return;
  Message message{response_to(*header), {}};
  message.add_notify(NotifyType::invalid_major_version);
  answer(datagram, message);
}

// RFC 7296 §2.21.4: outside an IKE SA that we know only a request may be answered, without protection. §1.5: it is an
// encrypted one, of an IKE SA that there was. What comes without protection is no exchange, as the one-way INVALID_SPI,
// whose SPIs are zero or random: two that answered each other's would never end.
void Manager::answer_unknown_spi(const Datagram& datagram, const Header& header, Time now) {
  ignored(datagram, fmt::format("{} {} for an IKE SA that is not here", text(header.exchange),
                                header.response ? "response" : "request"));
  const bool of_an_ike_sa = header.initiator_spi != 0 && header.responder_spi != 0 && is_protected(datagram.bytes);
  if (header.response || !of_an_ike_sa || !unprotected_answers_.take(now)) return;
  Message message{response_to(header), {}};
  message.add_notify(NotifyType::invalid_ike_spi);
  show_crash_tokens(header, message);
  answer(datagram, message);
}

// RFC 6290 §4.5: to who seems to have an IKE SA with us that is not here. Of one that is here the token is never shown,
// also not to somebody who takes its SPIs with the other end's flag I.
void Manager::show_crash_tokens(const Header& header, Message& answer) {
  if (find(header.initiator_spi) != nullptr || find(header.responder_spi) != nullptr) return;
  if (std::ranges::none_of(policy_->connections, [](const auto& one) { return one->options.crash_detection; })) return;
  for (Octets& token : crash_tokens_.tokens(header.initiator_spi, header.responder_spi))
    answer.add_notify(NotifyType::quick_crash_detection, std::move(token));
}

}  // namespace postern::ike
