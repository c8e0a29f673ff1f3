// Who may say what on the control socket: root and group `postern` everything, group `postern-ro` what only shows.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include <sys/types.h>

#include "base/result.hpp"

namespace postern::loader {

// The other end of a Unix socket, as the kernel vouches for it (SO_PEERCRED, SO_PEERGROUPS).
struct Peer {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
};
[[nodiscard]] Result<Peer> peer_of(int socket);

// Group ids of this machine; a group that does not exist grants nothing.
struct ControlGroups {
  std::optional<gid_t> full, read_only;
};
[[nodiscard]] ControlGroups control_groups();  // "postern", "postern-ro"

enum class Access : std::uint8_t { none, show, everything };
[[nodiscard]] Access access_of(const Peer& peer, const ControlGroups& groups);
[[nodiscard]] bool may_say(Access access, std::string_view command);

}  // namespace postern::loader
