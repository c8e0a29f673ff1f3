#include "ike/eap_mschapv2.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>

#include <fmt/format.h>

namespace postern::ike {
namespace {

enum class OpCode : std::uint8_t { challenge = 1, response = 2, success = 3, failure = 4 };
constexpr std::uint8_t response_value_bytes = 49, reserved_bytes = 8;
constexpr std::size_t max_name_bytes = 256, max_text_bytes = 512, said_bytes = 42;  // "S=" and 40 digits

std::string text_of(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

// OpCode, MS-CHAPv2-ID, MS-Length: what follows the type, itself included.
Octets encode(OpCode op, std::uint8_t chap_id, Bytes body) {
  OctetWriter out;
  out.u8(static_cast<std::uint8_t>(op));
  out.u8(chap_id);
  out.u16(static_cast<std::uint16_t>(4 + body.size()));
  out.bytes(body);
  return out.take();
}

struct Frame {
  OpCode op{};
  std::uint8_t chap_id = 0;
  Bytes body;
};

// The last two of the peer are their OpCode alone; some peers send the header as well.
std::optional<Frame> frame_in(Bytes data) {
  ByteReader in(data);
  Frame out;
  const std::uint8_t op = in.u8();
  if (!in.ok() || op < 1 || op > 4) return std::nullopt;
  out.op = OpCode{op};
  if (in.remaining() == 0) return out;
  out.chap_id = in.u8();
  const std::uint16_t length = in.u16();
  out.body = in.rest();
  if (!in.ok() || length != data.size()) return std::nullopt;
  return out;
}

struct Response {
  MschapChallenge peer{};
  MschapResponse response{};
  std::string name;
};
std::optional<Response> response_in(Bytes body) {
  ByteReader in(body);
  const std::uint8_t size = in.u8();
  Response out;
  out.peer = in.array<mschap_challenge_bytes>();
  in.skip(reserved_bytes);
  out.response = in.array<mschap_response_bytes>();
  in.skip(1);  // flags
  out.name = text_of(in.rest());
  return in.ok() && size == response_value_bytes && out.name.size() <= max_name_bytes ? std::optional(std::move(out))
                                                                                      : std::nullopt;
}

Octets encode(const Response& in) {
  std::array<std::byte, 1 + response_value_bytes> value{};  // reserved bytes and flags are zero
  ByteWriter out(value);
  out.u8(response_value_bytes);
  out.bytes(in.peer);
  out.zeros(reserved_bytes);
  out.bytes(in.response);
  Octets whole = octets_of(value);
  const Bytes name = as_bytes(in.name);
  whole.insert(whole.end(), name.begin(), name.end());
  return whole;
}

bool same_digits(std::string_view a, std::string_view b) {
  const auto upper = [](char c) { return std::toupper(static_cast<unsigned char>(c)); };
  return std::ranges::equal(a, b, {}, upper, upper);
}

}  // namespace

// --- server

EapMethodStep EapMschapv2Server::begin(const EapServerContext& context, std::uint8_t identifier) {
  if (!context.random(challenge_)) return EapMethodStep::fail(EapFault::internal, "no random numbers");
  chap_id_ = identifier;
  OctetWriter out;
  out.u8(mschap_challenge_bytes);
  out.bytes(challenge_);
  out.bytes(as_bytes(context.server_name));
  return EapMethodStep::send(encode(OpCode::challenge, chap_id_, out.take()));
}

EapMethodStep EapMschapv2Server::take(const EapServerContext& context, const EapPacket& response) {
  const auto frame = frame_in(response.data);
  if (!frame) return EapMethodStep::fail(EapFault::malformed, "an EAP-MSCHAPv2 response that cannot be read");
  if (awaits_ == Awaits::response && frame->op == OpCode::response && frame->chap_id == chap_id_)
    return judge(context, frame->body);
  if (awaits_ == Awaits::success && frame->op == OpCode::success) return EapMethodStep::done();
  if (awaits_ == Awaits::success && frame->op == OpCode::failure)
    return EapMethodStep::fail(EapFault::refused, "the peer does not believe that we know the password");
  // Whatever it says to our failure: it ends here.
  if (awaits_ == Awaits::failure) return {EapMethodStep::Kind::failed, {}, failure_, {}};
  return EapMethodStep::fail(EapFault::malformed, "an EAP-MSCHAPv2 response out of its turn");
}

// An unknown user is told no sooner and no other than a wrong password.
EapMethodStep EapMschapv2Server::judge(const EapServerContext& context, Bytes data) {
  const auto said = response_in(data);
  if (!said) return EapMethodStep::fail(EapFault::malformed, "an EAP-MSCHAPv2 response of another size");
  user_ = said->name;
  if (context.user && *context.user != user_)
    return EapMethodStep::fail(EapFault::malformed, "the names in EAP-Identity and EAP-MSCHAPv2 differ");
  const auto known = context.password(user_);
  const auto hash = nt_password_hash(known ? *known : Secret::copy_of(as_bytes("nobody")));
  const MschapExchange exchange{challenge_, said->peer, user_};
  const auto expected = hash ? nt_response(exchange, *hash) : std::unexpected(hash.error());
  if (!known) return refuse(EapFault::unknown_user);
  if (!expected) return EapMethodStep::fail(EapFault::internal, expected.error().message());
  if (!equal_in_constant_time(*expected, said->response)) return refuse(EapFault::wrong_password);
  auto key = mschap_msk(*hash, *expected);
  const auto proof = authenticator_response(exchange, *hash, *expected);
  if (!key || !proof) return EapMethodStep::fail(EapFault::internal, "no key can be made");
  key_ = std::move(*key);
  awaits_ = Awaits::success;
  return EapMethodStep::send(encode(OpCode::success, chap_id_, as_bytes(*proof + " M=OK")));
}

// RFC 2759 §6: 691 is "authentication failure"; R=0, no second try.
EapMethodStep EapMschapv2Server::refuse(EapFault fault) {
  awaits_ = Awaits::failure;
  failure_ = {fault, user_};
  std::string text = "E=691 R=0 C=";
  for (const std::byte one : challenge_) text += fmt::format("{:02X}", std::to_integer<unsigned>(one));
  return EapMethodStep::send(encode(OpCode::failure, chap_id_, as_bytes(text + " V=3 M=Authentication failed")));
}

// --- peer

EapMethodStep EapMschapv2Peer::take(const EapPeerContext& context, const EapPacket& request) {
  const auto frame = frame_in(request.data);
  if (!frame) return EapMethodStep::fail(EapFault::malformed, "an EAP-MSCHAPv2 request that cannot be read");
  if (awaits_ == Awaits::challenge && frame->op == OpCode::challenge) {
    auto step = answer(context, frame->body);
    if (step.kind == EapMethodStep::Kind::more) step.data = encode(OpCode::response, frame->chap_id, step.data);
    return step;
  }
  if (awaits_ == Awaits::outcome && frame->op == OpCode::success) return judge(frame->body);
  if (awaits_ == Awaits::outcome && frame->op == OpCode::failure) {
    awaits_ = Awaits::end;
    return EapMethodStep::send({static_cast<std::byte>(OpCode::failure)});
  }
  return EapMethodStep::fail(EapFault::malformed, "an EAP-MSCHAPv2 request out of its turn");
}

EapMethodStep EapMschapv2Peer::answer(const EapPeerContext& context, Bytes data) {
  ByteReader in(data);
  const std::uint8_t size = in.u8();
  Response said;
  const MschapChallenge challenge = in.array<mschap_challenge_bytes>();
  const Bytes name = in.rest();
  if (!in.ok() || size != mschap_challenge_bytes || name.size() > max_name_bytes)
    return EapMethodStep::fail(EapFault::malformed, "an EAP-MSCHAPv2 challenge of another size");
  const auto hash = nt_password_hash(context.password);
  if (!hash) return EapMethodStep::fail(EapFault::internal, hash.error().message());
  if (!context.random(said.peer)) return EapMethodStep::fail(EapFault::internal, "no random numbers");
  const MschapExchange exchange{challenge, said.peer, context.user};
  const auto response = nt_response(exchange, *hash);
  if (!response) return EapMethodStep::fail(EapFault::internal, response.error().message());
  said.response = *response;
  said.name = context.user;
  auto expected = authenticator_response(exchange, *hash, *response);
  auto key = mschap_msk(*hash, *response);
  if (!expected || !key) return EapMethodStep::fail(EapFault::internal, "no key can be made");
  expected_ = std::move(*expected);
  key_ = std::move(*key);
  awaits_ = Awaits::outcome;
  return EapMethodStep::send(encode(said));
}

// RFC 2759 §5: "S=<auth_string> M=<message>".
EapMethodStep EapMschapv2Peer::judge(Bytes message) {
  const std::string said = text_of(message.first(std::min(message.size(), max_text_bytes)));
  if (!same_digits(std::string_view(said).substr(0, said_bytes), expected_))
    return EapMethodStep::fail(EapFault::not_authentic, "the server does not know the password");
  awaits_ = Awaits::nothing;
  return EapMethodStep::send({static_cast<std::byte>(OpCode::success)});
}

}  // namespace postern::ike
