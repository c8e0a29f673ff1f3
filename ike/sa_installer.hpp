// Children to SAs in the data plane, and back: what is installed there, what serves which flow, what an earlier life
// left. The worker tells posternd about inbound SAs, so the `sas` map is none of our business. One thread.
//
// Order: inbound SA, outbound SA, then the flow is bound to it (make before break); at the end the flow goes to the
// newest other child that serves it, or to none, and then both SAs go: the inbound one a little later where another
// child has taken over, for what is still on its way (reauthentication, RFC 7296 §2.8.3).
//
// Survivors are SAs of ours that no session of this life made (postern-ike died and came back). They work on until a
// new child serves their flow and has had packets, or some time has passed; until their flow leaves the policy; until
// their lifetime ends.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/clock.hpp"
#include "ike/actions.hpp"
#include "ike/policy.hpp"
#include "ike/sa_door.hpp"

namespace postern::ike {

// Pure. Error: more selector pairs than an SA holds, or none; keys of a wrong length.
struct SaPair {
  InstallSa inbound, outbound;
  SaPair() = default;
  SaPair(SaPair&&) = default;
  SaPair(const SaPair&) = delete;
  ~SaPair();  // wipes both
};
// What of a volume lifetime passes before a rekey is due. A rekey takes its time, in which `meanwhile` passes at line
// rate: of a small lifetime half is left for it, of a large one a seventh at most. `jitter`: 0 to 1, where in the last
// part of that it lies. 0 of 0.
inline constexpr std::uint64_t rekey_bytes = std::uint64_t{64} << 20, rekey_packets = 65536;
[[nodiscard]] std::uint64_t soft_limit(std::uint64_t hard, std::uint64_t meanwhile, double jitter);
[[nodiscard]] Result<SaPair> sa_pair(const InstallChild& child, double jitter);
// Each local selector with each remote one whose family and protocol agree, as the sender of our packets sees them.
[[nodiscard]] std::vector<TrafficSelector> pairs_of(const std::vector<Selector>& local,
                                                    const std::vector<Selector>& remote);

class SaInstaller {
 public:
  static constexpr Duration survivor_patience = std::chrono::seconds(30);
  static constexpr Duration survivor_grace = std::chrono::seconds(2);    // after its successor had its first packet
  static constexpr Duration switch_patience = std::chrono::seconds(10);  // with a child that answers and is not used
  static constexpr Duration inbound_grace = std::chrono::seconds(2);

  explicit SaInstaller(SaDoor& door) : door_(door) {}

  // Nobody minds when the data plane does not take it: then packets that come too early are lost.
  void expect(const ExpectChild& child);
  [[nodiscard]] Result<void> install(const InstallChild& child, double jitter, Time now);
  void switch_outbound(ChildId id);
  // Between these ends from now on. An error: the data plane does not take it there. Without a channel it hears of it
  // by reconcile().
  [[nodiscard]] Result<void> move(const MoveChild& child);
  void remove(ChildId id, Time now);

  // After the channel came (again): which children the data plane does not have any more, and what else is there.
  struct Found {
    std::vector<ChildId> lost;
    std::set<std::uint32_t> survivor_flows;
    std::vector<std::uint32_t> survivor_spis;  // inbound
  };
  [[nodiscard]] Result<Found> reconcile(Time now);
  // Survivors of flows that are not in the policy go now.
  void set_policy(const Policy& policy, Time now);

  // Reads all counters. An error: the channel does not answer.
  struct Traffic {
    ChildId id{};
    bool inbound = false, outbound = false;
    bool idle = false;  // nothing either way for as long as its policy says
  };
  [[nodiscard]] Result<std::vector<Traffic>> poll(Time now);

  // An SA of ours that posternd removed, or whose event came.
  [[nodiscard]] std::optional<ChildId> child_of(const SaRow& row) const;

  // A child of this life is bound to the flow, as far as we know.
  [[nodiscard]] bool serves(std::uint32_t flow) const { return bound_.contains(flow); }

  // What `show` tells about a child.
  struct Counters {
    std::uint64_t packets_in = 0, packets_out = 0, bytes_in = 0, bytes_out = 0;
  };
  [[nodiscard]] std::optional<Counters> counters(ChildId id) const;
  [[nodiscard]] std::size_t children() const { return children_.size(); }
  [[nodiscard]] std::size_t survivors() const { return survivors_.size(); }

 private:
  struct Half {
    std::uint32_t slot = 0;
    std::uint64_t packets = 0, bytes = 0;
  };
  struct Installed {
    Half inbound, outbound;
    std::uint32_t flow = 0, base_flow = 0;
    bool serves = false;  // its outbound SA may carry the flow
    Duration idle{};      // zero: never idle
    Time active;
    std::optional<Time> switch_at;  // it waits for the peer to use it; at the latest then
    std::uint64_t order = 0;
    SaEnds ends;
  };
  struct Leaving {
    std::uint64_t cookie = 0;
    std::uint32_t slot = 0;
    Time at;
  };
  struct Survivor {
    std::optional<Half> inbound, outbound;
    std::uint32_t flow = 0, base_flow = 0;
    IpAddress remote;
    bool bound = false;
    Time installed;
    std::optional<Time> remove_at;
  };
  [[nodiscard]] Result<void> bind(Installed& child, ChildId id, Time now);
  void bind_another(std::uint32_t flow);
  void remove_half(ChildId id, std::uint32_t slot);
  void switch_waiting(Time now);
  void remove_leaving(Time now);
  [[nodiscard]] Result<void> move_halves(const Installed& child);
  void remove_survivor(std::uint64_t cookie, Survivor& survivor);
  void sort_row(const SaRow& row, Time now, std::unordered_map<std::uint64_t, unsigned>& seen);
  void retire_survivors(Time now);
  void retire_survivors_of(const IpAddress& peer, Time now);

  SaDoor& door_;
  std::unordered_map<ChildId, Installed> children_;
  std::unordered_map<std::uint32_t, ChildId> bound_;  // by flow
  std::vector<Leaving> leaving_;                      // inbound halves
  std::map<std::uint64_t, Survivor> survivors_;       // by cookie
  std::unordered_set<std::uint64_t> doomed_;          // cookies of what could not be removed while the channel was down
  std::unordered_map<std::uint32_t, Duration> lifetimes_;  // of the policy's flows
  bool has_policy_ = false;
  std::uint64_t next_order_ = 1;
};

}  // namespace postern::ike
