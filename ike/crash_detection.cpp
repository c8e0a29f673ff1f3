// Quick crash detection (RFC 6290), of one IKE SA: what is told about it, and what ends it.
#include <algorithm>

#include <fmt/format.h>

#include "ike/session_core.hpp"

namespace postern::ike {

bool gives_crash_tokens(const SessionCore& core) {
  return core.connection->options.crash_detection && static_cast<bool>(core.setup.surroundings->crash_token);
}

void add_crash_token(const SessionCore& core, Message& message) {
  if (!gives_crash_tokens(core)) return;
  if (auto token = core.setup.surroundings->crash_token(core.spi_i, core.spi_r))
    message.add_notify(NotifyType::quick_crash_detection, std::move(*token));
}

void note_crash_token(SessionCore& core, const Message& message) {
  if (!core.connection->options.crash_detection) return;
  if (const auto* const token = message.notify(NotifyType::quick_crash_detection))
    core.peer_token = Secret::copy_of(token->data);
}

void start_tell_token(SessionCore& core, Time now) {
  Message message = core.request(ExchangeType::informational);
  add_crash_token(core, message);
  if (core.told_window) offer_window(core, message);
  core.send_request(std::move(message), now, Probing{});
}

// The IKE SA ends without a word: there is nobody left who would understand it. Anybody may have sent the answer, so
// that one without the token, or with another, is as if it had never come; the request stays outstanding.
void on_unprotected_answer(SessionCore& core, Bytes datagram) {
  if (core.peer_token.empty()) return;
  const auto answer = parse_message(datagram);
  if (!answer || answer->notify(NotifyType::invalid_ike_spi) == nullptr) return;
  const bool shown = std::ranges::any_of(answer->payloads, [&](const Payload& p) {
    const auto* const notify = std::get_if<NotifyPayload>(&p.body);
    return notify != nullptr && notify->type == NotifyType::quick_crash_detection &&
           equal_in_constant_time(notify->data, core.peer_token.bytes());
  });
  if (shown) core.close_now(fmt::format("{} has lost the IKE SA", core.remote.address.text()), true);
}

}  // namespace postern::ike
