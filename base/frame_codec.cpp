#include "base/frame_codec.hpp"

#include <sys/socket.h>

namespace postern {

Result<void> send_frame_bytes(int socket, const FrameChannel& channel, Bytes bytes) {
  const std::string name = std::string(channel.name) + " channel";
  if (bytes.size() > channel.max_bytes) return fail(name + ": too long", EMSGSIZE);
  if (::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return fail_errno(name);
  return {};
}

Result<std::optional<Bytes>> receive_frame_bytes(int socket, const FrameChannel& channel,
                                                 std::vector<std::byte>& buffer) {
  const std::string name = std::string(channel.name) + " channel";
  buffer.resize(channel.max_bytes);
  const ssize_t got = ::recv(socket, buffer.data(), buffer.size(), MSG_DONTWAIT | MSG_TRUNC);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return std::optional<Bytes>();
  if (got < 0) return fail_errno(name);
  if (got == 0) return fail(name + ": closed", ECONNRESET);
  if (static_cast<std::size_t>(got) > buffer.size()) return fail(name + ": too long", EMSGSIZE);
  return std::optional(Bytes(buffer).first(static_cast<std::size_t>(got)));
}

}  // namespace postern
