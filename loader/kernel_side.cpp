#include "loader/kernel_side.hpp"

#include <algorithm>
#include <cstring>

#include <bpf/bpf.h>
#include <sys/random.h>

#include "base/log.hpp"
#include "maps/drops.hpp"

namespace postern::loader {
namespace {

// Flags that posternd's plan does not know: they belong to the moment.
constexpr std::uint32_t moment_flags = POSTERN_IF_BLOCK | POSTERN_IF_GENERIC;
constexpr std::uint32_t policy_part = POSTERN_IF_POLICY;

Result<void> set_random_source(postern_interface& entry) {
  if (std::ranges::any_of(entry.inject_source, [](auto byte) { return byte != 0; })) return {};
  if (::getrandom(entry.inject_source, sizeof entry.inject_source, 0) != sizeof entry.inject_source)
    return fail_errno("getrandom");
  entry.inject_source[0] = static_cast<std::uint8_t>((entry.inject_source[0] & 0xfc) | 0x02);  // local, unicast
  return {};
}

InboundSaEntry entry_of(const SaParameters& inbound, const SaEnds& ends, std::uint32_t slot) {
  return {inbound.fvrf,
          Spi{inbound.spi},
          ends.local,
          inbound.protocol,
          slot,
          inbound.flow,
          ends.udp_encapsulation ? ends.local_port : std::uint16_t{0},
          ends.remote};
}

InboundSaEntry entry_of(const SaRow& inbound) {
  return {inbound.fvrf,
          Spi{inbound.spi},
          inbound.local,
          inbound.protocol,
          inbound.slot,
          inbound.flow,
          inbound.udp_encapsulation ? inbound.local_port : std::uint16_t{0},
          inbound.remote};
}

bool same_name(const InboundSaEntry& a, const InboundSaEntry& b) {
  return a.vrf == b.vrf && a.spi == b.spi && a.destination == b.destination && a.protocol == b.protocol;
}

InboundSaEntry entry_of(const ExpectSa& inbound) {
  return {inbound.fvrf, Spi{inbound.spi}, inbound.local, inbound.protocol, expected_sa, 0, inbound.local_port, {}};
}

}  // namespace

Result<std::unique_ptr<KernelSide>> KernelSide::load(const std::filesystem::path& pin_dir) {
  POSTERN_TRY(programs, BpfPrograms::load(pin_dir));
  return std::unique_ptr<KernelSide>(new KernelSide(std::move(programs), pin_dir));
}

std::set<std::uint32_t> KernelSide::program_ids() const {
  std::set<std::uint32_t> ids;
  for (const int fd : {programs_.xdp_ingress_fd(), programs_.tc_egress_fd(), programs_.tc_ingress_fd()}) {
    bpf_prog_info info{};
    std::uint32_t size = sizeof info;
    if (bpf_obj_get_info_by_fd(fd, &info, &size) == 0) ids.insert(info.id);
  }
  return ids;
}

Result<std::uint32_t> KernelSide::highest_generation() const {
  POSTERN_TRY(all, policies_.generations());
  return all.empty() ? 0U : all.back();
}

Result<std::uint32_t> KernelSide::highest_flow() const {
  std::uint32_t highest = 0;
  POSTERN_TRY(keys, maps().aces.keys());
  for (const auto& key : keys) {
    POSTERN_TRY(ace, maps().aces.lookup(key));
    if (ace && ace->flow < first_temporary_flow) highest = std::max(highest, ace->flow);
  }
  POSTERN_TRY(interfaces, maps().interfaces.keys());
  for (const auto ifindex : interfaces) {
    POSTERN_TRY(entry, maps().interfaces.lookup(ifindex));
    if (entry) highest = std::max(highest, entry->flow);
  }
  return highest;
}

Result<void> KernelSide::write_entry(const PlannedInterface& planned, const InstalledInterface& installed,
                                     std::uint32_t steer, std::uint32_t extra_flags) {
  POSTERN_TRY(before, maps().interfaces.lookup(planned.ifindex));
  postern_interface entry = before.value_or(postern_interface{});
  POSTERN_CHECK(set_random_source(entry));
  entry.generation = installed.generation;
  entry.vrf = planned.vrf;
  entry.xsk_base = installed.xsk_base;
  entry.queues = planned.queues;
  entry.steer = steer;
  entry.flow = planned.flow;
  // What the policy's rules look at goes with the policy: switch_policy().
  const std::uint32_t policy = before && before->generation == installed.generation ? before->flags : planned.flags;
  entry.flags = (planned.flags & ~policy_part) | (policy & policy_part) | extra_flags;
  std::copy(planned.mac.begin(), planned.mac.end(), entry.mac);
  if (before && std::memcmp(&*before, &entry, sizeof entry) == 0) return {};
  return maps().interfaces.update(planned.ifindex, entry);
}

Result<std::uint32_t> KernelSide::attach(const PlannedInterface& planned, config::XdpMode mode) {
  if ((planned.flags & (POSTERN_IF_OUTSIDE | POSTERN_IF_INSIDE)) == 0) return 0U;
  if (planned.has_ports) {
    POSTERN_CHECK(programs_.attach_tc(planned.ifindex, TcSide::egress));
    return 0U;
  }
  POSTERN_TRY(attachment, programs_.attach_xdp(planned.ifindex, planned.name, mode));
  if (!attachment.replaced)
    spdlog::info("{}: XDP in {} mode{}{}", planned.name, name_of(attachment.mode),
                 attachment.native_refusal.empty() ? "" : ", because ", attachment.native_refusal);
  if ((planned.flags & POSTERN_IF_OUTSIDE) != 0 && planned.part_of.empty())
    POSTERN_CHECK(programs_.attach_tc(planned.ifindex, TcSide::egress));
  return attachment.mode == XdpModeUsed::generic ? static_cast<std::uint32_t>(POSTERN_IF_GENERIC) : 0U;
}

Result<void> KernelSide::enter(const PlannedInterface& planned, std::uint32_t generation, std::uint32_t steer,
                               config::XdpMode mode, InstalledInterface& installed) {
  if (generation != 0 && planned.part_of.empty()) POSTERN_CHECK(write_policy(planned, generation));
  installed.part_of = planned.part_of;
  installed.ifindex = planned.ifindex;
  installed.generation = generation;
  installed.flags = planned.flags;
  installed.queues = planned.queues;
  installed.policy_text = planned.policy_text();
  // Until the mode is known: what is injected in generic mode would be dropped, and nothing is injected while blocked.
  POSTERN_CHECK(write_entry(planned, installed, steer, POSTERN_IF_BLOCK));
  POSTERN_TRY(generic, attach(planned, mode));
  return write_entry(planned, installed, steer, POSTERN_IF_BLOCK | generic);
}

Result<void> KernelSide::refresh(const PlannedInterface& planned, std::uint32_t steer, config::XdpMode mode,
                                 InstalledInterface& installed) {
  POSTERN_TRY(entry, maps().interfaces.lookup(planned.ifindex));
  const std::uint32_t block = entry ? entry->flags & POSTERN_IF_BLOCK : static_cast<std::uint32_t>(POSTERN_IF_BLOCK);
  POSTERN_TRY(generic, attach(planned, mode));
  installed.flags = planned.flags;
  installed.queues = planned.queues;
  return write_entry(planned, installed, steer, block | generic);
}

Result<void> KernelSide::adopt_policy(InstalledInterface& installed) const {
  POSTERN_TRY(entry, maps().interfaces.lookup(installed.ifindex));
  const std::uint32_t living = entry ? entry->generation : 0;
  POSTERN_TRY(has_rows, policies_.has_rows(living));
  if (living == installed.generation && (living == 0 || has_rows)) return {};
  if (has_rows) installed.generation = living;
  installed.policy_text.clear();
  return {};
}

Result<void> KernelSide::write_policy(const PlannedInterface& planned, std::uint32_t generation) {
  POSTERN_TRY(image, compile({generation, planned.rules}));
  return policies_.write(image);
}

Result<void> KernelSide::switch_policy(const PlannedInterface& planned, std::uint32_t generation) {
  return policies_.switch_interface(planned.ifindex, generation, planned.flags & policy_part);
}

Result<std::map<std::uint32_t, std::uint64_t>> KernelSide::remove_policy(std::uint32_t generation) {
  if (generation == 0) return std::map<std::uint32_t, std::uint64_t>{};
  return policies_.remove(generation);
}

Result<void> KernelSide::remove_other_policies(const std::set<std::uint32_t>& kept) {
  POSTERN_TRY(all, policies_.generations());
  for (const auto generation : all)
    if (!kept.contains(generation)) POSTERN_CHECK(policies_.remove(generation));
  return {};
}

Result<void> KernelSide::set_block(std::uint32_t ifindex, bool block) {
  POSTERN_TRY(entry, maps().interfaces.lookup(ifindex));
  if (!entry) return {};
  const auto flags =
      block ? entry->flags | POSTERN_IF_BLOCK : entry->flags & ~static_cast<std::uint32_t>(POSTERN_IF_BLOCK);
  if (flags == entry->flags) return {};
  entry->flags = flags;
  return maps().interfaces.update(ifindex, *entry);
}

Result<void> KernelSide::leave(const std::string& name, const InstalledInterface& installed) {
  POSTERN_CHECK(BpfPrograms::detach_xdp(pin_dir_, name));
  if (auto detached = BpfPrograms::detach_tc(installed.ifindex, TcSide::egress);
      !detached && detached.error().code != ENODEV)
    return std::unexpected(detached.error());
  POSTERN_CHECK(maps().interfaces.erase(installed.ifindex));
  if (installed.part_of.empty()) POSTERN_CHECK(remove_policy(installed.generation));
  return {};
}

Result<void> KernelSide::keep_only_interfaces(const std::set<std::uint32_t>& wanted) {
  POSTERN_TRY(keys, maps().interfaces.keys());
  for (const auto ifindex : keys)
    if (!wanted.contains(ifindex)) POSTERN_CHECK(maps().interfaces.erase(ifindex));
  return {};
}

Result<void> KernelSide::reset_counters() {
  POSTERN_TRY(verdicts, maps().verdicts.keys());
  for (const auto& key : verdicts) POSTERN_CHECK(maps().verdicts.erase(key));
  for (std::uint32_t reason = 0; reason < POSTERN_DROP_COUNT; ++reason) {
    POSTERN_TRY(count, maps().drops.sum(reason));
    if (count.packets == 0) continue;
    spdlog::info("before this start {} packets were dropped: {}", count.packets, drop_texts[reason].text);
    POSTERN_CHECK(maps().drops.update(reason, postern_count{}));
  }
  return {};
}

Result<void> KernelSide::attach_steer(std::uint32_t ifindex) { return programs_.attach_tc(ifindex, TcSide::ingress); }

Result<void> KernelSide::add_sa(const SaParameters& inbound, std::uint32_t slot) {
  return sas_.insert(entry_of(inbound, ends_of(inbound), slot));
}

Result<void> KernelSide::remove_sa(const SaParameters& inbound) {
  POSTERN_CHECK(sas_.erase(entry_of(inbound, ends_of(inbound), 0)));
  return {};
}

Result<void> KernelSide::add_sa(const SaRow& inbound) { return sas_.replace(entry_of(inbound)); }

Result<void> KernelSide::remove_sa(const SaRow& inbound) {
  POSTERN_CHECK(sas_.erase(entry_of(inbound)));
  return {};
}

// Without it packets that come too early are dropped as those of any unknown SPI.
void KernelSide::expect_sa(const ExpectSa& inbound) {
  if (const auto done = sas_.insert(entry_of(inbound)); !done) spdlog::debug("{}", done.error().message());
}

void KernelSide::forget_sa(const ExpectSa& inbound) {
  if (const auto done = sas_.erase_expected(entry_of(inbound)); !done) spdlog::warn("{}", done.error().message());
}

Result<void> KernelSide::sync_sas(const std::map<std::uint32_t, const SaSlot*>& inbound) {
  std::map<std::uint32_t, InboundSaEntry> wanted;
  for (const auto& [slot, sa] : inbound) {
    wanted[slot] = entry_of(sa->parameters, ends_of(*sa), slot);  // where it is now
    POSTERN_CHECK(sas_.replace(wanted[slot]));
  }
  POSTERN_TRY(all, sas_.list());
  for (const InboundSaEntry& entry : all) {
    const auto one = wanted.find(entry.slot);
    if (one == wanted.end() || !same_name(one->second, entry)) POSTERN_CHECK(sas_.erase(entry));
  }
  return {};
}

Result<void> KernelSide::sync_local_addresses(const std::vector<LinkAddress>& addresses,
                                              const std::map<std::uint32_t, std::uint32_t>& vrf_of) {
  const auto bytes_of = [](const postern_local_key& key) {
    std::array<std::byte, sizeof key> bytes;
    std::memcpy(bytes.data(), &key, sizeof key);
    return bytes;
  };
  std::set<std::array<std::byte, sizeof(postern_local_key)>> wanted;
  for (const LinkAddress& address : addresses) {
    const auto vrf = vrf_of.find(address.ifindex);
    postern_local_key key{vrf == vrf_of.end() ? 0 : vrf->second, {}};
    std::ranges::copy(address.prefix.address.mapped(), key.address.bytes);
    wanted.insert(bytes_of(key));
    POSTERN_CHECK(maps().local_addresses.update(key, {address.ifindex}));
  }
  POSTERN_TRY(keys, maps().local_addresses.keys());
  for (const auto& key : keys)
    if (!wanted.contains(bytes_of(key))) POSTERN_CHECK(maps().local_addresses.erase(key));
  return {};
}

}  // namespace postern::loader
