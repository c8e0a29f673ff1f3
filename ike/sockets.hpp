// UDP ports 500 and 4500 of postern-ike, one pair a family and front-door VRF. Datagrams in with the address they came
// to, datagrams out from the address they shall come from. One thread; nothing here waits.
//
// RFC 7296 §2.23, RFC 3948 §2.2: on port 4500 an IKE message has four zero bytes (the non-ESP marker) in front; one
// byte 0xff is a keepalive; anything else there is ESP, which XDP takes before it gets here: what arrives all the same
// is counted and dropped.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

#include "base/bytes.hpp"
#include "base/fd.hpp"
#include "base/result.hpp"
#include "ike/actions.hpp"

namespace postern::ike {

// `bytes` without the marker, borrowed until the next receive().
struct Datagram {
  Endpoint local, remote;
  std::uint32_t fvrf = 0;
  Bytes bytes;
};

// What a datagram on port 4500 is, and the bytes that are IKE's. Pure.
enum class NatTraffic : std::uint8_t { ike, keepalive, esp };
[[nodiscard]] NatTraffic classify(Bytes datagram);
[[nodiscard]] Octets with_marker(Bytes message);

struct SocketCounters {
  std::uint64_t received = 0, sent = 0, keepalives = 0, esp = 0, send_errors = 0, truncated = 0;
};

class UdpSockets {
 public:
  // So many datagrams in one wake: the rest waits for the next turn of the loop.
  static constexpr int max_datagrams = 64;

  struct Row {
    std::uint32_t fvrf = 0;
    Family family{};
    std::uint16_t port = 0;
    auto operator<=>(const Row&) const = default;
  };
  // Closes the sockets of other VRFs, and says which are missing of these.
  [[nodiscard]] std::vector<Row> keep_only(const std::vector<std::uint32_t>& fvrfs);
  void add(const Row& row, Fd socket);
  [[nodiscard]] bool owns(int fd) const { return sockets_.contains(fd); }
  [[nodiscard]] bool empty() const { return sockets_.empty(); }

  void receive(int fd, const std::function<void(const Datagram&)>& each);
  void send(const SendDatagram& datagram);
  void send(const SendKeepalive& keepalive);

  [[nodiscard]] std::vector<Row> rows() const;
  [[nodiscard]] const SocketCounters& counters() const { return counters_; }

 private:
  struct Socket {
    Fd fd;
    Row row;
  };
  [[nodiscard]] const Socket* find(std::uint32_t fvrf, Family family, std::uint16_t port) const;
  void transmit(const Endpoint& local, const Endpoint& remote, std::uint32_t fvrf, Bytes bytes);

  std::unordered_map<int, Socket> sockets_;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(65536);
  SocketCounters counters_;
};

}  // namespace postern::ike
