// Log records of access rules with `log` (TS-12): the data plane counts, posternd writes lines. The first packet of a
// flow is told at once, by a ring buffer; the count since then once an interval, read from the `log_flows` map. What a
// flood of flows would write is cut off, and how much that was is told.
//
// One thread: that of the event loop.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.hpp"
#include "base/net_types.hpp"
#include "base/result.hpp"
#include "maps/bpf_maps.hpp"

struct ring_buffer;

namespace postern::loader {

// What posternd knows and the data plane does not.
struct AclLogNames {
  struct Rule {
    std::string name;  // "101 rule 10"
    bool permit = true;
    std::string tag{};
  };
  std::function<std::optional<Rule>(std::uint32_t generation, std::uint32_t ace)> rule;  // empty: policy is gone
  std::function<std::string(std::uint32_t ifindex)> interface;
  // Of a host on that interface, where the packet did not bring it along.
  std::function<std::optional<MacAddress>(std::uint32_t ifindex, const IpAddress& host)> mac;
};

// "access list 101 rule 10 permitted udp 10.1.0.2(5000) -> 10.2.0.2(5000), 4 packets"; with the source of log-input
// behind the addresses: "(in0 02:00:00:00:00:02)"; with the rule's log_tag at the end: " [WEB]".
[[nodiscard]] std::string acl_log_line(const postern_log_key& flow, std::uint64_t packets, const AclLogNames& names);

class AclLog {
 public:
  static constexpr std::uint32_t lines_per_second = 100;

  using Write = std::function<void(const std::string& line)>;
  [[nodiscard]] static Result<std::unique_ptr<AclLog>> create(const NodeMaps& maps, AclLogNames names, Write write);
  ~AclLog();
  AclLog(const AclLog&) = delete;
  AclLog& operator=(const AclLog&) = delete;

  // Readable: on_records().
  [[nodiscard]] int fd() const;
  void on_records(Time now);
  // About once a second while waiting(): tells the counts of flows whose interval is over, forgets those without.
  void on_timer(Time now, Duration interval);
  [[nodiscard]] bool waiting() const { return !flows_.empty() || suppressed_ != 0; }

 private:
  AclLog(const NodeMaps& maps, AclLogNames names, Write write);
  struct Flow {
    std::uint64_t told = 0;  // packets
    Time last{};
    bool seen = false;
  };
  using Key = std::array<std::byte, sizeof(postern_log_key)>;
  void take(const postern_log_key& flow);
  void tell(const postern_log_key& flow, std::uint64_t packets);

  const NodeMaps& maps_;
  AclLogNames names_;
  Write write_;
  ring_buffer* ring_ = nullptr;
  std::map<Key, Flow> flows_;  // no more than the map holds
  Time now_{}, second_{};
  std::uint32_t lines_ = 0;
  std::uint64_t suppressed_ = 0;  // lines
};

}  // namespace postern::loader
