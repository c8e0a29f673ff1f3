// What an access rule says beyond its 5-tuple (TS-04), and the times at which rules hold.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace postern::config {

// FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32.
struct TcpFlags {
  bool all = true;  // match-all; false: one of them is enough
  std::uint8_t set = 0, clear = 0;
  bool operator==(const TcpFlags&) const = default;
};

struct AceOptions {
  std::optional<std::uint8_t> icmp_type, icmp_code;
  std::optional<std::uint8_t> dscp, precedence, tos;  // 0..63, 0..7, 0..15
  bool established = false;                           // TCP with ACK or RST
  std::optional<TcpFlags> tcp_flags;
  std::string time_range;  // empty: always
  std::string log_tag;
  bool operator==(const AceOptions&) const = default;

  // DSCP, precedence and TOS as bits of the traffic class; mask 0: any.
  struct Class {
    std::uint8_t mask = 0, value = 0;
  };
  [[nodiscard]] Class traffic_class() const;
};

// Local time. It holds while the absolute window is open and, where there are any, one of the periodic ones is.
struct TimeRange {
  std::string name;
  std::optional<std::int64_t> start, end;  // seconds since the epoch
  struct Periodic {
    std::uint8_t days = 0;                 // bit 0: Sunday
    std::uint32_t start_s = 0, end_s = 0;  // of the day
    bool operator==(const Periodic&) const = default;
  };
  std::vector<Periodic> periodic;
  bool operator==(const TimeRange&) const = default;
};

// `now`: seconds since the epoch.
[[nodiscard]] bool holds(const TimeRange& range, std::int64_t now);

}  // namespace postern::config
