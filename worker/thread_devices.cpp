// How devices come to a worker thread and leave it.
#include <algorithm>
#include <ranges>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/log.hpp"
#include "worker/device_socket.hpp"
#include "worker/thread_worker.hpp"

namespace postern {
namespace {

// Kernels let go of the frames of a closed AF_XDP socket after an RCU grace period and, for io_uring's hold on the
// file, its own clean-up.
constexpr std::uint64_t quarantine_ns = 1'000'000'000;

Token token_of(const Device& device, Event event) { return {event, 0, device.index, 0}; }

Result<std::uint64_t> inode_of(const Fd& file) {
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return fail_errno("UMEM: fstat");
  return status.st_ino;
}

// A read that would wait returns instead, and io_uring arms a poll: the kernel before 6.4 needs the flag for that on a
// TUN.
Result<void> make_non_blocking(const Fd& file) {
  const int flags = ::fcntl(file.get(), F_GETFL);
  if (flags < 0 || ::fcntl(file.get(), F_SETFL, flags | O_NONBLOCK) != 0) return fail_errno("set non-blocking");
  return {};
}

Result<int> domain_of(const Fd& file) {
  int domain = 0;
  socklen_t size = sizeof domain;
  if (::getsockopt(file.get(), SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0) return fail_errno("socket family");
  return domain;
}

struct FdCount {
  std::size_t least, most;
};
Result<FdCount> fds_of(DeviceKind kind) {
  switch (kind) {
    case DeviceKind::xsk_outside:
    case DeviceKind::xsk_inside:
    case DeviceKind::udp_encap:
    case DeviceKind::raw_esp:
    case DeviceKind::raw_ah:
    case DeviceKind::raw_icmp: return FdCount{1, 2};
    case DeviceKind::tunnel:
    case DeviceKind::steer:
    case DeviceKind::packet_out: return FdCount{1, 1};
  }
  return fail("add_device: no such kind", EINVAL);
}

}  // namespace

Result<std::uint32_t> DataThread::Worker::add_device(const AddDevice& spec, std::vector<Fd> fds) {
  POSTERN_TRY(expected, fds_of(spec.kind));
  if (fds.size() < expected.least || fds.size() > expected.most)
    return fail("add_device: wrong number of descriptors", EINVAL);
  POSTERN_TRY(device, context.devices.add(spec));
  Fd umem_file;
  if (device->is_xsk() && fds.size() == 2) {
    umem_file = std::move(fds[1]);
    fds.pop_back();
  }
  Result<void> done = place_files(*device, std::move(fds));
  if (done) done = prepare(*device, std::move(umem_file));
  if (done) done = attach(*device);
  if (!done) {
    const Error error = done.error();
    context.devices.remove(*device);
    return fail(fmt::format("add_device {}: {}", spec.name.data(), error.what), error.code == 0 ? EINVAL : error.code);
  }
  begin_reading(*device);
  return device->index;
}

// Sockets of two families: IPv4 first, IPv6 second, in whatever order they came.
Result<void> DataThread::Worker::place_files(Device& device, std::vector<Fd> fds) {
  for (std::size_t i = 0; i < fds.size(); ++i) {
    std::size_t place = i;
    if (device.has_families()) {
      POSTERN_TRY(domain, domain_of(fds[i]));
      if (domain != AF_INET && domain != AF_INET6) return fail("socket is neither IPv4 nor IPv6", EAFNOSUPPORT);
      place = domain == AF_INET ? 0 : 1;
      if (device.files[place]) return fail("two sockets of one family", EINVAL);
    }
    if (!device.is_xsk()) POSTERN_CHECK(make_non_blocking(fds[i]));
    device.files[place] = std::move(fds[i]);
  }
  return {};
}

Result<void> DataThread::Worker::prepare(Device& device, Fd umem_file) {
  if (device.is_socket()) return prepare_socket(device);
  if (device.is_xsk()) return prepare_xsk(device, std::move(umem_file));
  return {};
}

Result<void> DataThread::Worker::prepare_xsk(Device& device, Fd umem_file) {
  POSTERN_TRY(umem, umem_for(device.spec, std::move(umem_file)));
  device.holder = new_holder();
  POSTERN_TRY(xsk, Xsk::map(device.files[0].get(), device.spec.umem, *umem, device.holder));
  device.xsk.emplace(std::move(xsk));
  return move_home(*umem, device);
}

// The first UMEM is the one whose frames the pipeline works on. When its last socket has gone (posternd made them all
// again), the next UMEM takes its place; another one beside it is served by copying.
Result<void> DataThread::Worker::move_home(Umem& umem, const Device& device) {
  const bool first = context.home == nullptr;
  const auto at_home = [&](const Device* other) { return other->xsk && &other->xsk->umem() == context.home; };
  if (!first && std::ranges::any_of(context.devices.xsks(), at_home)) return {};
  if (!first) {
    let_go_of_frames();
    if (!egress.idle()) return {};
    POSTERN_TRY(fresh, crypto::EspEngine::create());
    engine.emplace(std::move(fresh));
  }
  pipeline.reset();
  context.home = &umem;
  pipeline = std::make_unique<Pipeline>(std::move(*engine), *config.sad, context.adjacencies, umem.pool(),
                                        context.counters, egress, PipelineConfig{.team = {config.team, config.index}});
  engine.reset();
  pipeline->set_oldest_generation(oldest_generation);
  pipeline->set_policy(policy);
  input.feed(pipeline.get());
  if (!first) return {};
  // Devices that came before the first UMEM have waited for frames.
  for (Device* const waiting : context.devices.all())
    if (waiting != &device) begin_reading(*waiting);
  return {};
}

FrameHolder DataThread::Worker::new_holder() {
  const auto taken = [&](FrameHolder number) {
    return number == held_by_worker ||
           std::ranges::any_of(context.devices.xsks(),
                               [&](const Device* device) { return device->holder == number; }) ||
           std::ranges::any_of(quarantine, [&](const Quarantine& entry) { return entry.holder == number; });
  };
  while (taken(++last_holder)) continue;
  return last_holder;
}

Result<Umem*> DataThread::Worker::umem_for(const AddDevice& spec, Fd file) {
  std::uint64_t inode = 0;
  if (file) {
    POSTERN_TRY(found, inode_of(file));
    inode = found;
  }
  // The youngest first: an older one of the same id may still be in quarantine, or hold the pipeline's frames.
  for (const OwnedUmem& owned : std::views::reverse(umems))
    if (file ? owned.inode == inode : owned.umem->id() == spec.umem.umem_id) return owned.umem.get();
  if (!file) return fail("the first XSK of a UMEM must bring its memory file", EINVAL);
  POSTERN_TRY(umem, Umem::map(file, spec.umem));
  umems.push_back({std::move(umem), inode});
  return umems.back().umem.get();
}

Result<void> DataThread::Worker::attach(Device& device) {
  for (std::uint8_t part = 0; part < device.files.size(); ++part)
    if (device.files[part])
      POSTERN_CHECK(ring->attach(Token{Event::none, part, device.index, 0}.file(), device.files[part].get()));
  return {};
}

void DataThread::Worker::begin_reading(Device& device) {
  if (device.is_xsk()) {
    share_fill_frames();
    ring->watch(token_of(device, Event::readable));
  }
  if (context.home == nullptr) return;
  if (device.is_tun()) ring->receive(token_of(device, Event::packet));
  for (std::uint8_t part = 0; part < device.files.size(); ++part) {
    if (!device.is_socket() || !device.files[part]) continue;
    ring->watch({Event::readable, part, device.index, 0});
    device.readable = static_cast<std::uint8_t>(device.readable | 1U << part);
  }
}

// At most half of a UMEM's frames wait in fill rings; the other half is for what comes from the plain side.
void DataThread::Worker::share_fill_frames() {
  for (const OwnedUmem& owned : umems) {
    const auto shares =
        static_cast<std::uint32_t>(std::ranges::count_if(context.devices.xsks(), [&](const Device* device) {
          return device->xsk && &device->xsk->umem() == owned.umem.get();
        }));
    for (Device* const device : context.devices.xsks()) {
      if (!device->xsk || &device->xsk->umem() != owned.umem.get()) continue;
      device->fill_target = std::min(device->spec.umem.fill_entries, owned.umem->frames() / (2 * std::max(shares, 1U)));
      if (device->xsk->refill(device->fill_target)) ring->wake_receive(token_of(*device, Event::kicked));
    }
  }
}

std::uint32_t DataThread::Worker::remove_device(const RemoveDevice& which) {
  const std::vector<Device*> all = context.devices.all();
  std::uint32_t removed = 0;
  for (Device* const device : all) {
    if (device->spec.ifindex != which.ifindex || device->kind() != which.kind) continue;
    remove(*device);
    ++removed;
  }
  return removed;
}

void DataThread::Worker::remove(Device& device) {
  if (pipeline) pipeline->flush();
  for (std::uint8_t part = 0; part < device.files.size(); ++part)
    if (device.files[part]) ring->detach(Token{Event::none, part, device.index, 0}.file());
  if (device.xsk) {
    refresh_xsk_counters(device, context.counters);
    egress.abandon(device);
    if (device.chain_open) device.xsk->umem().pool().give(device.chain.frame);
    quarantine.push_back({&device.xsk->umem(), device.holder, monotonic_ns() + quarantine_ns});
  }
  context.devices.remove(device);
  share_fill_frames();
}

void DataThread::Worker::reclaim_quarantine() {
  const std::uint64_t now = monotonic_ns();
  std::erase_if(quarantine, [&](const Quarantine& entry) {
    if (now < entry.until_ns) return false;
    entry.umem->take_back(entry.holder);
    return true;
  });
  std::erase_if(umems, [&](const OwnedUmem& owned) {
    if (owned.umem.get() == context.home) return false;
    const auto uses = [&](const Device* device) { return device->xsk && &device->xsk->umem() == owned.umem.get(); };
    const auto waits = [&](const Quarantine& entry) { return entry.umem == owned.umem.get(); };
    return std::ranges::none_of(context.devices.xsks(), uses) && std::ranges::none_of(quarantine, waits);
  });
}

}  // namespace postern
