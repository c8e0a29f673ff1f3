// Loading, pinning, attaching, and taking over what a former process left.
#include <cstdlib>
#include <filesystem>

#include <bpf/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>

#include "tests/bpf/bpf_node.hpp"

using namespace postern;
using namespace postern::testing;
using loader::BpfPrograms;
using loader::TcSide;
using loader::XdpModeUsed;

namespace {

std::uint32_t xdp_program_on(std::uint32_t ifindex) {
  std::uint32_t id = 0;
  CHECK(bpf_xdp_query_id(static_cast<int>(ifindex), 0, &id) == 0);
  return id;
}

std::uint32_t tc_program_on(std::uint32_t ifindex, bpf_tc_attach_point point) {
  LIBBPF_OPTS(bpf_tc_hook, hook);
  hook.ifindex = static_cast<int>(ifindex);
  hook.attach_point = point;
  LIBBPF_OPTS(bpf_tc_opts, options);
  options.handle = 0x504e;
  options.priority = 1;
  return bpf_tc_query(&hook, &options) == 0 ? options.prog_id : 0;
}

bool has_clsact(const char* interface) {
  return std::system((std::string("tc qdisc show dev ") + interface + " | grep -q clsact").c_str()) == 0;
}

std::uint32_t id_of(int program) {
  bpf_prog_info info{};
  std::uint32_t size = sizeof info;
  CHECK(bpf_obj_get_info_by_fd(program, &info, &size) == 0);
  return info.id;
}

}  // namespace

TEST_CASE("XDP: attach, replace without a gap, survive, detach") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  const auto first = node.programs().attach_xdp(node.out0, "out0", config::XdpMode::automatic);
  REQUIRE(first);
  CHECK(first->mode == XdpModeUsed::native);
  CHECK(!first->replaced);
  CHECK(first->native_refusal.empty());
  CHECK(xdp_program_on(node.out0) == id_of(node.programs().xdp_ingress_fd()));

  auto second = BpfPrograms::load(node.pin_dir());  // as a restarted posternd does
  REQUIRE(second);
  CHECK(!second->maps_are_new());
  const auto again = second->attach_xdp(node.out0, "out0", config::XdpMode::automatic);
  REQUIRE(again);
  CHECK(again->replaced);
  CHECK(xdp_program_on(node.out0) == id_of(second->xdp_ingress_fd()));
  CHECK(BpfPrograms::attached_xdp(node.pin_dir(), "out0") == XdpModeUsed::native);

  CHECK(BpfPrograms::detach_xdp(node.pin_dir(), "out0") == true);
  CHECK(xdp_program_on(node.out0) == 0);
  CHECK(BpfPrograms::detach_xdp(node.pin_dir(), "out0") == false);
  CHECK(!BpfPrograms::attached_xdp(node.pin_dir(), "out0"));
}

TEST_CASE("XDP: generic mode, change of mode, a dot in the name, an interface that went away") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  const auto generic = node.programs().attach_xdp(node.out0, "out0", config::XdpMode::generic);
  REQUIRE(generic);
  CHECK(generic->mode == XdpModeUsed::generic);
  CHECK(BpfPrograms::attached_xdp(node.pin_dir(), "out0") == XdpModeUsed::generic);
  const auto kept = node.programs().attach_xdp(node.out0, "out0", config::XdpMode::automatic);
  REQUIRE(kept);
  CHECK(kept->mode == XdpModeUsed::generic);  // automatic leaves what works
  const auto native = node.programs().attach_xdp(node.out0, "out0", config::XdpMode::native);
  REQUIRE(native);
  CHECK(native->mode == XdpModeUsed::native);
  CHECK(!native->replaced);

  REQUIRE(std::system("ip link add v.5 type veth peer name v.5p && ip link set v.5 up") == 0);
  REQUIRE(node.programs().attach_xdp(if_nametoindex("v.5"), "v.5", config::XdpMode::automatic));
  REQUIRE(std::system("ip link del v.5 && ip link add v.5 type veth peer name v.5p && ip link set v.5 up") == 0);
  CHECK(!BpfPrograms::attached_xdp(node.pin_dir(), "v.5"));
  const auto fresh = node.programs().attach_xdp(if_nametoindex("v.5"), "v.5", config::XdpMode::automatic);
  REQUIRE(fresh);
  CHECK(!fresh->replaced);
  CHECK(xdp_program_on(if_nametoindex("v.5")) != 0);
  REQUIRE(std::system("ip link del v.5") == 0);
  CHECK(BpfPrograms::detach_xdp(node.pin_dir(), "v.5") == true);
}

TEST_CASE("XDP: a device that cannot do native gets generic, and the reason is told") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  const std::uint32_t loopback = if_nametoindex("lo");
  CHECK(!node.programs().attach_xdp(loopback, "lo", config::XdpMode::native));
  const auto attached = node.programs().attach_xdp(loopback, "lo", config::XdpMode::automatic);
  REQUIRE(attached);
  CHECK(attached->mode == XdpModeUsed::generic);
  CHECK(!attached->native_refusal.empty());
  CHECK(BpfPrograms::detach_xdp(node.pin_dir(), "lo") == true);
}

TEST_CASE("XDP: somebody else's program is not pushed aside") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  const int foreign = node.programs().xdp_ingress_fd();
  REQUIRE(bpf_xdp_attach(static_cast<int>(node.out0), foreign, 0, nullptr) == 0);
  for (const auto mode : {config::XdpMode::automatic, config::XdpMode::native, config::XdpMode::generic}) {
    const auto refused = node.programs().attach_xdp(node.out0, "out0", mode);
    REQUIRE(!refused);
    CHECK(refused.error().code == EBUSY);
    CHECK(refused.error().what.find("another XDP program") != std::string::npos);
    CHECK(refused.error().what.find("postern_xdp_ing") != std::string::npos);
  }
  REQUIRE(bpf_xdp_detach(static_cast<int>(node.out0), 0, nullptr) == 0);
  CHECK(node.programs().attach_xdp(node.out0, "out0", config::XdpMode::automatic));
}

TEST_CASE("XDP on a veth with a jumbo MTU needs frags, and has them") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  REQUIRE(std::system("ip link set out0 mtu 9000 && ip link set out0p mtu 9000") == 0);
  const auto attached = node.programs().attach_xdp(node.out0, "out0", config::XdpMode::native);
  CHECK_MESSAGE(attached.has_value(), (attached ? "" : attached.error().message()));
}

TEST_CASE("TC: attach, replace in place, detach; other filters and their clsact stay") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  REQUIRE(node.programs().attach_tc(node.out0, TcSide::egress));
  REQUIRE(node.programs().attach_tc(node.steer0, TcSide::ingress));
  CHECK(tc_program_on(node.out0, BPF_TC_EGRESS) == id_of(node.programs().tc_egress_fd()));
  CHECK(tc_program_on(node.steer0, BPF_TC_INGRESS) == id_of(node.programs().tc_ingress_fd()));
  CHECK(tc_program_on(node.out0, BPF_TC_INGRESS) == 0);

  auto second = BpfPrograms::load(node.pin_dir());
  REQUIRE(second);
  REQUIRE(second->attach_tc(node.out0, TcSide::egress));
  CHECK(tc_program_on(node.out0, BPF_TC_EGRESS) == id_of(second->tc_egress_fd()));

  LIBBPF_OPTS(bpf_tc_hook, hook);
  hook.ifindex = static_cast<int>(node.out0);
  hook.attach_point = BPF_TC_INGRESS;
  LIBBPF_OPTS(bpf_tc_opts, foreign);
  foreign.handle = 1;
  foreign.priority = 7;
  foreign.prog_fd = node.programs().tc_ingress_fd();
  REQUIRE(bpf_tc_attach(&hook, &foreign) == 0);
  CHECK(BpfPrograms::detach_tc(node.out0, TcSide::egress) == true);
  CHECK(has_clsact("out0"));
  CHECK(BpfPrograms::detach_tc(node.out0, TcSide::egress) == false);

  CHECK(has_clsact("steer0"));
  CHECK(BpfPrograms::detach_tc(node.steer0, TcSide::ingress) == true);
  CHECK(!has_clsact("steer0"));
  CHECK(BpfPrograms::detach_tc(node.steer0, TcSide::ingress) == false);
  CHECK(BpfPrograms::detach_tc(4'000'000, TcSide::egress) == false);
}

TEST_CASE("maps: kept across a restart, rebuilt when the ABI differs or one is missing") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  CHECK(node.programs().maps_are_new());
  node.set_sa(0x1001, "192.0.2.1");
  const auto sas = [](const BpfPrograms& programs) { return SaMap(programs.maps().sas).list()->size(); };
  const auto kept = BpfPrograms::load(node.pin_dir());
  REQUIRE(kept);
  CHECK(!kept->maps_are_new());
  CHECK(sas(*kept) == 1);

  REQUIRE(kept->maps().abi.update(0, POSTERN_ABI_VERSION + 1));
  const auto rebuilt = BpfPrograms::load(node.pin_dir());
  REQUIRE(rebuilt);
  CHECK(rebuilt->maps_are_new());
  CHECK(sas(*rebuilt) == 0);
  CHECK(sas(node.programs()) == 1);  // who runs on the old ones still does

  REQUIRE(std::filesystem::remove(node.pin_dir() / "xsks"));
  const auto completed = BpfPrograms::load(node.pin_dir());
  REQUIRE(completed);
  CHECK(completed->maps_are_new());

  const Fd other_shape(bpf_map_create(BPF_MAP_TYPE_HASH, "sas", 4, 4, 1, nullptr));
  REQUIRE(std::filesystem::remove(node.pin_dir() / "sas"));
  REQUIRE(bpf_obj_pin(other_shape.get(), (node.pin_dir() / "sas").c_str()) == 0);
  const auto reshaped = BpfPrograms::load(node.pin_dir());
  REQUIRE_MESSAGE(reshaped.has_value(), (reshaped ? "" : reshaped.error().message()));
  CHECK(reshaped->maps_are_new());
}

TEST_CASE("pins: removed with everything attached by them; a place that is no bpffs is refused") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  REQUIRE(node.programs().attach_xdp(node.out0, "out0", config::XdpMode::automatic));
  REQUIRE(BpfPrograms::remove_pins(node.pin_dir()));
  CHECK(!std::filesystem::exists(node.pin_dir()));
  CHECK(xdp_program_on(node.out0) == 0);
  CHECK(BpfPrograms::remove_pins(node.pin_dir()));
  const std::filesystem::path elsewhere =
      std::filesystem::temp_directory_path() / ("postern-test-" + std::to_string(getpid()));
  CHECK(!BpfPrograms::load(elsewhere));
  std::filesystem::remove_all(elsewhere);
}
