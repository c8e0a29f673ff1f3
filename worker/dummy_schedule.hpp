// Dummy packets (RFC 4303 §2.6) of one thread: which flows have them, and when the next one of each is due. Owner: one
// worker thread. set() may allocate, run() does not.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.hpp"

namespace postern {

class DummySchedule {
 public:
  // What a flow makes up for after a wait; the rest is lost. So its rate is bounded also in the short term.
  static constexpr std::uint32_t most_at_once = 32;

  // A packet of `flow` every `interval`, the first one `interval` from `now`; 0: no more. The same interval again,
  // after a rekey, changes nothing.
  void set(std::uint32_t flow, Duration interval, Time now) {
    const auto known = std::ranges::find(rows_, flow, &Row::flow);
    if (known != rows_.end()) {
      if (known->interval == interval) return;
      rows_.erase(known);
      std::ranges::make_heap(rows_, latest_first);
    }
    if (interval == Duration::zero()) return;
    rows_.push_back({now + interval, interval, flow});
    std::ranges::push_heap(rows_, latest_first);
  }

  [[nodiscard]] std::optional<Time> next() const { return rows_.empty() ? std::nullopt : std::optional(rows_[0].due); }

  // make(flow), for each packet that is due; false: the flow has none any more, and is forgotten.
  template <class Make>
  void run(Time now, Make make) {
    while (!rows_.empty() && rows_[0].due <= now) {
      std::ranges::pop_heap(rows_, latest_first);
      Row& row = rows_.back();
      bool goes_on = true;
      for (std::uint32_t i = 0; goes_on && i < most_at_once && row.due <= now; ++i, row.due += row.interval)
        goes_on = make(row.flow);
      if (!goes_on) {
        rows_.pop_back();
        continue;
      }
      if (row.due <= now) row.due = now + row.interval;
      std::ranges::push_heap(rows_, latest_first);
    }
  }

 private:
  struct Row {
    Time due;
    Duration interval;
    std::uint32_t flow;
  };
  static bool latest_first(const Row& a, const Row& b) { return a.due > b.due; }
  std::vector<Row> rows_;  // a heap: the earliest in front
};

}  // namespace postern
