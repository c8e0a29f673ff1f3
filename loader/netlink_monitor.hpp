// What changed in the kernel's network, as a summary to act on: one non-blocking multicast socket.
#pragma once

#include <cstdint>
#include <vector>

#include "base/net_types.hpp"
#include "base/result.hpp"
#include "loader/netlink.hpp"

namespace postern::loader {

struct NetworkChanges {
  bool resync = false;     // messages were lost (ENOBUFS) or there were too many to list: everything may have changed
  bool routes = false;     // a route or a rule
  bool addresses = false;  // a local address
  bool traffic = false;    // a qdisc or a TC filter
  std::vector<std::uint32_t> links;      // changed or new; each once
  std::vector<std::uint32_t> gone;       // removed links
  std::vector<std::uint32_t> down = {};  // links that were down at one moment: the kernel took their routes; each once
  std::vector<Neighbour> neighbours;     // as they are now; a removed one has state 0 (NUD_NONE)

  [[nodiscard]] bool any() const {
    return resync || routes || addresses || traffic || !links.empty() || !gone.empty() || !neighbours.empty();
  }
};

// Namespace: the opening thread's. One thread.
class NetworkMonitor {
 public:
  [[nodiscard]] static Result<NetworkMonitor> open();
  // For epoll: readable when drain() has something to say.
  [[nodiscard]] int fd() const { return socket_.fd(); }
  // Everything since the last call; never blocks. ENOBUFS is not an error but `resync`.
  [[nodiscard]] Result<NetworkChanges> drain();

 private:
  explicit NetworkMonitor(NetlinkSocket socket) : socket_(std::move(socket)) {}
  NetlinkSocket socket_;
  std::vector<std::byte> buffer_;
};

}  // namespace postern::loader
