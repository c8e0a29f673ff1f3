#include "worker/sa_channel.hpp"

#include <algorithm>

#include <poll.h>
#include <sys/socket.h>

#include "base/clock.hpp"
#include "base/descriptors.hpp"
#include "base/secret.hpp"
#include "base/send_descriptors.hpp"

namespace postern {
namespace {

// Events nobody took yet; past this the oldest go: a Resolve is asked again, a failed device fails again.
constexpr std::size_t max_kept_events = 256;
static_assert(max_channel_fds <= max_sent_descriptors);

union ControlBuffer {
  cmsghdr align;
  std::array<char, CMSG_SPACE(sizeof(int) * max_channel_fds)> bytes;
};

Result<void> send_with(int socket, const ChannelHeader& header, std::span<const std::byte> body,
                       std::span<const int> fds, int flags) {
  if (sizeof header + body.size() > max_channel_message || fds.size() > max_channel_fds)
    return fail("sa channel: message too long", EMSGSIZE);
  const std::array<iovec, 2> parts = {
      {{const_cast<ChannelHeader*>(&header), sizeof header}, {const_cast<std::byte*>(body.data()), body.size()}}};
  while (send_descriptors(socket, parts, fds, flags) < 0)
    if (errno != EINTR) return fail_errno("sa channel: send");
  return {};
}

Result<ChannelMessage> receive_with(int socket, int flags) {
  std::array<std::byte, max_channel_message> buffer;
  ControlBuffer control{};
  iovec part{buffer.data(), buffer.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes.data();
  header.msg_controllen = control.bytes.size();
  ssize_t got = -1;
  while ((got = ::recvmsg(socket, &header, flags | MSG_CMSG_CLOEXEC)) < 0)
    if (errno != EINTR) return fail_errno("sa channel: receive");
  const auto size = static_cast<std::size_t>(got);
  ChannelMessage message;
  message.fds = take_descriptors(header);
  if (size == 0) return fail("sa channel: the peer closed it", ECONNRESET);
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || size < sizeof message.header) {
    wipe(std::span(buffer).first(size));
    return fail("sa channel: message too long or cut short", EPROTO);
  }
  std::memcpy(&message.header, buffer.data(), sizeof message.header);
  message.body.assign(buffer.data() + sizeof message.header, buffer.data() + size);
  wipe(std::span(buffer).first(size));
  if (message.header.version != sa_channel_version) return fail("sa channel: the peer speaks another version", EPROTO);
  return message;
}

std::int64_t now_ns() { return static_cast<std::int64_t>(monotonic_ns()); }

// Error ETIMEDOUT when the socket is not ready for `events` at `deadline_ns`.
Result<void> wait_ready(int socket, short events, std::int64_t deadline_ns) {
  for (;;) {
    const auto left_ms = std::max<std::int64_t>(0, (deadline_ns - now_ns() + 999'999) / 1'000'000);
    pollfd ready{socket, events, 0};
    const int count = ::poll(&ready, 1, static_cast<int>(left_ms));
    if (count > 0) return {};
    if (count < 0 && errno != EINTR) return fail_errno("sa channel: poll");
    if (count == 0) return fail("sa channel: no answer in time", ETIMEDOUT);
  }
}

Result<void> append_rows(const ChannelMessage& message, std::vector<SaRow>& rows) {
  const std::size_t count = message.body.size() / sizeof(SaRow);
  if (count > max_sa_rows || message.body.size() % sizeof(SaRow) != 0)
    return fail("sa channel: message body has the wrong size", EPROTO);
  for (std::size_t i = 0; i < count; ++i)
    std::memcpy(&rows.emplace_back(), message.body.data() + i * sizeof(SaRow), sizeof(SaRow));
  return {};
}

}  // namespace

ChannelMessage::~ChannelMessage() { wipe(body); }

ChannelMessage& ChannelMessage::operator=(ChannelMessage&& other) noexcept {
  if (this == &other) return *this;
  wipe(body);
  header = other.header;
  body = std::move(other.body);
  fds = std::move(other.fds);
  return *this;
}

Result<void> channel_send(int socket, ChannelType type, std::uint64_t id, std::span<const std::byte> body,
                          std::span<const int> fds) {
  return send_with(socket, {sa_channel_version, type, id}, body, fds, 0);
}

Result<ChannelMessage> channel_receive(int socket) { return receive_with(socket, 0); }

Result<Reply> SaChannel::ask_bytes(ChannelType type, std::span<const std::byte> body, std::span<const int> fds,
                                   int timeout_ms, std::vector<Fd>* received) {
  return ask_collecting(type, body, fds, timeout_ms, received, nullptr);
}

Result<Reply> SaChannel::ask_collecting(ChannelType type, std::span<const std::byte> body, std::span<const int> fds,
                                        int timeout_ms, std::vector<Fd>* received, std::vector<SaRow>* rows) {
  const std::int64_t deadline = now_ns() + std::int64_t{timeout_ms} * 1'000'000;
  const std::uint64_t id = next_id_++;
  for (;;) {
    const auto sent = send_with(socket_.get(), {sa_channel_version, type, id}, body, fds, MSG_DONTWAIT);
    if (sent) break;
    if (sent.error().code != EAGAIN) return std::unexpected(sent.error());
    POSTERN_CHECK(wait_ready(socket_.get(), POLLOUT, deadline));
  }
  return wait_for(id, deadline, received, rows);
}

Result<std::vector<SaRow>> SaChannel::list_sas(std::uint32_t first, std::uint32_t last, int timeout_ms) {
  std::vector<SaRow> rows;
  while (first <= last) {
    const ListSas body{first, last};
    POSTERN_TRY(reply, ask_collecting(ChannelType::list_sas, std::as_bytes(std::span(&body, 1)), {}, timeout_ms,
                                      nullptr, &rows));
    if (reply.value <= first) break;
    first = reply.value;
  }
  return rows;
}

Result<Reply> SaChannel::wait_for(std::uint64_t id, std::int64_t deadline_ns, std::vector<Fd>* received,
                                  std::vector<SaRow>* rows) {
  for (;;) {
    POSTERN_CHECK(wait_ready(socket_.get(), POLLIN, deadline_ns));
    auto message = receive_with(socket_.get(), MSG_DONTWAIT);
    if (!message && message.error().code == EAGAIN) continue;
    if (!message) return std::unexpected(message.error());
    if (message->header.type == ChannelType::sa_rows) {
      if (message->header.id == id && rows != nullptr) POSTERN_CHECK(append_rows(*message, *rows));
      continue;
    }
    if (message->header.type != ChannelType::reply) {
      keep(std::move(*message));
      continue;
    }
    if (message->header.id != id) continue;  // the late answer to a question that timed out
    Reply reply;
    POSTERN_CHECK(message->read_into(reply));
    reply.text.back() = '\0';
    if (received != nullptr) *received = std::move(message->fds);
    if (reply.code != 0) return fail(reply.text.data(), reply.code);
    return reply;
  }
}

void SaChannel::keep(ChannelMessage message) {
  if (events_.size() == max_kept_events) events_.erase(events_.begin());
  events_.push_back(std::move(message));
}

Result<std::vector<ChannelMessage>> SaChannel::take_events() {
  for (;;) {
    auto message = receive_with(socket_.get(), MSG_DONTWAIT);
    if (!message && message.error().code == EAGAIN) return std::exchange(events_, {});
    if (!message) return std::unexpected(message.error());
    const bool late = message->header.type == ChannelType::reply || message->header.type == ChannelType::sa_rows;
    if (!late) keep(std::move(*message));
  }
}

}  // namespace postern
