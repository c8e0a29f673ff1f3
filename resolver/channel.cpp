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

namespace {

constexpr FrameChannel channel{"resolver", 1, 1024};

bool sound(const Question& question) {
  return !question.name.empty() && question.name.size() <= max_name_bytes &&
         question.name.find('\0') == std::string::npos &&
         (question.family == Family::v4 || question.family == Family::v6);
}
// Text of the other end goes into logs and onto terminals.
bool sound(const Answer& answer) {
  const auto printable = [](char c) { return c >= 0x20 && c < 0x7f; };
  return answer.outcome <= Outcome::busy && answer.detail.size() <= max_detail_bytes &&
         std::ranges::all_of(answer.detail, printable) && answer.addresses.size() <= max_addresses &&
         (answer.outcome == Outcome::found) == !answer.addresses.empty();
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
