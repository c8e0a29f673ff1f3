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

}  // namespace postern::ike
