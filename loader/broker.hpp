// The typed descriptor broker: a child asks for a kind of descriptor, never for a path, a flag or a number of its
// choice beyond the fields below; what it may ask for is fixed when it is started. One datagram a request over its
// SOCK_SEQPACKET socket, answered at once by one BrokerReply, with the descriptor by SCM_RIGHTS when `code` is 0.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include "base/fd.hpp"
#include "base/net_types.hpp"
#include "base/result.hpp"

namespace postern::loader {

inline constexpr std::uint32_t broker_version = 1;

// worker_channel: the client channel of worker/sa_channel.hpp, made anew at every request; the one before ends. EAGAIN
// while no worker runs.
enum class BrokerKind : std::uint32_t { udp_socket = 1, raw_esp = 2, raw_icmp = 3, tun = 4, worker_channel = 5 };

// Host order. Fields that a kind does not use must be zero.
struct BrokerRequest {
  std::uint32_t version = broker_version;
  BrokerKind kind{};
  std::uint64_t id = 0;
  std::uint32_t vrf = 0;    // routing table id, 0: main
  std::uint16_t port = 0;   // udp_socket
  std::uint8_t family = 0;  // 4 or 6; tun, worker_channel: 0
  std::uint8_t reserved = 0;
  std::array<char, 16> name{};  // tun: NUL-terminated, "TunnelN"
};
static_assert(std::is_trivially_copyable_v<BrokerRequest> && sizeof(BrokerRequest) == 40);

struct BrokerReply {
  std::uint64_t id = 0;
  std::int32_t code = 0;  // 0, or an errno value
  std::uint32_t reserved = 0;
};

// What one child may have. Empty lists: nothing of that kind.
struct BrokerGrant {
  std::string child;  // for the log
  std::vector<std::uint16_t> udp_ports;
  std::vector<std::uint32_t> vrfs;  // for udp_socket and raw_*; 0 is the main table
  bool raw_esp = false, raw_icmp = false;
  std::vector<std::string> tuns;  // devices of the configuration, by name
  bool worker_channel = false;
};

// Who opens: loader/sockets and loader/devices, or a test.
struct BrokerOpeners {
  std::function<Result<Fd>(std::uint32_t vrf, Family family, std::uint16_t port)> udp_socket;
  std::function<Result<Fd>(std::uint32_t vrf, Family family)> raw_esp, raw_icmp;
  std::function<Result<Fd>(const std::string& name)> tun;
  std::function<Result<Fd>()> worker_channel = {};
};

class Broker {
 public:
  // At most this many descriptors in one life of a child.
  static constexpr std::uint32_t max_descriptors = 64;

  Broker(Fd socket, BrokerGrant grant, BrokerOpeners openers)
      : socket_(std::move(socket)), grant_(std::move(grant)), openers_(std::move(openers)) {}
  [[nodiscard]] int fd() const { return socket_.get(); }

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
