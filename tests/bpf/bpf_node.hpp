// Programs and maps of a node in a network namespace of this process's own, driven by BPF_PROG_TEST_RUN. Needs root: a
// test begins with `POSTERN_NEEDS_ROOT();`, which prints why it is skipped when there is none.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <doctest/doctest.h>
#include <unistd.h>

#include "base/fd.hpp"
#include "base/net_types.hpp"
#include "loader/bpf_programs.hpp"
#include "maps/drops.hpp"
#include "maps/policy.hpp"
#include "maps/policy_writer.hpp"
#include "maps/sa_map.hpp"
#include "tests/bpf/packets.hpp"

#define POSTERN_NEEDS_ROOT()                                           \
  if (::geteuid() != 0) {                                              \
    MESSAGE("skipped: BPF programs and network namespaces need root"); \
    return;                                                            \
  }                                                                    \
  static_assert(true)

namespace postern::testing {

struct RunResult {
  std::uint32_t action = 0;  // XDP_* or TC_ACT_*
  Octets frame;              // as the program left it, without metadata
  std::optional<postern_stamp> metadata;
};

// The same in every test: out0 192.0.2.1/24, 2001:db8:ff::1/64 (outside), in0 10.1.0.1/16, 2001:db8:1::1/64 (inside),
// steer0, tun0 (flow 77); routes 10.2.0.0/16 and 2001:db8:2::/64 by out0, 10.4.0.0/16 by tun0, 198.51.100.0/24 by
// plain0.
class BpfNode {
 public:
  // Throws std::runtime_error: a test cannot go on.
  BpfNode();
  ~BpfNode();
  BpfNode(const BpfNode&) = delete;
  BpfNode& operator=(const BpfNode&) = delete;

  loader::BpfPrograms& programs() { return *programs_; }
  const NodeMaps& maps() { return programs_->maps(); }
  const std::filesystem::path& pin_dir() const { return pin_dir_; }

  std::uint32_t out0 = 0, in0 = 0, steer0 = 0, tun0 = 0, plain0 = 0;

  // Interface entries as posternd would write them, with one receive queue each.
  postern_interface outside() const;
  postern_interface inside() const;
  void set_interface(std::uint32_t ifindex, const postern_interface& entry);
  void set_local(std::string_view address, std::uint32_t vrf = 0);
  void set_sa(std::uint32_t spi, std::string_view destination, std::uint16_t encap_port = 0, std::uint32_t vrf = 0,
              std::uint8_t protocol = 50);
  // Compiles, writes and puts in force on out0 the policy; returns its generation.
  std::uint32_t set_policy(std::vector<PolicyRule> rules);
  bool remembers_fragments = true;  // POSTERN_IF_PORTS, where the rules want it
  // An AF_XDP socket in the slot: with it, a redirect there succeeds.
  void fill_slot(std::uint32_t slot);
  void clear_slot(std::uint32_t slot);

  RunResult xdp(const Octets& frame, std::uint32_t ifindex, std::uint32_t queue = 0);
  RunResult tc_egress(const Octets& frame, std::uint32_t ifindex, std::uint32_t mark = 0);
  RunResult tc_ingress(const Octets& frame, std::uint32_t ifindex);

  // Counters since the last call for the same reason or verdict.
  std::uint64_t new_drops(Drop reason);
  std::uint64_t new_verdicts(std::uint32_t ifindex, postern_hook hook, postern_verdict verdict);
  std::uint64_t hits(std::uint32_t generation, std::uint32_t ace);

 private:
  void make_interfaces();
  void clean_up();
  RunResult run_skb(int program, const Octets& frame, std::uint32_t ifindex, std::uint32_t mark);

  std::filesystem::path pin_dir_;
  std::optional<loader::BpfPrograms> programs_;
  std::vector<Fd> sockets_;
  std::uint32_t next_generation_ = 1;
  std::map<std::uint32_t, std::uint64_t> seen_drops_;
  std::map<std::uint64_t, std::uint64_t> seen_verdicts_;
};

PolicyRule permit(std::string_view source, std::string_view destination, std::uint32_t flow, std::uint32_t entry = 10);
PolicyRule deny(std::string_view source, std::string_view destination, std::uint32_t entry = 10);

}  // namespace postern::testing
