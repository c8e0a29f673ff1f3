// posternd's half in the kernel: programs, pinned maps, the entry of each interface. The one writer of `interfaces`,
// `sas` and `local_addresses`. One thread.
//
// Fail closed: an interface enters with its policy in force and POSTERN_IF_BLOCK set, before its programs are attached;
// it is unblocked when the worker has everything; it is blocked again before anything is taken from it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "loader/bpf_programs.hpp"
#include "loader/netlink.hpp"
#include "loader/plan.hpp"
#include "loader/state_file.hpp"
#include "maps/policy_writer.hpp"
#include "maps/sa_map.hpp"
#include "worker/sa_channel.hpp"

namespace postern::loader {

class KernelSide {
 public:
  [[nodiscard]] static Result<std::unique_ptr<KernelSide>> load(const std::filesystem::path& pin_dir);

  [[nodiscard]] bool maps_are_new() const { return programs_.maps_are_new(); }
  [[nodiscard]] const NodeMaps& maps() const { return programs_.maps(); }
  // Ids of our programs, for PlainSide.
  [[nodiscard]] std::set<std::uint32_t> program_ids() const;
  // Numbers above every generation and flow that the maps name: where the state file is lost.
  [[nodiscard]] Result<std::uint32_t> highest_generation() const;
  [[nodiscard]] Result<std::uint32_t> highest_flow() const;

  // A new interface, blocked: policy rows under `generation` (0: no rules), entry, programs. Fills `installed`. A
  // bond's port has no rows of its own: `generation` is the bond's.
  [[nodiscard]] Result<void> enter(const PlannedInterface& planned, std::uint32_t generation, std::uint32_t steer,
                                   config::XdpMode mode, InstalledInterface& installed);
  // An interface that is there: entry and programs as planned, policy and block untouched.
  [[nodiscard]] Result<void> refresh(const PlannedInterface& planned, std::uint32_t steer, config::XdpMode mode,
                                     InstalledInterface& installed);
  // What an earlier posternd said of an interface, by what is in force there: the two differ when it died between the
  // switch of a policy and its note of it. Then the text is forgotten, so that the rules are compiled anew.
  [[nodiscard]] Result<void> adopt_policy(InstalledInterface& installed) const;
  // Numbers of policies may come again from now on.
  [[nodiscard]] Result<void> forget_verdicts() const { return policies_.forget_verdicts(); }
  // Rows of `planned`'s rules under `generation`, beside what is in force.
  [[nodiscard]] Result<void> write_policy(const PlannedInterface& planned, std::uint32_t generation);
  [[nodiscard]] Result<void> switch_policy(const PlannedInterface& planned, std::uint32_t generation);
  // The packets that its rules had counted, by index.
  [[nodiscard]] Result<std::map<std::uint32_t, std::uint64_t>> remove_policy(std::uint32_t generation);
  // Rows of generations that none of `kept` is.
  [[nodiscard]] Result<void> remove_other_policies(const std::set<std::uint32_t>& kept);
  [[nodiscard]] Result<void> set_block(std::uint32_t ifindex, bool block);
  // Programs off, entry and policy gone. Also when the device is gone already.
  [[nodiscard]] Result<void> leave(const std::string& name, const InstalledInterface& installed);

  // Entries that no interface of ours has: left by devices that are gone.
  [[nodiscard]] Result<void> keep_only_interfaces(const std::set<std::uint32_t>& wanted);

  // Verdicts and drops back to zero: a new counter page begins, and both are read together.
  [[nodiscard]] Result<void> reset_counters();

  [[nodiscard]] Result<void> attach_steer(std::uint32_t ifindex);

  [[nodiscard]] Result<void> add_sa(const SaParameters& inbound, std::uint32_t slot);
  [[nodiscard]] Result<void> remove_sa(const SaParameters& inbound);
  // As the worker tells of an SA that postern-ike installed. add: in the place of an entry of the same name.
  [[nodiscard]] Result<void> add_sa(const SaRow& inbound);
  [[nodiscard]] Result<void> remove_sa(const SaRow& inbound);
  // XDP lets packets of an SA pass to the worker that is being negotiated, until it is there or forget_sa().
  void expect_sa(const ExpectSa& inbound);
  void forget_sa(const ExpectSa& inbound);
  // Rows for these SAs, by their slots, and for no others. One that stays is not away for a moment.
  [[nodiscard]] Result<void> sync_sas(const std::map<std::uint32_t, const SaSlot*>& inbound);

  // `vrf_of`: routing table of the VRF that a device is in, 0 for none.
  [[nodiscard]] Result<void> sync_local_addresses(const std::vector<LinkAddress>& addresses,
                                                  const std::map<std::uint32_t, std::uint32_t>& vrf_of);

 private:
  explicit KernelSide(BpfPrograms programs, std::filesystem::path pin_dir)
      : programs_(std::move(programs)),
        pin_dir_(std::move(pin_dir)),
        policies_(programs_.maps()),
        sas_(programs_.maps().sas) {}
  [[nodiscard]] Result<void> write_entry(const PlannedInterface& planned, const InstalledInterface& installed,
                                         std::uint32_t steer, std::uint32_t extra_flags);
  [[nodiscard]] Result<std::uint32_t> attach(const PlannedInterface& planned, config::XdpMode mode);

  BpfPrograms programs_;
  std::filesystem::path pin_dir_;
  PolicyWriter policies_;
  SaMap sas_;
};

}  // namespace postern::loader
