// IKEv2 messages (RFC 7296 §3.1, §3.2, §3.14): bytes to values and back. Bytes are without the non-ESP marker (§3.1).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "crypto/ike_cipher.hpp"
#include "ike/payloads.hpp"

namespace postern::ike {

inline constexpr std::size_t header_bytes = 28;
inline constexpr std::size_t max_message_bytes = 65535 - 8 - 4;
inline constexpr std::size_t max_fragments = 256;  // of one message, ours and a peer's

struct Header {
  std::uint64_t initiator_spi = 0, responder_spi = 0;
  ExchangeType exchange{};
  bool from_initiator = false;  // flag I: sent by the original initiator of the IKE SA
  bool response = false;        // flag R
  std::uint32_t message_id = 0;
  bool operator==(const Header&) const = default;
};

struct Message {
  Header header;
  std::vector<Payload> payloads;  // in order; of an encrypted message, those inside

  template <class T>
  [[nodiscard]] const T* find(PayloadType type) const {
    for (const Payload& p : payloads)
      if (p.type == type) return std::get_if<T>(&p.body);
    return nullptr;
  }
  [[nodiscard]] const NotifyPayload* notify(NotifyType type) const;
  // The first notify of an error type.
  [[nodiscard]] const NotifyPayload* error() const;

  // Builders: append a payload.
  Message& add(PayloadType type, decltype(Payload::body) body);
  Message& add_notify(NotifyType type, Octets data = {}, ProtocolId protocol = ProtocolId::none, Octets spi = {});
};

// The header alone: to find the IKE SA. Error: too short, a length that is not the datagram's, a major version above 2
// (unsupported_version) or below (bad_value), an initiator SPI of zero other than in an INFORMATIONAL (RFC 7296 §1.5).
[[nodiscard]] Parsed<Header> parse_header(Bytes datagram);

// A message without an Encrypted payload: IKE_SA_INIT, and notifies outside an IKE SA.
[[nodiscard]] Parsed<Message> parse_message(Bytes datagram);
// One whose last payload is Encrypted: verified, decrypted, its inner payloads parsed. Payloads before it are refused.
// not_authentic and not_protected mean that nothing in it may be believed, other errors that the peer said it.
[[nodiscard]] Parsed<Message> open_message(Bytes datagram, const crypto::IkeCipher& cipher);

[[nodiscard]] Octets encode_message(const Message& message);
// Everything in one Encrypted payload.
[[nodiscard]] Result<Octets> seal_message(const Message& message, crypto::IkeCipher& cipher);

// --- RFC 7383. Datagrams of at most `most` bytes: one as seal_message() makes it, or fragments where that is longer.
[[nodiscard]] Result<std::vector<Octets>> seal_message_within(const Message& message, crypto::IkeCipher& cipher,
                                                              std::size_t most);

// What a fragment says of itself; nobody has vouched for it yet. Nothing: it is no message of one Encrypted Fragment
// payload and nothing beside, or its numbers are impossible (§2.6: not 1 <= number <= total).
struct FragmentNumber {
  std::uint16_t number = 0, total = 0;
};
[[nodiscard]] std::optional<FragmentNumber> fragment_number(Bytes datagram);

struct Fragment {
  Header header;
  FragmentNumber place;
  PayloadType first_inside{};  // of the first fragment; none in the others
  Octets plain;
};
// Verified and decrypted. Errors are not_protected and not_authentic alone.
[[nodiscard]] Parsed<Fragment> open_fragment(Bytes datagram, const crypto::IkeCipher& cipher);
// The message that all of them make: `header` of any, `first_inside` of the first, `plain` of all in order.
[[nodiscard]] Parsed<Message> join_fragments(const Header& header, PayloadType first_inside, Bytes plain);

}  // namespace postern::ike
