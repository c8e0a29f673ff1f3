// Descriptors that came with a datagram (SCM_RIGHTS).
#pragma once

#include <cstring>
#include <vector>

#include <sys/socket.h>

#include "base/fd.hpp"

namespace postern {

// All of them, in order, owned.
[[nodiscard]] inline std::vector<Fd> take_descriptors(msghdr& message) {
  std::vector<Fd> out;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
      out.emplace_back(fd);
    }
  }
  return out;
}

}  // namespace postern
