// Bytes and descriptors in one message over a Unix socket.
#pragma once

#include <cstddef>
#include <span>

#include <sys/types.h>
#include <sys/uio.h>

namespace postern {

inline constexpr std::size_t max_sent_descriptors = 8;

// sendmsg() with `descriptors` as SCM_RIGHTS; they are borrowed, none is fine. Raises no SIGPIPE: the result is
// sendmsg's, with errno. EINVAL: more descriptors than max_sent_descriptors. `flags`: MSG_DONTWAIT never blocks, 0 does
// as the socket's own mode says. `parts` are one message; their bytes are only read.
[[nodiscard]] ssize_t send_descriptors(int socket, std::span<const iovec> parts, std::span<const int> descriptors,
                                       int flags);
[[nodiscard]] ssize_t send_descriptors(int socket, std::span<const std::byte> bytes, std::span<const int> descriptors);

}  // namespace postern
