// What a posternd finds in the kernel that one before it left between two steps.
#include <array>
#include <filesystem>
#include <map>
#include <string>

#include <doctest/doctest.h>
#include <unistd.h>

#include "loader/kernel_side.hpp"

using namespace postern;
using namespace postern::loader;

namespace {

constexpr std::uint32_t out0 = 7;

struct Kernel {
  std::filesystem::path pins = "/sys/fs/bpf/postern-adoption-" + std::to_string(::getpid());
  std::unique_ptr<KernelSide> side = KernelSide::load(pins).value();
  ~Kernel() { (void)BpfPrograms::remove_pins(pins); }

  std::pair<std::uint32_t, std::string> adopted(std::uint32_t noted, std::uint32_t in_force) const {
    postern_interface entry{};
    entry.generation = in_force;
    REQUIRE(side->maps().interfaces.update(out0, entry));
    InstalledInterface installed;
    installed.ifindex = out0;
    installed.generation = noted;
    installed.policy_text = "rules";
    REQUIRE(side->adopt_policy(installed));
    return {installed.generation, installed.policy_text};
  }
};

InboundSaEntry row(std::uint32_t spi, std::uint32_t slot) {
  InboundSaEntry entry;
  entry.spi = Spi{spi};
  entry.destination = IpAddress::parse("192.0.2.1").value();
  entry.slot = slot;
  return entry;
}

bool root() {
  if (::geteuid() == 0) return true;
  MESSAGE("skipped: BPF maps need root");
  return false;
}

}  // namespace

TEST_CASE("the policy in force counts, and not the note of it") {
  if (!root()) return;
  const Kernel kernel;
  PlannedInterface planned;
  PolicyRule rule;
  rule.flow = 5;
  rule.source = rule.destination = Prefix{IpAddress::v4(0), 0};
  planned.rules = {rule};
  constexpr std::uint32_t before = 3, now = 4, gone = 9;
  REQUIRE(kernel.side->write_policy(planned, before));
  REQUIRE(kernel.side->write_policy(planned, now));
  using Adopted = std::pair<std::uint32_t, std::string>;
  CHECK(kernel.adopted(now, now) == Adopted{now, "rules"});
  CHECK(kernel.adopted(0, 0) == Adopted{0, "rules"});
  CHECK(kernel.adopted(before, now) == Adopted{now, ""});
  CHECK(kernel.adopted(gone, now) == Adopted{now, ""});
  CHECK(kernel.adopted(0, now) == Adopted{now, ""});
  CHECK(kernel.adopted(before, 0) == Adopted{before, ""});
  CHECK(kernel.adopted(before, gone) == Adopted{before, ""});
  CHECK(kernel.adopted(gone, gone) == Adopted{gone, ""});  // XDP and TC drop until it is compiled anew
}

TEST_CASE("the rows of SAs are those of the SAs that there are") {
  if (!root()) return;
  const Kernel kernel;
  const SaMap sas(kernel.side->maps().sas);
  for (const auto& [spi, slot] : {std::pair(0x1001U, 3U), {0x1002U, 4U}, {0x1003U, 5U}, {0x1004U, expected_sa}})
    REQUIRE(sas.insert(row(spi, slot)));
  std::array<SaSlot, 2> slots{};
  slots[0].parameters.spi = 0x1001;
  slots[1].parameters.spi = 0x2002;  // its slot was another's
  for (SaSlot& sa : slots) sa.parameters.local = IpAddress::parse("192.0.2.1").value();
  REQUIRE(kernel.side->sync_sas({{3, &slots[0]}, {4, &slots[1]}}));
  const auto now = sas.list();
  REQUIRE(now);
  std::map<std::uint32_t, std::uint32_t> found;
  for (const InboundSaEntry& entry : *now) found[static_cast<std::uint32_t>(entry.spi)] = entry.slot;
  CHECK(found == std::map<std::uint32_t, std::uint32_t>{{0x1001, 3}, {0x2002, 4}});
}
