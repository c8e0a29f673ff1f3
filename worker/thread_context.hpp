// What the parts of one worker thread share. Owner: that thread; the outbox is the one thing that another thread reads.
#pragma once

#include <array>
#include <cstdint>
#include <variant>

#include "maps/adjacency.hpp"
#include "maps/counters.hpp"
#include "worker/capture.hpp"
#include "worker/coalesce.hpp"
#include "worker/device.hpp"
#include "worker/ring.hpp"
#include "worker/sa_channel.hpp"
#include "worker/thread_mailbox.hpp"
#include "worker/umem.hpp"

namespace postern {

// A lifetime of the SA in `slot` (at its `reuse`) was reached.
struct SaNews {
  SaSlot* slot = nullptr;
  std::uint32_t reuse = 0;
  SaExpiryKind kind{};
};

// Authentic packets of the SA come from `peer`.
struct PeerNews {
  SaSlot* slot = nullptr;
  std::uint32_t reuse = 0;
  SaPeer peer;
};

// Resolve: a next hop is wanted. RemoveDevice: that device failed. Acquire: an SA is wanted.
using WorkerNews = std::variant<Resolve, RemoveDevice, SaNews, PeerNews, Acquire>;

// Lets the same question through once in a while. Two names of one row share it: the later one is asked again sooner.
class QuestionLimiter {
 public:
  explicit QuestionLimiter(std::uint64_t again) : again_ns(again) {}
  [[nodiscard]] bool may_ask(std::uint32_t name, std::uint64_t now_ns) {
    Row& row = rows_[name % rows_.size()];
    if (row.name == name && row.asked_ns != 0 && now_ns - row.asked_ns < again_ns) return false;
    if (now_ns - window_ns_ >= again_ns) {
      window_ns_ = now_ns;
      asked_in_window_ = 0;
    }
    if (asked_in_window_ == most_in_window) return false;
    ++asked_in_window_;
    row = {now_ns, name};
    return true;
  }

 private:
  static constexpr std::uint32_t most_in_window = 64;
  struct Row {
    std::uint64_t asked_ns = 0;
    std::uint32_t name = 0;
  };
  std::uint64_t again_ns;
  std::array<Row, 512> rows_{};
  std::uint64_t window_ns_ = 0;
  std::uint32_t asked_in_window_ = 0;
};

[[nodiscard]] inline std::uint32_t question_name(const AdjacencyKey& key, bool forward) {
  return key.hash() * 2U + (forward ? 1 : 0);
}

struct ThreadContext {
  Ring& ring;
  DeviceTable devices;
  Capture capture;
  ThreadCounters& counters;
  const AdjacencyTable& adjacencies;
  Outbox<WorkerNews>& outbox;
  CoalesceOptions coalescing;   // what TUN and TAP queues of this kernel take
  Umem* home = nullptr;         // the UMEM whose frames the pipeline works on; null until the first XSK came
  Completions backlog;          // events that are not dealt with yet
  std::uint64_t now_ns = 0;     // CLOCK_MONOTONIC at the start of this round
  std::uint32_t input_vrf = 0;  // plain side of the packets that are taken now
  QuestionLimiter resolves{200'000'000};
  QuestionLimiter acquires{200'000'000};
  QuestionLimiter moves{200'000'000};

  void drop(Drop reason, std::uint64_t packets = 1) {
    count(counters.drops[static_cast<std::size_t>(reason)], packets);
  }
  void ask(const AdjacencyKey& key, bool forward) {
    if (resolves.may_ask(question_name(key, forward), now_ns))
      outbox.put(Resolve{key.vrf, key.address, forward ? 1U : 0U});
  }
  void report_failure(Device& device) {
    if (!device.failed) device.failed = outbox.put(RemoveDevice{device.spec.ifindex, device.kind()});
  }
};

}  // namespace postern
