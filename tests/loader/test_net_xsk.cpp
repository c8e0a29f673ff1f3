// loader/xsk_setup end to end: posternd's side here, the worker's side in a child without any privilege that maps the
// rings before the socket is bound, over real veth devices with native XDP.
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <span>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "loader/netlink.hpp"
#include "loader/sockets.hpp"
#include "loader/xsk_setup.hpp"
#include "tests/loader/net_lab.hpp"

using namespace postern;
using namespace postern::loader;
using namespace postern::net_test;

namespace {

constexpr std::uint32_t ring_entries = 64;
constexpr std::uint32_t frames = 256;

UmemLayout layout() {
  return {.frames = frames,
          .frame_bytes = 4096,
          .headroom = 256,
          .fill_entries = ring_entries,
          .completion_entries = ring_entries,
          .rx_entries = ring_entries,
          .tx_entries = ring_entries,
          .umem_id = 1};
}

// bpf_redirect_map(xsks, rx_queue_index + base, XDP_DROP)
Fd load_redirect(int map, int base) {
  const auto insn = [](std::uint8_t code, std::uint8_t dst, std::uint8_t src, std::int16_t off, std::int32_t imm) {
    bpf_insn out{};
    out.code = code;
    out.dst_reg = dst & 0xfU;
    out.src_reg = src & 0xfU;
    out.off = off;
    out.imm = imm;
    return out;
  };
  const std::array program = {
      insn(BPF_LDX | BPF_MEM | BPF_W, 2, 1, offsetof(xdp_md, rx_queue_index), 0),
      insn(BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, base),
      insn(BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_FD, 0, map),
      insn(0, 0, 0, 0, 0),
      insn(BPF_ALU64 | BPF_MOV | BPF_K, 3, 0, 0, XDP_DROP),
      insn(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_redirect_map),
      insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
  };
  return Fd(::bpf_prog_load(BPF_PROG_TYPE_XDP, "test_redirect", "GPL", program.data(), program.size(), nullptr));
}

Fd make_xsk_map() { return Fd(::bpf_map_create(BPF_MAP_TYPE_XSKMAP, "test_xsks", 4, 4, 8, nullptr)); }

// An Ethernet frame of the local experimental type (IEEE 802), so that no protocol of the host answers it.
std::array<std::uint8_t, 64> frame_with(std::uint8_t mark) {
  std::array<std::uint8_t, 64> frame{};
  frame.fill(mark);
  std::memset(frame.data(), 0xff, 6);
  frame[12] = 0x88;
  frame[13] = 0xb5;
  return frame;
}

// --- the worker's side: no exception, no doctest; the exit status of the child says where it failed.
struct Ring {
  std::atomic<std::uint32_t>* producer = nullptr;
  std::atomic<std::uint32_t>* consumer = nullptr;
  std::byte* entries = nullptr;
};

bool map_ring(int fd, std::uint64_t page_offset, const xdp_ring_offset& offset, std::size_t entry, Ring& ring) {
  void* const at = ::mmap(nullptr, offset.desc + ring_entries * entry, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_POPULATE, fd, static_cast<off_t>(page_offset));
  if (at == MAP_FAILED) return false;
  auto* const base = static_cast<std::byte*>(at);
  ring = {reinterpret_cast<std::atomic<std::uint32_t>*>(base + offset.producer),
          reinterpret_cast<std::atomic<std::uint32_t>*>(base + offset.consumer), base + offset.desc};
  return true;
}

struct WorkerXsk {
  int fd = -1;
  Ring rx, tx, fill, completion;
  bool map() {
    xdp_mmap_offsets offsets{};
    socklen_t size = sizeof offsets;
    return ::getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &size) == 0 &&
           map_ring(fd, XDP_PGOFF_RX_RING, offsets.rx, sizeof(xdp_desc), rx) &&
           map_ring(fd, XDP_PGOFF_TX_RING, offsets.tx, sizeof(xdp_desc), tx) &&
           map_ring(fd, XDP_UMEM_PGOFF_FILL_RING, offsets.fr, sizeof(std::uint64_t), fill) &&
           map_ring(fd, XDP_UMEM_PGOFF_COMPLETION_RING, offsets.cr, sizeof(std::uint64_t), completion);
  }
  void give_frames(std::uint32_t first, std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i)
      reinterpret_cast<std::uint64_t*>(fill.entries)[i] = std::uint64_t{first + i} * 4096;
    fill.producer->store(count, std::memory_order_release);
  }
  [[nodiscard]] xdp_desc receive() const {
    while (rx.producer->load(std::memory_order_acquire) == rx.consumer->load()) {
      pollfd one{fd, POLLIN, 0};
      if (::poll(&one, 1, 3000) <= 0) return {};
    }
    const auto at = rx.consumer->load();
    const xdp_desc out = reinterpret_cast<xdp_desc*>(rx.entries)[at % ring_entries];
    rx.consumer->store(at + 1, std::memory_order_release);
    return out;
  }
  [[nodiscard]] bool transmit(std::uint64_t address, std::uint32_t size) const {
    reinterpret_cast<xdp_desc*>(tx.entries)[0] = {address, size, 0};
    tx.producer->store(1, std::memory_order_release);
    return ::sendto(fd, nullptr, 0, MSG_DONTWAIT, nullptr, 0) >= 0 || errno == EAGAIN || errno == EBUSY;
  }
};

// Takes a marked frame from each socket and sends it back with another mark.
[[noreturn]] void play_worker(const std::array<int, 2>& sockets, int umem, int ready, int go) {
  if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0) ::_exit(10);
  auto* const memory =
      static_cast<std::byte*>(::mmap(nullptr, std::size_t{frames} * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, umem, 0));
  if (memory == MAP_FAILED) ::_exit(11);
  std::array<WorkerXsk, 2> xsks{};
  for (std::size_t i = 0; i < 2; ++i) {
    xsks[i].fd = sockets[i];
    if (!xsks[i].map()) ::_exit(12);
    xsks[i].give_frames(static_cast<std::uint32_t>(i) * 100, 32);
  }
  char byte = 1;
  if (::write(ready, &byte, 1) != 1 || ::read(go, &byte, 1) != 1) ::_exit(13);
  for (std::size_t i = 0; i < 2; ++i) {
    const xdp_desc got = xsks[i].receive();
    const auto expected = frame_with(static_cast<std::uint8_t>(0xa0 + i));
    if (got.len != expected.size()) ::_exit(14);
    if (std::memcmp(memory + got.addr, expected.data(), expected.size()) != 0) ::_exit(15);
    // Headroom in front of what arrived, as the layout says.
    if (got.addr % 4096 < 256) ::_exit(16);
    const auto answer = frame_with(static_cast<std::uint8_t>(0xb0 + i));
    std::memcpy(memory + got.addr, answer.data(), answer.size());
    if (!xsks[i].transmit(got.addr, got.len)) ::_exit(17);
  }
  ::_exit(0);
}

// --- posternd's side
struct Lab : OwnNamespace {
  Lab() {
    shell("ip link add out0 type veth peer name far0 netns " + far.path());
    shell("ip link add out1 type veth peer name far1 netns " + far.path());
    shell("ip link set out0 up && ip link set out1 up");
    far.run([] { shell("ip link set far0 up && ip link set far1 up"); });
    for (const char* name : {"out0", "out1"}) until_it_carries(name);
    far.run([] {
      for (const char* name : {"far0", "far1"}) until_it_carries(name);
    });
    for (const char* name : {"out0", "out1"}) ifindex.push_back(netlink.link(name).value().ifindex);
  }
  Namespace far;
  Netlink netlink = Netlink::open().value();
  std::vector<std::uint32_t> ifindex;
};

Fd listen_on(const Namespace& where, const char* device) {
  return where.run([&] {
    Netlink netlink = Netlink::open().value();
    Fd socket = open_packet_out(netlink.link(device).value().ifindex).value();
    struct {
      std::uint16_t family, protocol;
      std::int32_t ifindex;
      std::array<std::uint8_t, 12> rest;
    } address{AF_PACKET, __builtin_bswap16(0x88b5), static_cast<int>(netlink.link(device).value().ifindex), {}};
    REQUIRE(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    return socket;
  });
}

}  // namespace

TEST_CASE("hand-over: an unprivileged worker maps, then the sockets are bound, and frames go both ways") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  POSTERN_OK(raise_memlock_limit());
  const Fd map = make_xsk_map();
  REQUIRE(map);
  for (int i = 0; i < 2; ++i) {
    const Fd program = load_redirect(map.get(), i);
    REQUIRE(program);
    const auto ifindex = static_cast<int>(lab.ifindex[static_cast<std::size_t>(i)]);
    REQUIRE(::bpf_xdp_attach(ifindex, program.get(), XDP_FLAGS_DRV_MODE, nullptr) == 0);
  }

  std::array<int, 2> ready{}, go{};
  REQUIRE(::pipe(ready.data()) == 0);
  REQUIRE(::pipe(go.data()) == 0);
  pid_t worker = -1;
  {
    POSTERN_GET(group, XskGroup::create({layout(), ZeroCopy::automatic, false}));
    POSTERN_GET(first, group.prepare({lab.ifindex[0], 0, "out0"}));
    POSTERN_GET(second, group.prepare({lab.ifindex[1], 0, "out1"}));
    CHECK(group.bind(second, map.get(), 1).error().code == EINVAL);  // the first one first
    worker = ::fork();
    REQUIRE(worker >= 0);
    if (worker == 0) play_worker({first.fd(), second.fd()}, group.umem_memfd(), ready[1], go[0]);
    REQUIRE(readable(ready[0], std::chrono::seconds(3)));
    POSTERN_GET(binding, group.bind(first, map.get(), 0));
    CHECK(!binding.zero_copy);  // veth copies
    CHECK(!binding.scatter_gather);
    POSTERN_GET(shared, group.bind(second, map.get(), 1));
    CHECK(shared.tx_budget == binding.tx_budget);
  }  // posternd keeps nothing: from here on the child alone holds the sockets
  const Fd far0 = listen_on(lab.far, "far0"), far1 = listen_on(lab.far, "far1");
  const auto zero = frame_with(0xa0), one = frame_with(0xa1);
  REQUIRE(::send(far0.get(), zero.data(), zero.size(), 0) == static_cast<ssize_t>(zero.size()));
  REQUIRE(::send(far1.get(), one.data(), one.size(), 0) == static_cast<ssize_t>(one.size()));
  REQUIRE(::write(go[1], "g", 1) == 1);
  for (const auto& [socket, mark] : {std::pair{far0.get(), 0xb0}, std::pair{far1.get(), 0xb1}}) {
    CAPTURE(mark);
    REQUIRE(readable(socket, std::chrono::seconds(10)));
    std::array<std::uint8_t, 128> answer{};
    CHECK(::recv(socket, answer.data(), answer.size(), 0) == 64);
    CHECK(answer[20] == mark);
  }
  int status = -1;
  REQUIRE(::waitpid(worker, &status, 0) == worker);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  for (const int end : {ready[0], ready[1], go[0], go[1]}) ::close(end);
}

TEST_CASE("UMEM: what the socket pinned is what every other mapping of the memfd shows") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  POSTERN_GET(group, XskGroup::create({layout(), ZeroCopy::off, false}));
  POSTERN_GET(socket, group.prepare({lab.ifindex[0], 0, "out0"}));
  WorkerXsk worker;
  worker.fd = socket.fd();
  REQUIRE(worker.map());
  POSTERN_OK(group.bind(socket, -1, 0));
  POSTERN_GET(memory, Mapping::map(std::size_t{frames} * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, group.umem_memfd(),
                                   0, "test"));
  // Transmit from bytes that were written through this mapping alone.
  const Fd far0 = listen_on(lab.far, "far0");
  const auto frame = frame_with(0x5a);
  std::memcpy(memory.data() + 7 * 4096, frame.data(), frame.size());
  REQUIRE(worker.transmit(7 * 4096, 64));
  REQUIRE(readable(far0.get(), std::chrono::seconds(2)));
  std::array<std::uint8_t, 128> got{};
  CHECK(::recv(far0.get(), got.data(), got.size(), 0) == 64);
  CHECK(std::memcmp(got.data(), frame.data(), 64) == 0);
  // Nobody can cut the file under the kernel.
  CHECK(::ftruncate(group.umem_memfd(), 4096) == -1);
}

TEST_CASE("bind: a queue with a living owner is busy, one whose owner died is free again") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  const XskQueue queue{lab.ifindex[0], 0, "out0"};
  {
    POSTERN_GET(group, XskGroup::create({layout(), ZeroCopy::automatic, false}));
    POSTERN_GET(owner, group.prepare(queue));
    POSTERN_OK(group.bind(owner, -1, 0));
    POSTERN_GET(late, XskGroup::create({layout(), ZeroCopy::automatic, false}));
    POSTERN_GET(refused, late.prepare(queue));
    CHECK(late.bind(refused, -1, 0).error().code == EBUSY);
  }
  POSTERN_GET(group, XskGroup::create({layout(), ZeroCopy::automatic, true}));
  POSTERN_GET(socket, group.prepare(queue));
  POSTERN_OK(group.bind(socket, -1, 0));  // scatter-gather where the kernel has it, without where not
}

TEST_CASE("errors name what is wrong") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  struct Row {
    const char* words;
    UmemLayout layout;
  };
  const auto with = [](auto change) {
    UmemLayout out = layout();
    change(out);
    return out;
  };
  const std::array rows = {
      Row{"no frames", with([](UmemLayout& l) { l.frames = 0; })},
      Row{"frames of 1024 bytes", with([](UmemLayout& l) { l.frame_bytes = 1024; })},
      Row{"frames of 3000 bytes", with([](UmemLayout& l) { l.frame_bytes = 3000; })},
      Row{"frames of 8192 bytes", with([](UmemLayout& l) { l.frame_bytes = 8192; })},
      Row{"headroom of 0", with([](UmemLayout& l) { l.headroom = 0; })},
      Row{"powers of two", with([](UmemLayout& l) { l.rx_entries = 100; })},
      Row{"powers of two", with([](UmemLayout& l) { l.fill_entries = 0; })},
  };
  for (const Row& row : rows) {
    CAPTURE(row.words);
    const auto group = XskGroup::create({row.layout, ZeroCopy::automatic, false});
    REQUIRE(!group);
    CHECK(group.error().code == EINVAL);
    CHECK(group.error().what.find(row.words) != std::string::npos);
  }
  POSTERN_GET(group, XskGroup::create({layout(), ZeroCopy::automatic, false}));
  POSTERN_GET(socket, group.prepare({lab.ifindex[0], 99, "out0"}));
  const auto no_queue = group.bind(socket, -1, 0);
  REQUIRE(!no_queue);
  CHECK(no_queue.error().code == EINVAL);
  CHECK(no_queue.error().what == "AF_XDP out0 queue 99: bind");
  POSTERN_GET(other, XskGroup::create({layout(), ZeroCopy::automatic, false}));
  POSTERN_GET(nowhere, other.prepare({4242, 0, "none0"}));
  CHECK(other.bind(nowhere, -1, 0).error().code == ENODEV);
}

TEST_CASE("XSKMAP: a slot is filled by bind and can be emptied twice") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  const Fd map = make_xsk_map();
  POSTERN_GET(group, XskGroup::create({layout(), ZeroCopy::automatic, false}));
  POSTERN_GET(socket, group.prepare({lab.ifindex[0], 0, "out0"}));
  POSTERN_OK(group.bind(socket, map.get(), 5));
  POSTERN_OK(clear_xsk_slot(map.get(), 5));
  POSTERN_OK(clear_xsk_slot(map.get(), 5));
  CHECK(clear_xsk_slot(map.get(), 8).has_value() == false);  // beyond its end
  POSTERN_GET(late, XskGroup::create({layout(), ZeroCopy::automatic, false}));
  POSTERN_GET(second, late.prepare({lab.ifindex[1], 0, "out1"}));
  CHECK(late.bind(second, map.get(), 8).error().code == E2BIG);
}
