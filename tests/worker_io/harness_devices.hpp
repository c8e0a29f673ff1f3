// What posternd would open for the worker: TUN and TAP queues, sockets, the worker's process.
#pragma once

#include <string>
#include <vector>

#include <sys/types.h>

#include "base/fd.hpp"
#include "base/result.hpp"

namespace postern::harness {

struct TunRequest {
  std::string name;
  bool tap = false;
  bool multi_queue = false;
};
[[nodiscard]] Result<Fd> open_tun(const TunRequest& wanted);
// IPv4 and IPv6, as add_device wants them.
[[nodiscard]] Result<std::vector<Fd>> open_raw_esp();
[[nodiscard]] Result<std::vector<Fd>> open_raw_icmp(std::uint32_t mark);
[[nodiscard]] Result<std::vector<Fd>> open_udp(std::uint16_t port);
[[nodiscard]] Result<Fd> open_packet_out(std::uint32_t ifindex);

struct WorkerProcess {
  pid_t pid = -1;
  std::string socket_path;
};
// `forbid_io_uring`: as a container's seccomp profile does, io_uring_setup() is EPERM.
[[nodiscard]] Result<WorkerProcess> start_worker(const std::string& program, const std::string& socket_path,
                                                 bool forbid_io_uring);
[[nodiscard]] Result<Fd> connect_to(const std::string& socket_path);

}  // namespace postern::harness
