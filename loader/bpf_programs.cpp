#include "loader/bpf_programs.hpp"

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <system_error>
#include <utility>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/if_link.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "bpf/postern.skel.h"

namespace postern::loader {
namespace {

namespace fs = std::filesystem;

// Priority 1: an earlier filter that accepts would let a clear packet leave unseen. The handle is ours among filters
// there.
constexpr std::uint32_t tc_priority = 1;
constexpr std::uint32_t tc_handle = 0x504e;

// libbpf's words of this thread, kept to explain an error: the verifier says why at the end.
thread_local std::string libbpf_words;
constexpr std::size_t libbpf_words_kept = 4000;

int keep_words(enum libbpf_print_level level, const char* format, va_list arguments) {
  if (level > LIBBPF_WARN) return 0;
  std::array<char, 2048> line{};
  const int size = std::vsnprintf(line.data(), line.size(), format, arguments);
  libbpf_words += line.data();
  if (libbpf_words.size() > libbpf_words_kept) libbpf_words.erase(0, libbpf_words.size() - libbpf_words_kept);
  return size;
}

std::unexpected<Error> fail_libbpf(std::string what, int code) {
  if (!libbpf_words.empty()) what += " (" + std::exchange(libbpf_words, {}) + ")";
  return fail(std::move(what), code < 0 ? -code : code);
}

// bpffs reserves '.' in names; ':' cannot occur in the name of an interface.
fs::path link_path(const fs::path& pin_dir, std::string_view name) {
  std::string file = "xdp-" + std::string(name);
  std::ranges::replace(file, '.', ':');
  return pin_dir / "links" / file;
}

Result<void> unlink_pin(const fs::path& path) {
  std::error_code error;
  fs::remove(path, error);
  if (error) return fail("remove pin " + path.string(), error.value());
  return {};
}

std::vector<std::string> map_names() {
  std::vector<std::string> names;
  NodeMaps maps;
  for_each_map(maps, [&](const char* name, auto&) { names.emplace_back(name); });
  return names;
}

// Pins of this ABI, all of them: posternd writes the `abi` entry last, so a half-made set has none.
bool pins_are_usable(const fs::path& pin_dir) {
  const auto abi = PinnedMap<std::uint32_t, std::uint32_t>::open(pin_dir, "abi");
  if (!abi) return false;
  const auto version = abi->lookup(0);
  if (!version || *version != POSTERN_ABI_VERSION) return false;
  return std::ranges::all_of(map_names(), [&](const std::string& name) { return fs::exists(pin_dir / name); });
}

Result<void> remove_map_pins(const fs::path& pin_dir) {
  for (const std::string& name : map_names()) POSTERN_CHECK(unlink_pin(pin_dir / name));
  return {};
}

Result<std::uint32_t> link_ifindex(int link) {
  bpf_link_info info{};
  std::uint32_t size = sizeof info;
  if (bpf_obj_get_info_by_fd(link, &info, &size) != 0) return fail_errno("XDP link: describe");
  return info.xdp.ifindex;  // 0: its interface is gone
}

Result<XdpModeUsed> mode_on(std::uint32_t ifindex) {
  LIBBPF_OPTS(bpf_xdp_query_opts, query);
  if (const int code = bpf_xdp_query(static_cast<int>(ifindex), 0, &query); code != 0)
    return fail_libbpf("query XDP", code);
  if (query.attach_mode == XDP_ATTACHED_SKB) return XdpModeUsed::generic;
  if (query.attach_mode == XDP_ATTACHED_DRV || query.attach_mode == XDP_ATTACHED_HW) return XdpModeUsed::native;
  return fail("no XDP program is attached", ENOENT);
}

// "id 12, xdp_dispatcher": the program that is in the way.
std::string program_on(std::uint32_t ifindex) {
  std::uint32_t id = 0;
  if (bpf_xdp_query_id(static_cast<int>(ifindex), 0, &id) != 0 || id == 0) return "unknown";
  const Fd program(bpf_prog_get_fd_by_id(id));
  bpf_prog_info info{};
  std::uint32_t size = sizeof info;
  if (!program || bpf_obj_get_info_by_fd(program.get(), &info, &size) != 0) return fmt::format("id {}", id);
  return fmt::format("id {}, {}", id, info.name);
}

Result<Fd> create_link(int program, std::uint32_t ifindex, XdpModeUsed mode) {
  LIBBPF_OPTS(bpf_link_create_opts, options);
  options.flags = mode == XdpModeUsed::native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
  Fd link(bpf_link_create(program, static_cast<int>(ifindex), BPF_XDP, &options));
  if (link) return link;
  if (errno == EBUSY || errno == EEXIST)
    return fail("attach XDP: another XDP program is on the interface (" + program_on(ifindex) + ")", EBUSY);
  return fail_errno(fmt::format("attach XDP in {} mode", name_of(mode)));
}

bpf_tc_hook hook_of(std::uint32_t ifindex, bpf_tc_attach_point point) {
  LIBBPF_OPTS(bpf_tc_hook, hook);
  hook.ifindex = static_cast<int>(ifindex);
  hook.attach_point = point;
  return hook;
}

bpf_tc_attach_point point_of(TcSide side) { return side == TcSide::egress ? BPF_TC_EGRESS : BPF_TC_INGRESS; }

// Whether any filter hangs on one side of clsact (RTM_GETTFILTER dump).
Result<bool> has_filters(std::uint32_t ifindex, std::uint32_t side) {
  const Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!socket) return fail_errno("netlink socket");
  struct {
    nlmsghdr header{};
    tcmsg message{};
  } request;
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = RTM_GETTFILTER;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.message.tcm_family = AF_UNSPEC;
  request.message.tcm_ifindex = static_cast<int>(ifindex);
  request.message.tcm_parent = TC_H_MAKE(TC_H_CLSACT, side);
  if (::send(socket.get(), &request, sizeof request, 0) < 0) return fail_errno("dump TC filters");
  alignas(nlmsghdr) std::array<char, 32768> buffer;
  bool found = false;
  for (;;) {
    const ssize_t got = ::recv(socket.get(), buffer.data(), buffer.size(), 0);
    if (got <= 0) return fail_errno("dump TC filters");
    auto left = static_cast<std::uint32_t>(got);
    for (auto* message = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(message, left);
         message = NLMSG_NEXT(message, left)) {
      if (message->nlmsg_type == NLMSG_DONE || message->nlmsg_type == NLMSG_ERROR) return found;
      found = found || message->nlmsg_type == RTM_NEWTFILTER;
    }
  }
}

}  // namespace

struct BpfPrograms::Skeleton {
  postern_bpf* object = nullptr;
  explicit Skeleton(postern_bpf* opened) : object(opened) {}
  Skeleton(const Skeleton&) = delete;
  Skeleton& operator=(const Skeleton&) = delete;
  ~Skeleton() { postern_bpf__destroy(object); }
};

BpfPrograms::BpfPrograms(std::unique_ptr<Skeleton> skeleton, fs::path pin_dir)
    : skeleton_(std::move(skeleton)), pin_dir_(std::move(pin_dir)) {}
BpfPrograms::BpfPrograms(BpfPrograms&&) noexcept = default;
BpfPrograms& BpfPrograms::operator=(BpfPrograms&&) noexcept = default;
BpfPrograms::~BpfPrograms() = default;

Result<void> BpfPrograms::load_object() {
  libbpf_set_print(keep_words);
  libbpf_words.clear();
  skeleton_ = std::make_unique<Skeleton>(postern_bpf__open());
  if (skeleton_->object == nullptr) return fail_libbpf("open BPF object", errno);
  for (const std::string& name : map_names()) {
    bpf_map* const map = bpf_object__find_map_by_name(skeleton_->object->obj, name.c_str());
    if (map == nullptr) return fail("BPF object has no map " + name, ENOENT);
    if (bpf_map__set_pin_path(map, (pin_dir_ / name).c_str()) != 0) return fail_libbpf("pin map " + name, errno);
  }
  if (const int code = postern_bpf__load(skeleton_->object); code != 0) return fail_libbpf("load BPF programs", code);
  libbpf_words.clear();
  return {};
}

Result<BpfPrograms> BpfPrograms::load(const fs::path& pin_dir) {
  std::error_code error;
  fs::create_directories(pin_dir / "links", error);
  if (error) return fail("make " + pin_dir.string(), error.value());
  BpfPrograms programs(nullptr, pin_dir);
  programs.maps_are_new_ = !pins_are_usable(pin_dir);
  if (programs.maps_are_new_) POSTERN_CHECK(remove_map_pins(pin_dir));
  if (auto loaded = programs.load_object(); !loaded) {
    // libbpf refuses pins of another shape with EINVAL; fresh maps cannot have that.
    if (programs.maps_are_new_ || loaded.error().code != EINVAL) return std::unexpected(std::move(loaded.error()));
    programs.maps_are_new_ = true;
    POSTERN_CHECK(remove_map_pins(pin_dir));
    POSTERN_CHECK(programs.load_object());
  }
  POSTERN_TRY(maps, NodeMaps::open(pin_dir));
  programs.maps_ = std::move(maps);
  POSTERN_CHECK(programs.maps_.abi.update(0, POSTERN_ABI_VERSION));
  return programs;
}

// The pinned link of a living interface gets the new program; what is stale goes. True: updated, nothing left to do.
Result<bool> BpfPrograms::update_link(const fs::path& path, std::uint32_t ifindex, config::XdpMode mode) const {
  const Fd link(bpf_obj_get(path.c_str()));
  if (!link) {
    if (errno == ENOENT) return false;
    return fail_errno("open XDP link " + path.string());
  }
  POSTERN_TRY(attached_to, link_ifindex(link.get()));
  bool keep = attached_to == ifindex;
  if (keep && mode != config::XdpMode::automatic) {
    POSTERN_TRY(used, mode_on(ifindex));
    keep = used == (mode == config::XdpMode::native ? XdpModeUsed::native : XdpModeUsed::generic);
  }
  if (keep) {
    if (bpf_link_update(link.get(), xdp_ingress_fd(), nullptr) != 0) return fail_errno("replace XDP program");
    return true;
  }
  if (attached_to != 0 && bpf_link_detach(link.get()) != 0) return fail_errno("detach old XDP link");
  POSTERN_CHECK(unlink_pin(path));
  return false;
}

Result<XdpAttachment> BpfPrograms::attach_xdp(std::uint32_t ifindex, std::string_view name, config::XdpMode mode) {
  const fs::path path = link_path(pin_dir_, name);
  XdpAttachment attachment;
  POSTERN_TRY(updated, update_link(path, ifindex, mode));
  if (updated) {
    POSTERN_TRY(used, mode_on(ifindex));
    attachment.mode = used;
    attachment.replaced = true;
    return attachment;
  }
  attachment.mode = mode == config::XdpMode::generic ? XdpModeUsed::generic : XdpModeUsed::native;
  auto link = create_link(xdp_ingress_fd(), ifindex, attachment.mode);
  if (!link && mode == config::XdpMode::automatic && link.error().code != EBUSY) {
    attachment.native_refusal = link.error().message();
    attachment.mode = XdpModeUsed::generic;
    link = create_link(xdp_ingress_fd(), ifindex, attachment.mode);
  }
  if (!link) return fail(std::string(name) + ": " + link.error().what, link.error().code);
  if (bpf_obj_pin(link->get(), path.c_str()) != 0) return fail_errno("pin XDP link " + path.string());
  return attachment;
}

Result<bool> BpfPrograms::detach_xdp(const fs::path& pin_dir, std::string_view name) {
  const fs::path path = link_path(pin_dir, name);
  const Fd link(bpf_obj_get(path.c_str()));
  if (!link) {
    if (errno == ENOENT) return false;
    return fail_errno("open XDP link " + path.string());
  }
  // ENOLINK: the interface went away with its attachment.
  if (bpf_link_detach(link.get()) != 0 && errno != ENOLINK) return fail_errno("detach XDP from " + std::string(name));
  POSTERN_CHECK(unlink_pin(path));
  return true;
}

Result<XdpModeUsed> BpfPrograms::attached_xdp(const fs::path& pin_dir, std::string_view name) {
  const fs::path path = link_path(pin_dir, name);
  const Fd link(bpf_obj_get(path.c_str()));
  if (!link) return fail_errno("open XDP link " + path.string());
  POSTERN_TRY(ifindex, link_ifindex(link.get()));
  if (ifindex == 0) return fail("XDP link " + path.string() + ": its interface is gone", ENODEV);
  return mode_on(ifindex);
}

Result<void> BpfPrograms::attach_tc(std::uint32_t ifindex, TcSide side) {
  libbpf_words.clear();
  bpf_tc_hook hook = hook_of(ifindex, point_of(side));
  if (const int code = bpf_tc_hook_create(&hook); code != 0 && code != -EEXIST) return fail_libbpf("add clsact", code);
  LIBBPF_OPTS(bpf_tc_opts, options);
  options.handle = tc_handle;
  options.priority = tc_priority;
  options.prog_fd = side == TcSide::egress ? tc_egress_fd() : tc_ingress_fd();
  options.flags = BPF_TC_F_REPLACE;
  if (const int code = bpf_tc_attach(&hook, &options); code != 0) return fail_libbpf("attach TC program", code);
  libbpf_words.clear();
  return {};
}

Result<bool> BpfPrograms::detach_tc(std::uint32_t ifindex, TcSide side) {
  libbpf_set_print(keep_words);
  libbpf_words.clear();
  bpf_tc_hook hook = hook_of(ifindex, point_of(side));
  LIBBPF_OPTS(bpf_tc_opts, options);
  options.handle = tc_handle;
  options.priority = tc_priority;
  const int code = bpf_tc_detach(&hook, &options);
  // EINVAL: no clsact; ENOENT: no such filter; ENODEV: no such interface.
  if (code == -EINVAL || code == -ENOENT || code == -ENODEV) return false;
  if (code != 0) return fail_libbpf("detach TC program", code);
  POSTERN_TRY(ingress_in_use, has_filters(ifindex, TC_H_MIN_INGRESS));
  POSTERN_TRY(egress_in_use, has_filters(ifindex, TC_H_MIN_EGRESS));
  if (ingress_in_use || egress_in_use) return true;
  bpf_tc_hook both = hook_of(ifindex, static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS));
  if (const int destroyed = bpf_tc_hook_destroy(&both); destroyed != 0) return fail_libbpf("remove clsact", destroyed);
  return true;
}

Result<void> BpfPrograms::remove_pins(const fs::path& pin_dir) {
  std::error_code error;
  // Detached by word: the kernel frees an unpinned link some time later.
  for (const auto& pin : fs::directory_iterator(pin_dir / "links", error)) {
    const Fd link(bpf_obj_get(pin.path().c_str()));
    if (link && bpf_link_detach(link.get()) != 0 && errno != ENOLINK)
      return fail_errno("detach " + pin.path().string());
  }
  fs::remove_all(pin_dir, error);
  if (error) return fail("remove " + pin_dir.string(), error.value());
  return {};
}

int BpfPrograms::xdp_ingress_fd() const { return bpf_program__fd(skeleton_->object->progs.postern_xdp_ingress); }
int BpfPrograms::tc_egress_fd() const { return bpf_program__fd(skeleton_->object->progs.postern_tc_egress); }
int BpfPrograms::tc_ingress_fd() const { return bpf_program__fd(skeleton_->object->progs.postern_tc_ingress); }

}  // namespace postern::loader
