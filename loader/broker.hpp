// The typed descriptor broker: a child asks for a kind of descriptor, never for a path, a flag or a number of its
// choice beyond the fields of base/broker_protocol.hpp; what it may ask for is fixed when it is started. One datagram a
// request over its SOCK_SEQPACKET socket, answered at once by one BrokerReply, with the descriptor by SCM_RIGHTS when
// `code` is 0.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/broker_protocol.hpp"
#include "base/fd.hpp"
#include "base/net_types.hpp"
#include "base/result.hpp"

namespace postern::loader {

// What one child may have. Empty lists: nothing of that kind.
struct BrokerGrant {
  std::string child;  // for the log
  std::vector<std::uint16_t> udp_ports;
  std::vector<std::uint32_t> vrfs;  // for udp_socket and raw_*; 0 is the main table
  bool raw_esp = false, raw_icmp = false;
  std::vector<std::string> tuns;  // devices of the configuration, by name
  bool worker_channel = false;
  bool pki_channel = false, resolver_channel = false;
  bool tunnel_addresses = false;  // which and whence is the opener's to judge
};

// Who opens: loader/sockets and loader/devices, or a test.
struct BrokerOpeners {
  std::function<Result<Fd>(std::uint32_t vrf, Family family, std::uint16_t port)> udp_socket;
  std::function<Result<Fd>(std::uint32_t vrf, Family family)> raw_esp, raw_icmp;
  std::function<Result<Fd>(const std::string& name)> tun;
  std::function<Result<Fd>()> worker_channel = {}, pki_channel = {}, resolver_channel = {};
  // Opens nothing: an address that a peer lent, or none.
  std::function<Result<void>(const std::string& name, Family family, const std::optional<IpAddress>&)> tunnel_address =
      {};
};

class Broker {
 public:
  // At most this many descriptors in one life of a child: four sockets for each VRF, and some to spare for restarts.
  static constexpr std::uint32_t max_descriptors = 2048;

  Broker(Fd socket, BrokerGrant grant, BrokerOpeners openers)
      : socket_(std::move(socket)), grant_(std::move(grant)), openers_(std::move(openers)) {}
  [[nodiscard]] int fd() const { return socket_.get(); }
  // A document that changes, changes what its child may have. Descriptors that it has stay with it.
  void set_grant(BrokerGrant grant) { grant_ = std::move(grant); }

  // Answers what waits in the socket, without blocking. Error: the child closed it, sent something that is no request,
  // or does not read its answers: drop the broker.
  [[nodiscard]] Result<void> serve();

  // The decision alone: the descriptor, or EPERM outside the grant, EINVAL for a malformed request, EMFILE past the
  // bound.
  [[nodiscard]] Result<Fd> answer(const BrokerRequest& request);

 private:
  Fd socket_;
  BrokerGrant grant_;
  BrokerOpeners openers_;
  std::uint32_t given_ = 0;
};

}  // namespace postern::loader
