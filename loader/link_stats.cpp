#include "loader/link_stats.hpp"

#include <algorithm>

namespace postern::loader {
namespace {

constexpr int samples_per_interval = 60;

bool went_back(const LinkCounters& before, const LinkCounters& after) {
  return after.rx_packets < before.rx_packets || after.tx_packets < before.tx_packets ||
         after.rx_bytes < before.rx_bytes || after.tx_bytes < before.tx_bytes;
}

std::uint64_t per_second(std::uint64_t count, double seconds) {
  return seconds <= 0 ? 0 : static_cast<std::uint64_t>(static_cast<double>(count) / seconds + 0.5);
}

}  // namespace

LinkStats::LinkStats(std::chrono::seconds load_interval)
    : interval_(std::max(load_interval, std::chrono::seconds(1))),
      step_(std::max<Duration>(interval_ / samples_per_interval, std::chrono::milliseconds(500))) {}

void LinkStats::add(History& history, const Sample& sample) const {
  auto& samples = history.samples;
  if (!samples.empty() && went_back(samples.back().counters, sample.counters)) samples.clear();
  // A report between two regular samples takes the place of the last one, so that history does not grow with questions.
  if (samples.size() >= 2 && sample.at - samples[samples.size() - 2].at < step_) samples.pop_back();
  samples.push_back(sample);
  while (samples.size() > 2 && sample.at - samples[1].at >= interval_) samples.pop_front();
}

Result<void> LinkStats::sample(Netlink& netlink, const std::set<std::uint32_t>& devices, Time now) {
  POSTERN_TRY(links, netlink.links());
  POSTERN_TRY(qdiscs, netlink.qdiscs());
  std::erase_if(devices_, [&](const auto& one) { return !devices.contains(one.first); });
  for (const Link& link : links) {
    if (!devices.contains(link.ifindex)) continue;
    History& history = devices_[link.ifindex];
    add(history, {now, link.counters});
    history.qdisc_drops = 0;
    for (const Qdisc& qdisc : qdiscs)
      // An inner qdisc's drops are part of the root's where the root is classful; mq adds up its queues.
      if (qdisc.ifindex == link.ifindex && qdisc.parent == root_parent) history.qdisc_drops += qdisc.drops;
  }
  next_ = now + step_;
  return {};
}

std::optional<LinkReport> LinkStats::report(std::uint32_t ifindex) const {
  const auto found = devices_.find(ifindex);
  if (found == devices_.end() || found->second.samples.empty()) return std::nullopt;
  const Sample& first = found->second.samples.front();
  const Sample& last = found->second.samples.back();
  const double seconds = std::chrono::duration<double>(last.at - first.at).count();
  LinkReport report{.counters = last.counters, .qdisc_drops = found->second.qdisc_drops, .rates = {}};
  report.rates.interval_s = static_cast<std::uint32_t>(interval_.count());
  report.rates.in_pps = per_second(last.counters.rx_packets - first.counters.rx_packets, seconds);
  report.rates.out_pps = per_second(last.counters.tx_packets - first.counters.tx_packets, seconds);
  report.rates.in_bps = per_second((last.counters.rx_bytes - first.counters.rx_bytes) * 8, seconds);
  report.rates.out_bps = per_second((last.counters.tx_bytes - first.counters.tx_bytes) * 8, seconds);
  return report;
}

}  // namespace postern::loader
