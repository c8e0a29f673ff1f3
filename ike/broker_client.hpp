// The asking end of the descriptor broker (base/broker_protocol.hpp). Nothing here waits: posternd may itself wait for
// an answer of ours when we ask.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "base/broker_protocol.hpp"
#include "base/fd.hpp"
#include "base/net_types.hpp"
#include "base/result.hpp"

namespace postern::ike {

class BrokerClient {
 public:
  // Called once for each request, from on_ready(); not at all when posternd goes before.
  using Take = std::function<void(Result<Fd>)>;

  BrokerClient() = default;
  explicit BrokerClient(Fd socket) : socket_(std::move(socket)) {}
  [[nodiscard]] explicit operator bool() const { return static_cast<bool>(socket_); }
  [[nodiscard]] int fd() const { return socket_.get(); }

  // Non-blocking UDP socket with packet information. `vrf`: routing table, 0 main.
  [[nodiscard]] Result<void> udp_socket(std::uint32_t vrf, Family family, std::uint16_t port, Take take);
  // Our end of the client channel of worker/sa_channel.hpp. EAGAIN while no worker runs.
  [[nodiscard]] Result<void> worker_channel(Take take);
  // Our end of pki/channel.hpp. EAGAIN while no postern-pki runs.
  [[nodiscard]] Result<void> pki_channel(Take take);
  // Our end of resolver/channel.hpp. EAGAIN while no postern-resolver runs.
  [[nodiscard]] Result<void> resolver_channel(Take take);

  // The address that a peer has lent the tunnel interface, instead of the one of the family before; nothing: none. The
  // answer has no descriptor.
  [[nodiscard]] Result<void> tunnel_address(const std::string& interface, Family family,
                                            const std::optional<IpAddress>& address, Take take);

  // The socket is readable. Error: posternd is gone.
  [[nodiscard]] Result<void> on_ready();

 private:
  [[nodiscard]] Result<void> ask(BrokerRequest request, Take take);
  Fd socket_;
  std::uint64_t next_id_ = 1;
  struct Waiting {
    Take take;
    bool for_descriptor = true;
  };
  std::map<std::uint64_t, Waiting> waiting_;
};

}  // namespace postern::ike
