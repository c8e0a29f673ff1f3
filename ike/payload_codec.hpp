// One pair for each kind of payload body: bytes to value, value to bytes. Only payloads.cpp calls them. Reserved fields
// are written as zero and not looked at when read (RFC 7296 §2.5).
#pragma once

#include "ike/octets.hpp"
#include "ike/payloads.hpp"

namespace postern::ike {

template <class T>
using Decoded = Result<T, ParseError>;
[[nodiscard]] inline std::unexpected<ParseError> refuse(ParseError error) { return std::unexpected(error); }

// payload_sa.cpp: §3.3.
[[nodiscard]] Decoded<SaPayload> decode_sa(Bytes body);
void encode(OctetWriter& out, const SaPayload& sa);

// payload_key_exchange.cpp: §3.4, §3.9.
[[nodiscard]] Decoded<KePayload> decode_ke(Bytes body);
[[nodiscard]] Decoded<NoncePayload> decode_nonce(Bytes body);
void encode(OctetWriter& out, const KePayload& ke);
void encode(OctetWriter& out, const NoncePayload& nonce);

// payload_identity.cpp: §3.5, §3.8.
[[nodiscard]] Decoded<IdPayload> decode_id(Bytes body);
[[nodiscard]] Decoded<AuthPayload> decode_auth(Bytes body);
void encode(OctetWriter& out, const IdPayload& id);
void encode(OctetWriter& out, const AuthPayload& auth);

// payload_certificate.cpp: §3.6, §3.7.
[[nodiscard]] Decoded<CertPayload> decode_certificate(Bytes body);
[[nodiscard]] Decoded<CertRequestPayload> decode_certificate_request(Bytes body);
void encode(OctetWriter& out, const CertPayload& certificate);
void encode(OctetWriter& out, const CertRequestPayload& request);

// payload_notify.cpp: §3.10, §3.11.
[[nodiscard]] Decoded<NotifyPayload> decode_notify(Bytes body);
[[nodiscard]] Decoded<DeletePayload> decode_delete(Bytes body);
void encode(OctetWriter& out, const NotifyPayload& notify);
void encode(OctetWriter& out, const DeletePayload& del);

// payload_ts.cpp: §3.13.
[[nodiscard]] Decoded<TsPayload> decode_ts(Bytes body);
void encode(OctetWriter& out, const TsPayload& ts);

// payload_configuration.cpp: §3.15.
[[nodiscard]] Decoded<ConfigurationPayload> decode_configuration(Bytes body);
void encode(OctetWriter& out, const ConfigurationPayload& configuration);

}  // namespace postern::ike
