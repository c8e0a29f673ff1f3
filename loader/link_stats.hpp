// Kernel counters of the node's devices and their rates over the load interval, for `show`. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "loader/netlink.hpp"

namespace postern::loader {

struct LinkRates {
  std::uint32_t interval_s = 300;                                  // the configured load interval
  std::uint64_t in_bps = 0, in_pps = 0, out_bps = 0, out_pps = 0;  // bits and packets per second
};

struct LinkReport {
  LinkCounters counters;
  std::uint64_t qdisc_drops = 0;
  LinkRates rates;
};

class LinkStats {
 public:
  explicit LinkStats(std::chrono::seconds load_interval = std::chrono::seconds(300));

  // Takes the counters of `devices` now and forgets devices that are not in it. A counter that went back (the device
  // was made again) begins a new history. Call at next_sample(), and before a report that must be fresh.
  [[nodiscard]] Result<void> sample(Netlink& netlink, const std::set<std::uint32_t>& devices, Time now);
  [[nodiscard]] Time next_sample() const { return next_; }
  // None: no sample of that device.
  [[nodiscard]] std::optional<LinkReport> report(std::uint32_t ifindex) const;

 private:
  struct Sample {
    Time at;
    LinkCounters counters;
  };
  struct History {
    std::deque<Sample> samples;  // oldest first, at most about one load interval
    std::uint64_t qdisc_drops = 0;
  };
  void add(History& history, const Sample& sample) const;

  std::chrono::seconds interval_;
  Duration step_;
  Time next_{};
  std::map<std::uint32_t, History> devices_;
};

}  // namespace postern::loader
