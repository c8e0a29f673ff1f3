// Packets that an AF_XDP socket cannot take or bring whole: real sockets of the kernel, whose rings the test fills.
#include <thread>

#include <linux/if_xdp.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "harness.hpp"
#include "worker/ring_poll.hpp"
#include "worker/thread_egress.hpp"
#include "worker/thread_input.hpp"

namespace postern::test {
namespace {

constexpr std::uint32_t out_ifindex = 1;  // lo
constexpr std::uint32_t offset = 256;

UmemLayout layout_of_bench() {
  UmemLayout out;
  out.frames = 64;
  out.fill_entries = out.completion_entries = out.rx_entries = 64;
  out.tx_entries = 8;
  return out;
}

// One worker thread's books with one AF_XDP socket, not bound to any interface yet.
struct XskBench {
  UmemLayout layout = layout_of_bench();
  std::unique_ptr<ThreadCounters> counters = std::make_unique<ThreadCounters>();
  std::unique_ptr<AdjacencyTable> adjacencies = std::make_unique<AdjacencyTable>();
  std::unique_ptr<Ring> ring = std::move(PollRing::create().value());
  Outbox<WorkerNews> outbox{std::move(Bell::create().value())};
  std::unique_ptr<Umem> umem;
  ThreadContext context{*ring, DeviceTable{*counters}, Capture{*counters}, *counters, *adjacencies, outbox, {}, nullptr,
                        {}};
  Device* device = nullptr;

  XskBench() {
    Fd memory(::memfd_create("umem", MFD_CLOEXEC));
    REQUIRE(::ftruncate(memory.get(), off_t{layout.frames} * layout.frame_bytes) == 0);
    umem = std::move(Umem::map(memory, layout).value());
    context.home = umem.get();
    AddDevice spec;
    spec.kind = DeviceKind::xsk_outside;
    spec.ifindex = out_ifindex;
    spec.umem = layout;
    device = context.devices.add(spec).value();
    device->holder = 1;
  }

  // False: this process may not have such a socket.
  bool open_socket() {
    Fd socket(::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
    if (!socket) {
      MESSAGE("skipped: no AF_XDP socket for this process");
      return false;
    }
    xdp_umem_reg registration{};
    registration.addr = reinterpret_cast<std::uint64_t>(umem->at(0));
    registration.len = umem->bytes();
    registration.chunk_size = layout.frame_bytes;
    REQUIRE(::setsockopt(socket.get(), SOL_XDP, XDP_UMEM_REG, &registration, sizeof registration) == 0);
    const auto size_ring = [&](int which, std::uint32_t entries) {
      REQUIRE(::setsockopt(socket.get(), SOL_XDP, which, &entries, sizeof entries) == 0);
    };
    size_ring(XDP_UMEM_FILL_RING, layout.fill_entries);
    size_ring(XDP_UMEM_COMPLETION_RING, layout.completion_entries);
    size_ring(XDP_RX_RING, layout.rx_entries);
    size_ring(XDP_TX_RING, layout.tx_entries);
    device->files[0] = std::move(socket);
    device->xsk.emplace(std::move(Xsk::map(device->files[0].get(), layout, *umem, device->holder).value()));
    return true;
  }

  std::uint64_t drops(Drop reason) const { return counters->drops[static_cast<std::size_t>(reason)].load(); }
  std::uint64_t all_drops() const {
    std::uint64_t out = 0;
    for (const Counter& one : counters->drops) out += one.load();
    return out;
  }

  WirePacket packet(std::uint32_t size = 100) {
    WirePacket out;
    out.ifindex = out_ifindex;
    out.packet.frame = umem->pool().take();
    out.packet.buffer = umem->at(out.packet.frame);
    out.packet.capacity = layout.frame_bytes;
    out.packet.offset = offset;
    out.packet.size = size;
    return out;
  }
};

// As the kernel writes the receive ring.
XskRing<xdp_desc> kernel_side(const XskBench& bench) {
  const int socket = bench.device->files[0].get();
  xdp_mmap_offsets offsets{};
  socklen_t size = sizeof offsets;
  REQUIRE(::getsockopt(socket, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &size) == 0);
  const std::uint32_t entries = bench.layout.rx_entries;
  auto memory = Mapping::map(offsets.rx.desc + entries * sizeof(xdp_desc), PROT_READ | PROT_WRITE, MAP_SHARED, socket,
                             XDP_PGOFF_RX_RING, "RX ring");
  return {std::move(memory.value()), offsets.rx, entries};
}

// In a network namespace of its own, whose lo is up; the socket is bound there.
void bind_to_own_loopback(const XskBench& bench) {
  REQUIRE(::unshare(CLONE_NEWNET) == 0);
  const Fd control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::memcpy(request.ifr_name, "lo", 3);
  request.ifr_flags = IFF_UP;
  REQUIRE(::ioctl(control.get(), SIOCSIFFLAGS, &request) == 0);
  sockaddr_xdp address{};
  address.sxdp_family = AF_XDP;
  address.sxdp_flags = XDP_COPY;
  address.sxdp_ifindex = out_ifindex;
  REQUIRE(::bind(bench.device->files[0].get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
}

}  // namespace

TEST_CASE("AF_XDP: what a full transmit ring does not take is dropped as tx_full, and its frames come back") {
  XskBench bench;
  if (!bench.open_socket()) return;
  const std::uint32_t free = bench.umem->pool().available();
  ThreadEgress egress(bench.context);
  std::vector<WirePacket> packets;
  for (std::uint32_t i = 0; i < bench.layout.tx_entries + 3; ++i) packets.push_back(bench.packet());
  egress.transmit(packets);  // the socket is not bound: nobody takes them
  CHECK(bench.drops(Drop::tx_full) == 3);
  CHECK(bench.all_drops() == 3);
  CHECK(bench.device->counters->tx_refused == 3);
  CHECK(bench.device->xsk->tx_waiting() == bench.layout.tx_entries);
  CHECK(bench.umem->pool().available() == free - bench.layout.tx_entries);
}

TEST_CASE("AF_XDP: a packet in several descriptors that fits no frame is dropped as oversize, its frames come back") {
  XskBench bench;
  if (!bench.open_socket()) return;
  Node node;  // nothing of it is asked: the packet does not come so far
  ThreadInput input(bench.context);
  input.feed(node.pipeline.get());
  const std::uint32_t free = bench.umem->pool().available();
  auto kernel = kernel_side(bench);
  for (const std::uint32_t more : {xdp_packet_continues, xdp_packet_continues, 0U}) {
    const FrameAddress frame = bench.umem->pool().take();
    bench.umem->lend(frame, bench.device->holder);
    kernel.put({frame + offset, 3000, more});
  }
  kernel.publish();
  input.take_batches();
  CHECK(bench.drops(Drop::oversize) == 1);
  CHECK(bench.all_drops() == 1);
  CHECK(bench.device->counters->rx_packets == 1);
  CHECK(bench.umem->pool().available() == free);
}

TEST_CASE("AF_XDP: a descriptor that the kernel refuses is counted as invalid_descriptor, and not as sent") {
  XskBench bench;
  if (!bench.open_socket()) return;
  std::thread([&] { bind_to_own_loopback(bench); }).join();
  for (const std::uint32_t size : {100U, 100U, bench.layout.frame_bytes + 1}) {
    const WirePacket one = bench.packet(size);
    bench.device->xsk->put(bench.umem->address_of(one.packet.data()), size);
  }
  bench.device->xsk->publish();
  const auto kick = [&] { (void)::sendto(bench.device->files[0].get(), nullptr, 0, MSG_DONTWAIT, nullptr, 0); };
  for (int attempt = 0; attempt < 100 && bench.device->xsk->tx_waiting() > 0; ++attempt) kick();
  refresh_xsk_counters(*bench.device, *bench.counters);
  bench.device->xsk->reclaim(*bench.device->counters);
  CHECK(bench.drops(Drop::invalid_descriptor) == 1);
  CHECK(bench.all_drops() == 1);
  CHECK(bench.device->counters->kernel_tx_invalid == 1);
  CHECK(bench.device->counters->tx_packets == 2);
}

}  // namespace postern::test
