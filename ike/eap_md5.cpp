#include "ike/eap_md5.hpp"

#include <array>

#include "crypto/digest.hpp"

namespace postern::ike {
namespace {

constexpr std::size_t challenge_bytes = 16, digest_bytes = 16;

// RFC 1994 §4.1: MD5 of identifier, secret and challenge.
Result<std::array<std::byte, digest_bytes>> answer_to(std::uint8_t identifier, const Secret& password,
                                                      Bytes challenge) {
  const std::array first = {static_cast<std::byte>(identifier)};
  return crypto::md5({first, password.bytes(), challenge});
}

// §4.1: Value-Size, Value, Name.
Octets encode(Bytes value, std::string_view name) {
  OctetWriter out;
  out.u8(static_cast<std::uint8_t>(value.size()));
  out.bytes(value);
  out.bytes(as_bytes(name));
  return out.take();
}

std::optional<Bytes> value_in(Bytes data) {
  ByteReader in(data);
  const Bytes value = in.take(in.u8());
  return in.ok() && !value.empty() ? std::optional(value) : std::nullopt;
}

}  // namespace

EapMethodStep EapMd5Server::begin(const EapServerContext& context, std::uint8_t identifier) {
  challenge_.resize(challenge_bytes);
  if (!context.random(challenge_)) return EapMethodStep::fail(EapFault::internal, "no random numbers");
  identifier_ = identifier;
  return EapMethodStep::send(encode(challenge_, context.server_name));
}

EapMethodStep EapMd5Server::take(const EapServerContext& context, const EapPacket& response) {
  const auto value = value_in(response.data);
  if (!value || value->size() != digest_bytes)
    return EapMethodStep::fail(EapFault::malformed, "an EAP-MD5 response of another size");
  if (!context.user) return EapMethodStep::fail(EapFault::unknown_user, "the peer has not said who it is");
  const auto password = context.password(*context.user);
  if (!password) return EapMethodStep::fail(EapFault::unknown_user, *context.user);
  const auto expected = answer_to(identifier_, *password, challenge_);
  if (!expected) return EapMethodStep::fail(EapFault::internal, expected.error().message());
  return equal_in_constant_time(*expected, *value) ? EapMethodStep::done()
                                                   : EapMethodStep::fail(EapFault::wrong_password, *context.user);
}

EapMethodStep EapMd5Peer::take(const EapPeerContext& context, const EapPacket& request) {
  const auto challenge = value_in(request.data);
  if (answered_ || !challenge)
    return EapMethodStep::fail(EapFault::malformed, "an EAP-MD5 request that is no challenge");
  const auto answer = answer_to(request.identifier, context.password, *challenge);
  if (!answer) return EapMethodStep::fail(EapFault::internal, answer.error().message());
  answered_ = true;
  return EapMethodStep::send(encode(*answer, context.user));
}

}  // namespace postern::ike
