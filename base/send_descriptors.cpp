#include "base/send_descriptors.hpp"

#include <array>
#include <cerrno>
#include <cstring>

#include <sys/socket.h>

namespace postern {

ssize_t send_descriptors(int socket, std::span<const iovec> parts, std::span<const int> descriptors, int flags) {
  if (descriptors.size() > max_sent_descriptors) {
    errno = EINVAL;
    return -1;
  }
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts.data());
  message.msg_iovlen = parts.size();
  alignas(cmsghdr) std::array<char, CMSG_SPACE(max_sent_descriptors * sizeof(int))> control{};
  if (!descriptors.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* const rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size_bytes());
  }
  return ::sendmsg(socket, &message, flags | MSG_NOSIGNAL);
}

ssize_t send_descriptors(int socket, std::span<const std::byte> bytes, std::span<const int> descriptors) {
  const iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  return send_descriptors(socket, {&part, 1}, descriptors, MSG_DONTWAIT);
}

}  // namespace postern
