#include "loader/control_access.hpp"

#include <algorithm>

#include <grp.h>
#include <sys/socket.h>

namespace postern::loader {
namespace {

constexpr std::size_t max_groups = 1024;

std::optional<gid_t> group_id(const char* name) {
  const group* const entry = ::getgrnam(name);
  if (entry == nullptr) return std::nullopt;
  return entry->gr_gid;
}

bool is_member(const Peer& peer, const std::optional<gid_t>& group) {
  return group && (peer.gid == *group || std::ranges::find(peer.groups, *group) != peer.groups.end());
}

}  // namespace

Result<Peer> peer_of(int socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return fail_errno("SO_PEERCRED");
  Peer peer{credentials.uid, credentials.gid, std::vector<gid_t>(max_groups)};
  size = static_cast<socklen_t>(max_groups * sizeof(gid_t));
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, peer.groups.data(), &size) != 0) size = 0;
  peer.groups.resize(size / sizeof(gid_t));
  return peer;
}

ControlGroups control_groups() { return {group_id("postern"), group_id("postern-ro")}; }

Access access_of(const Peer& peer, const ControlGroups& groups) {
  if (peer.uid == 0 || is_member(peer, groups.full)) return Access::everything;
  if (is_member(peer, groups.read_only)) return Access::show;
  return Access::none;
}

bool may_say(Access access, std::string_view command) {
  if (access == Access::everything) return true;
  return access == Access::show && (command.starts_with("show ") || command == "config show");
}

}  // namespace postern::loader
