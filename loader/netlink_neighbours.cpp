// Neighbours of loader/netlink.hpp.
#include <cerrno>

#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "loader/netlink.hpp"
#include "loader/netlink_parse.hpp"

namespace postern::loader {
namespace {

ndmsg neighbour_header(std::uint32_t ifindex, const IpAddress& address) {
  ndmsg header{};
  header.ndm_family = address.family() == Family::v4 ? AF_INET : AF_INET6;
  header.ndm_ifindex = static_cast<int>(ifindex);
  return header;
}

std::string describe(std::uint32_t ifindex, const IpAddress& address) {
  return "neighbour " + address.text() + " on link " + std::to_string(ifindex);
}

}  // namespace

bool Neighbour::usable() const {
  // A stale address is the last one known and is what the kernel itself would send to.
  constexpr std::uint16_t with_address = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP;
  return has_mac && (state & with_address) != 0;
}

bool Neighbour::permanent() const { return (state & NUD_PERMANENT) != 0; }
bool Neighbour::failed() const { return (state & NUD_FAILED) != 0; }

std::optional<Neighbour> parse_neighbour(const nlmsghdr* message) {
  if (nlmsg_datalen(message) < static_cast<int>(sizeof(ndmsg))) return std::nullopt;
  const auto* const header = static_cast<const ndmsg*>(nlmsg_data(message));
  // AF_BRIDGE messages are forwarding entries.
  if (header->ndm_family != AF_INET && header->ndm_family != AF_INET6) return std::nullopt;
  const Attributes attributes(message, sizeof *header);
  const auto address = attributes.address(NDA_DST);
  if (!address) return std::nullopt;
  Neighbour neighbour;
  neighbour.ifindex = static_cast<std::uint32_t>(header->ndm_ifindex);
  neighbour.address = *address;
  // A removal tells what the entry was.
  const bool removed = message->nlmsg_type == RTM_DELNEIGH;
  neighbour.state = removed ? std::uint16_t{NUD_NONE} : header->ndm_state;
  neighbour.extern_learned = (header->ndm_flags & NTF_EXT_LEARNED) != 0;
  neighbour.managed = !removed && (attributes.value<std::uint32_t>(NDA_FLAGS_EXT) & NTF_EXT_MANAGED) != 0;
  neighbour.protocol = attributes.value<std::uint8_t>(NDA_PROTOCOL);
  if (const auto mac = attributes.bytes(NDA_LLADDR); mac.size() == neighbour.mac.size()) {
    std::memcpy(neighbour.mac.data(), mac.data(), mac.size());
    neighbour.has_mac = true;
  }
  return neighbour;
}

Result<std::vector<Neighbour>> Netlink::neighbours() {
  std::vector<Neighbour> found;
  NetlinkMessage request(RTM_GETNEIGH, 0, ndmsg{});
  POSTERN_CHECK(socket_.dump(
      request, "list neighbours",
      [&](const nlmsghdr* message) {
        if (message->nlmsg_type != RTM_NEWNEIGH) return;
        if (auto neighbour = parse_neighbour(message)) found.push_back(std::move(*neighbour));
      },
      [&] { found.clear(); }));
  return found;
}

Result<std::optional<Neighbour>> Netlink::neighbour(std::uint32_t ifindex, const IpAddress& address) {
  std::optional<Neighbour> found;
  NetlinkMessage request(RTM_GETNEIGH, 0, neighbour_header(ifindex, address));
  request.put_address(NDA_DST, address);
  const auto asked = socket_.ask(request, describe(ifindex, address), [&](const nlmsghdr* message) {
    if (message->nlmsg_type == RTM_NEWNEIGH) found = parse_neighbour(message);
  });
  if (!asked && asked.error().code != ENOENT) return std::unexpected(asked.error());
  return found;
}

// NTF_USE starts resolution and leaves state and address of an existing entry alone, on every kernel. NTF_EXT_MANAGED
// beside it is taken by 5.16 and newer and ignored by older ones; without it the flag is taken away again.
Result<void> Netlink::neighbour_request(std::uint32_t ifindex, const IpAddress& address, bool managed,
                                        bool extern_learned) {
  ndmsg header = neighbour_header(ifindex, address);
  header.ndm_flags = static_cast<std::uint8_t>(NTF_USE | (extern_learned ? NTF_EXT_LEARNED : 0));
  NetlinkMessage request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, header);
  request.put_address(NDA_DST, address);
  if (managed) {
    request.put_u32(NDA_FLAGS_EXT, NTF_EXT_MANAGED);
    request.put_u8(NDA_PROTOCOL, route_protocol);
  }
  return socket_.ask(request, describe(ifindex, address));
}

Result<bool> Netlink::keep_neighbour(std::uint32_t ifindex, const IpAddress& address) {
  POSTERN_TRY(before, neighbour(ifindex, address));
  // An operator's permanent entry would lose its permanence by NTF_USE.
  if (before && (before->permanent() || before->managed)) return true;
  POSTERN_CHECK(neighbour_request(ifindex, address, true, before && before->extern_learned));
  POSTERN_TRY(after, neighbour(ifindex, address));
  return after && after->managed;
}

Result<void> Netlink::release_neighbour(std::uint32_t ifindex, const IpAddress& address) {
  POSTERN_TRY(before, neighbour(ifindex, address));
  if (!before || !before->managed || before->protocol != route_protocol) return {};
  return neighbour_request(ifindex, address, false, before->extern_learned);
}

Result<void> Netlink::probe_neighbour(std::uint32_t ifindex, const IpAddress& address) {
  POSTERN_TRY(before, neighbour(ifindex, address));
  if (before && (before->permanent() || before->managed)) return {};
  return neighbour_request(ifindex, address, false, before && before->extern_learned);
}

}  // namespace postern::loader
