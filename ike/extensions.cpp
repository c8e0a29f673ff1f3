// What both ends agree on beside keys: fragments (RFC 7383 §2.3), windows (RFC 7296 §2.3), MOBIKE (RFC 4555 §3.1),
// tokens (RFC 6290 §4.2).
#include <algorithm>

#include "ike/mobike.hpp"
#include "ike/session_core.hpp"

namespace postern::ike {
namespace {

// A peer that says it takes more is believed up to here.
constexpr std::uint32_t widest_window = 1024;

Octets number_octets(std::uint32_t number) {
  OctetWriter out;
  out.u32(number);
  return out.take();
}

}  // namespace

void offer_in_init(Message& message, const ProtocolOptions& options) {
  if (options.fragment_mtu != 0) message.add_notify(NotifyType::fragmentation_supported);
}

void note_init_offer(SessionCore& core, const Message& message, const ProtocolOptions& options) {
  core.fragment_mtu =
      message.notify(NotifyType::fragmentation_supported) == nullptr ? std::uint16_t{0} : options.fragment_mtu;
}

void offer_in_auth(SessionCore& core, Message& message) {
  const ProtocolOptions& options = core.connection->options;
  offer_window(core, message);
  // The responder tells it to who has told it.
  if (options.mobike && (core.initiator || core.mobike)) {
    message.add_notify(NotifyType::mobike_supported);
    offer_other_addresses(core, message);
  }
  add_crash_token(core, message);
}

void note_auth_offer(SessionCore& core, const Message& message) {
  const ProtocolOptions& options = core.connection->options;
  core.mobike = options.mobike && message.notify(NotifyType::mobike_supported) != nullptr;
  if (core.mobike) (void)take_other_addresses(core, message, core.remote);
  core.window_in = std::max<std::uint32_t>(1, options.window);
  note_window(core, message);
  note_crash_token(core, message);
}

void offer_window(const SessionCore& core, Message& message) {
  const std::uint32_t window = core.connection->options.window;
  if (window > 1) message.add_notify(NotifyType::set_window_size, number_octets(window));
}

// What is under way already stays under way where the peer says less than before.
void note_window(SessionCore& core, const Message& message) {
  const auto* const window = message.notify(NotifyType::set_window_size);
  if (window == nullptr || window->data.size() != 4) return;
  core.window_out = std::clamp(ByteReader(window->data).u32(), 1U, widest_window);
  core.told_window = true;
}

}  // namespace postern::ike
