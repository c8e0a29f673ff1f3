#include "tests/bpf/bpf_node.hpp"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>

#include <fmt/format.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/vfs.h>

namespace postern::testing {
namespace {

template <class T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message());
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

void shell(const std::string& command) {
  if (std::system(command.c_str()) != 0) throw std::runtime_error("failed: " + command);
}

void write_file(const char* path, const char* text) {
  std::ofstream file(path);
  file << text;
  if (!file.flush()) throw std::runtime_error(std::string("write ") + path);
}

// Once a process: every test of it then makes its interfaces anew in there, and exit takes them away.
void enter_own_namespace() {
  static const bool entered = [] {
    if (::unshare(CLONE_NEWNET) != 0) throw std::runtime_error("unshare(CLONE_NEWNET)");
    write_file("/proc/sys/net/ipv4/ip_forward", "1");
    write_file("/proc/sys/net/ipv6/conf/all/forwarding", "1");
    write_file("/proc/sys/net/ipv6/conf/default/forwarding", "1");
    return true;
  }();
  (void)entered;
}

void mount_bpffs() {
  constexpr long bpffs_magic = 0xcafe4a11;
  struct statfs info{};
  if (::statfs("/sys/fs/bpf", &info) == 0 && info.f_type == bpffs_magic) return;
  if (::mount("bpf", "/sys/fs/bpf", "bpf", 0, nullptr) != 0) throw std::runtime_error("mount bpffs");
}

std::uint32_t veth(const std::string& name, const std::string& set_up) {
  shell(fmt::format("ip link add {0} type veth peer name {0}p && ip link set {0} up && ip link set {0}p up", name));
  if (!set_up.empty()) shell(set_up);
  return if_nametoindex(name.c_str());
}

postern_address address_of(std::string_view text) {
  postern_address out;
  std::memcpy(out.bytes, must(IpAddress::parse(text)).mapped().data(), sizeof out.bytes);
  return out;
}

PolicyRule rule(std::string_view source, std::string_view destination) {
  PolicyRule out;
  out.source = must(Prefix::parse(source));
  out.destination = must(Prefix::parse(destination));
  return out;
}

}  // namespace

PolicyRule permit(std::string_view source, std::string_view destination, std::uint32_t flow, std::uint32_t entry) {
  PolicyRule out = rule(source, destination);
  out.flow = flow;
  out.entry = entry;
  return out;
}

PolicyRule deny(std::string_view source, std::string_view destination, std::uint32_t entry) {
  PolicyRule out = rule(source, destination);
  out.permit = false;
  out.entry = entry;
  return out;
}

BpfNode::BpfNode() : pin_dir_(fmt::format("/sys/fs/bpf/postern-test-{}", ::getpid())) {
  enter_own_namespace();
  mount_bpffs();
  try {
    make_interfaces();
    programs_.emplace(must(loader::BpfPrograms::load(pin_dir_)));
    set_interface(out0, outside());
    set_interface(in0, inside());
    postern_interface tunnel{};
    tunnel.flow = 77;
    tunnel.flags = POSTERN_IF_TUNNEL;
    set_interface(tun0, tunnel);
    for (const char* local : {"192.0.2.1", "10.1.0.1", "2001:db8:ff::1", "2001:db8:1::1"}) set_local(local);
  } catch (...) {
    clean_up();
    throw;
  }
}

BpfNode::~BpfNode() { clean_up(); }

void BpfNode::clean_up() {
  programs_.reset();
  (void)loader::BpfPrograms::remove_pins(pin_dir_);
  for (const char* name : {"out0", "in0", "steer0", "tun0", "plain0"})
    if (if_nametoindex(name) != 0) (void)!std::system(fmt::format("ip link del {}", name).c_str());
}

void BpfNode::make_interfaces() {
  out0 = veth("out0", "ip addr add 192.0.2.1/24 dev out0 && ip addr add 2001:db8:ff::1/64 dev out0 nodad");
  in0 = veth("in0", "ip addr add 10.1.0.1/16 dev in0 && ip addr add 2001:db8:1::1/64 dev in0 nodad");
  steer0 = veth("steer0", "");
  tun0 = veth("tun0", "ip route add 10.4.0.0/16 dev tun0 && ip -6 route add 2001:db8:4::/64 dev tun0");
  plain0 = veth("plain0", "ip route add 198.51.100.0/24 dev plain0");
  shell("ip route add 10.2.0.0/16 via 192.0.2.2 && ip -6 route add 2001:db8:2::/64 via 2001:db8:ff::2");
}

postern_interface BpfNode::outside() const {
  postern_interface entry{};
  entry.xsk_base = 0;
  entry.queues = 1;
  entry.steer = steer0;
  entry.flags = POSTERN_IF_OUTSIDE;
  std::memcpy(entry.mac, "\x02\x00\x00\x00\x00\x01", 6);
  std::memcpy(entry.inject_source, "\x06\x11\x22\x33\x44\x55", 6);
  return entry;
}

postern_interface BpfNode::inside() const {
  postern_interface entry{};
  entry.xsk_base = 8;
  entry.queues = 1;
  entry.flags = POSTERN_IF_INSIDE;
  std::memcpy(entry.mac, "\x02\x00\x00\x00\x00\x01", 6);
  return entry;
}

void BpfNode::set_interface(std::uint32_t ifindex, const postern_interface& entry) {
  must(maps().interfaces.update(ifindex, entry));
}

void BpfNode::set_local(std::string_view address, std::uint32_t vrf) {
  must(maps().local_addresses.update({vrf, address_of(address)}, {}));
}

void BpfNode::set_sa(std::uint32_t spi, std::string_view destination, std::uint16_t encap_port, std::uint32_t vrf,
                     std::uint8_t protocol) {
  InboundSaEntry entry;
  entry.vrf = vrf;
  entry.spi = Spi{spi};
  entry.destination = must(IpAddress::parse(destination));
  entry.encap_port = encap_port;
  entry.protocol = static_cast<IpProto>(protocol);
  must(SaMap(maps().sas).insert(entry));
}

std::uint32_t BpfNode::set_policy(std::vector<PolicyRule> rules) {
  const std::uint32_t generation = next_generation_++;
  const PolicyWriter writer(maps());
  const std::uint32_t flags = policy_flags(rules);
  must(writer.write(must(compile({generation, std::move(rules)}))));
  const auto before = must(maps().interfaces.lookup(out0));
  must(writer.switch_interface(out0, generation, remembers_fragments ? flags : flags & ~POSTERN_IF_PORTS));
  if (before && before->generation != 0) must(writer.remove(before->generation));
  return generation;
}

void BpfNode::fill_slot(std::uint32_t slot) {
  Fd socket(::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
  const int entries = 64;
  // An RX ring is all that the map asks for; nothing is delivered in a test run.
  if (!socket || ::setsockopt(socket.get(), SOL_XDP, XDP_RX_RING, &entries, sizeof entries) != 0)
    throw std::runtime_error("AF_XDP socket");
  must(maps().xsks.update(slot, static_cast<std::uint32_t>(socket.get())));
  sockets_.push_back(std::move(socket));
}

void BpfNode::clear_slot(std::uint32_t slot) { must(maps().xsks.erase(slot)); }

RunResult BpfNode::xdp(const Octets& frame, std::uint32_t ifindex, std::uint32_t queue) {
  xdp_md in{}, out{};
  in.data_end = static_cast<std::uint32_t>(frame.size());
  in.ingress_ifindex = ifindex;
  in.rx_queue_index = queue;
  Octets after(frame.size() + 256);
  LIBBPF_OPTS(bpf_test_run_opts, run);
  run.data_in = frame.data();
  run.data_size_in = static_cast<std::uint32_t>(frame.size());
  run.data_out = after.data();
  run.data_size_out = static_cast<std::uint32_t>(after.size());
  run.ctx_in = &in;
  run.ctx_size_in = sizeof in;
  run.ctx_out = &out;
  run.ctx_size_out = sizeof out;
  if (bpf_prog_test_run_opts(programs_->xdp_ingress_fd(), &run) != 0)
    throw std::runtime_error(fmt::format("XDP test run: {}", std::strerror(errno)));
  RunResult result{.action = run.retval, .frame = {}, .metadata = {}};
  after.resize(run.data_size_out);
  if (out.data == sizeof(postern_stamp)) {
    result.metadata.emplace();
    std::memcpy(&*result.metadata, after.data(), sizeof(postern_stamp));
  }
  result.frame.assign(after.begin() + out.data, after.end());
  return result;
}

RunResult BpfNode::run_skb(int program, const Octets& frame, std::uint32_t ifindex, std::uint32_t mark) {
  __sk_buff context{};
  context.ifindex = ifindex;
  context.mark = mark;
  Octets after(frame.size() + 256);
  LIBBPF_OPTS(bpf_test_run_opts, run);
  run.data_in = frame.data();
  run.data_size_in = static_cast<std::uint32_t>(frame.size());
  run.data_out = after.data();
  run.data_size_out = static_cast<std::uint32_t>(after.size());
  run.ctx_in = &context;
  run.ctx_size_in = sizeof context;
  if (bpf_prog_test_run_opts(program, &run) != 0)
    throw std::runtime_error(fmt::format("TC test run: {}", std::strerror(errno)));
  after.resize(run.data_size_out);
  return {.action = run.retval, .frame = std::move(after), .metadata = {}};
}

RunResult BpfNode::tc_egress(const Octets& frame, std::uint32_t ifindex, std::uint32_t mark) {
  return run_skb(programs_->tc_egress_fd(), frame, ifindex, mark);
}

RunResult BpfNode::tc_ingress(const Octets& frame, std::uint32_t ifindex) {
  return run_skb(programs_->tc_ingress_fd(), frame, ifindex, 0);
}

std::uint64_t BpfNode::new_drops(Drop reason) {
  const auto key = static_cast<std::uint32_t>(reason);
  const std::uint64_t now = must(maps().drops.sum(key)).packets;
  return now - std::exchange(seen_drops_[key], now);
}

std::uint64_t BpfNode::new_verdicts(std::uint32_t ifindex, postern_hook hook, postern_verdict verdict) {
  const postern_verdict_key key{ifindex, static_cast<std::uint16_t>(hook), static_cast<std::uint16_t>(verdict)};
  const std::uint64_t now = must(maps().verdicts.sum(key)).packets;
  const auto id = std::uint64_t{ifindex} << 32 | std::uint64_t{key.hook} << 16 | key.verdict;
  return now - std::exchange(seen_verdicts_[id], now);
}

std::uint64_t BpfNode::hits(std::uint32_t generation, std::uint32_t ace) {
  return must(maps().ace_hits.sum({generation, ace})).packets;
}

}  // namespace postern::testing
