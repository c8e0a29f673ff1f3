#include "resolver/channel.hpp"

#include <algorithm>

namespace postern {

template <class C, FieldsOf<IpAddress> T>
void fields(C& c, T& v) {
  if constexpr (std::is_const_v<T>) {
    for (const std::uint8_t byte : v.mapped()) c(byte);
  } else {
    std::array<std::uint8_t, 16> bytes{};
    for (std::uint8_t& byte : bytes) c(byte);
    v = IpAddress::from_mapped(bytes);
  }
}

namespace resolver {

template <class C, FieldsOf<Question> T>
void fields(C& c, T& v) {
  c(v.name), c(v.family);
}
template <class C, FieldsOf<Answer> T>
void fields(C& c, T& v) {
  c(v.outcome), c(v.detail), c(v.addresses);
}
template <class C, FieldsOf<UrlQuestion> T>
void fields(C& c, T& v) {
  c(v.url), c(v.max_bytes);
}
template <class C, FieldsOf<UrlAnswer> T>
void fields(C& c, T& v) {
  c(v.outcome), c(v.detail), c(v.body);
}

namespace {

constexpr FrameChannel channel{"resolver", 2, max_body_bytes + 1024};

// Text of the other end goes into logs and onto terminals.
bool is_sound_text(const std::string& text) {
  return text.size() <= max_detail_bytes && std::ranges::all_of(text, [](char c) { return c >= 0x20 && c < 0x7f; });
}

bool sound(const Question& question) {
  return !question.name.empty() && question.name.size() <= max_name_bytes &&
         question.name.find('\0') == std::string::npos &&
         (question.family == Family::v4 || question.family == Family::v6);
}
bool sound(const Answer& answer) {
  return answer.outcome <= Outcome::busy && is_sound_text(answer.detail) && answer.addresses.size() <= max_addresses &&
         (answer.outcome == Outcome::found) == !answer.addresses.empty();
}
bool sound(const UrlQuestion& question) {
  return is_http_url(question.url) && question.max_bytes >= 1 && question.max_bytes <= max_body_bytes;
}
bool sound(const UrlAnswer& answer) {
  return answer.outcome <= UrlOutcome::busy && is_sound_text(answer.detail) && answer.body.size() <= max_body_bytes &&
         (answer.outcome == UrlOutcome::found || answer.body.empty());
}

}  // namespace

std::vector<std::byte> encode(const Frame& frame) { return encode_frame(channel, frame); }

Result<Frame> decode(Bytes datagram) {
  POSTERN_TRY(frame, decode_frame<FrameBody>(channel, datagram));
  if (!std::visit([](const auto& body) { return sound(body); }, frame.body))
    return fail("resolver channel: a value that is none", EPROTO);
  return frame;
}

Result<void> send_frame(int socket, const Frame& frame) { return send_frame_bytes(socket, channel, encode(frame)); }

Result<std::optional<Frame>> receive_frame(int socket, std::vector<std::byte>& buffer) {
  POSTERN_TRY(bytes, receive_frame_bytes(socket, channel, buffer));
  if (!bytes) return std::optional<Frame>();
  POSTERN_TRY(frame, decode(*bytes));
  return std::optional<Frame>(std::move(frame));
}

}  // namespace resolver
}  // namespace postern
