// The parts of the I/O side that need no privilege: reads and writes of TUN and TAP queues, rows of counters, UMEM
// books, capture records, the mailbox, the limit on questions.
#include <atomic>
#include <thread>

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "worker/capture.hpp"
#include "worker/device.hpp"
#include "worker/thread_context.hpp"
#include "worker/thread_mailbox.hpp"
#include "worker/tun_queue.hpp"
#include "worker/umem.hpp"

using namespace postern;

namespace {

std::vector<std::byte> steer_frame(const VnetHeader& offload, const postern_stamp& stamp, std::uint16_t type,
                                   std::size_t payload) {
  std::vector<std::byte> out(sizeof offload + ethernet_header + payload);
  std::memcpy(out.data(), &offload, sizeof offload);
  std::memcpy(out.data() + sizeof offload, &stamp, sizeof stamp);
  store_be16(out.data() + sizeof offload + sizeof stamp, type);
  return out;
}

std::unique_ptr<ThreadCounters> make_counters() { return std::make_unique<ThreadCounters>(); }

Fd make_memory(std::size_t size) {
  Fd file(::memfd_create("test", MFD_CLOEXEC));
  REQUIRE(::ftruncate(file.get(), static_cast<off_t>(size)) == 0);
  return file;
}

AddDevice device_spec(DeviceKind kind, std::uint32_t ifindex, std::uint32_t queue = 0) {
  AddDevice out;
  out.kind = kind;
  out.ifindex = ifindex;
  out.queue = queue;
  return out;
}

}  // namespace

TEST_CASE("steer read: the stamp, and offsets that count from the IP header") {
  const VnetHeader offload{1, 1, 14 + 20 + 20, 1400, 14 + 20, 16};
  const auto frame = steer_frame(offload, {7, 42, 3}, 0x0800, 60);
  const auto read = parse_steer_read(frame);
  REQUIRE(read);
  CHECK(read->flow == 42);
  CHECK(read->generation == 7);
  CHECK(read->ip.size() == 60);
  CHECK(read->offload.header_bytes == 40);
  CHECK(read->offload.csum_start == 20);
  CHECK(read->offload.gso_size == 1400);
}

TEST_CASE("steer read: what is refused") {
  CHECK(parse_steer_read(steer_frame({}, {}, 0x86dd, 1)));
  CHECK_FALSE(parse_steer_read(steer_frame({}, {}, 0x0800, 0)));   // headers alone
  CHECK_FALSE(parse_steer_read(steer_frame({}, {}, 0x0806, 60)));  // ARP
  CHECK_FALSE(parse_steer_read({}));
  // A checksum that would begin inside the Ethernet header is past the end of any packet afterwards.
  const auto bad = parse_steer_read(steer_frame({1, 0, 0, 0, 4, 16}, {}, 0x0800, 60));
  REQUIRE(bad);
  CHECK(bad->offload.csum_start > 60000);
}

TEST_CASE("tunnel read: the device's flow, no generation; a header alone is refused") {
  std::vector<std::byte> buffer(sizeof(VnetHeader) + 20);
  const auto read = parse_tunnel_read(buffer, 5);
  REQUIRE(read);
  CHECK(read->flow == 5);
  CHECK(read->generation == 0);
  CHECK(read->ip.size() == 20);
  buffer.resize(sizeof(VnetHeader));
  CHECK_FALSE(parse_tunnel_read(buffer, 5));
}

TEST_CASE("writes: headers in front, parts behind, offsets moved for a TAP") {
  std::array<std::byte, 100> payload{};
  const std::array<iovec, 2> parts = {{{payload.data(), 60}, {payload.data() + 60, 40}}};
  CoalescedPacket packet;
  packet.offload = {1, 4, 60, 20, 40, 16};
  packet.parts = parts;
  packet.bytes = 100;
  packet.packets = 2;
  packet.family = Family::v6;
  TunWrite write;
  prepare_tunnel_write(packet, write);
  REQUIRE(write.count == 3);
  CHECK(write.parts[0].iov_len == sizeof(VnetHeader));
  CHECK(write.frames()[1].iov_base == payload.data() + 60);
  prepare_steer_write(packet, 9, write);
  REQUIRE(write.count == 3);
  CHECK(write.parts[0].iov_len == sizeof(VnetHeader) + ethernet_header);
  VnetHeader offload;
  std::memcpy(&offload, write.header.data(), sizeof offload);
  CHECK(offload.header_bytes == 74);
  CHECK(offload.csum_start == 54);
  postern_stamp stamp;
  std::memcpy(&stamp, write.header.data() + sizeof offload, sizeof stamp);
  CHECK(stamp.generation == POSTERN_GENERATION_INBOUND);
  CHECK(stamp.flow == 0);
  CHECK(stamp.ifindex == 9);
  CHECK(load_be16(write.header.data() + sizeof offload + sizeof stamp) == 0x86dd);
  packet.offload = {};
  prepare_steer_write(packet, 9, write);
  std::memcpy(&offload, write.header.data(), sizeof offload);
  CHECK(offload.header_bytes == 0);
  CHECK(offload.csum_start == 0);
}

TEST_CASE("devices: found by what they are for; the same one twice is refused") {
  const auto counters = make_counters();
  DeviceTable table(*counters);
  auto* const xsk = table.add(device_spec(DeviceKind::xsk_outside, 3)).value();
  REQUIRE(table.add(device_spec(DeviceKind::xsk_outside, 3, 1)));
  CHECK(table.add(device_spec(DeviceKind::xsk_outside, 3, 1)).error().code == EEXIST);
  CHECK(table.outside(3) == xsk);
  CHECK(table.outside(4) == nullptr);
  auto* const socket = table.add(device_spec(DeviceKind::packet_out, 3)).value();
  CHECK(table.outside(3) == socket);  // goes before the XSK
  CHECK_FALSE(table.any_inside());
  auto tunnel = device_spec(DeviceKind::tunnel, 8);
  tunnel.vrf = 100;
  auto* const tun = table.add(tunnel).value();
  CHECK(table.tunnel(8) == tun);
  CHECK(table.vrf_of(8) == 100);
  CHECK(table.vrf_of(9) == 0);
  table.remove(*socket);
  CHECK(table.outside(3) == xsk);
  CHECK(table.xsks().size() == 2);
}

TEST_CASE("devices: a row of counters stays with its device, also for the next worker") {
  const auto counters = make_counters();
  std::uint16_t row = 0;
  {
    DeviceTable table(*counters);
    REQUIRE(table.add(device_spec(DeviceKind::steer, 1)));
    Device* const device = table.add(device_spec(DeviceKind::tunnel, 2)).value();
    row = device->index;
    count(device->counters->rx_packets, 5);
    table.remove(*device);
    CHECK(table.add(device_spec(DeviceKind::tunnel, 3)).value()->index != row);
    CHECK(table.add(device_spec(DeviceKind::tunnel, 2)).value()->index == row);
  }
  DeviceTable next(*counters);
  CHECK(next.add(device_spec(DeviceKind::tunnel, 2)).value()->index == row);
  CHECK(counters->devices[row].rx_packets.load() == 5);
  CHECK(counters->devices[row].identity.load() == device_identity(DeviceKind::tunnel, 2, 0));
}

TEST_CASE("devices: every row can be used, then the next is refused") {
  const auto counters = make_counters();
  DeviceTable table(*counters);
  for (std::uint32_t i = 0; i < max_worker_devices; ++i) REQUIRE(table.add(device_spec(DeviceKind::tunnel, i + 1)));
  CHECK(table.add(device_spec(DeviceKind::tunnel, 9999)).error().code == ENOSPC);
}

TEST_CASE("UMEM: layouts that are refused, and frames taken back from a socket that went") {
  UmemLayout layout;
  layout.frames = 8;
  const Fd file = make_memory(8 * 4096);
  for (const std::uint32_t bytes : {0U, 1024U, 3000U}) {
    UmemLayout bad = layout;
    bad.frame_bytes = bytes;
    CHECK_FALSE(Umem::map(file, bad));
  }
  UmemLayout large = layout;
  large.frames = 9;
  CHECK_FALSE(Umem::map(file, large));
  const auto umem = Umem::map(file, layout);
  REQUIRE(umem);
  FramePool& pool = (*umem)->pool();
  CHECK(pool.available() == 8);
  const FrameAddress first = pool.take(), second = pool.take();
  (*umem)->lend(first + 256, 1);
  (*umem)->lend(second, 2);
  CHECK_FALSE((*umem)->returned(first + 300, 2));  // not its frame
  CHECK((*umem)->returned(second + 10, 2));
  CHECK_FALSE((*umem)->returned(second, 2));  // twice
  pool.give(second);
  CHECK(pool.available() == 7);
  (*umem)->take_back(1);
  CHECK(pool.available() == 8);
  CHECK_FALSE((*umem)->contains(8 * 4096, 1));
  CHECK((*umem)->contains(4096 + 96, 4000));
  CHECK_FALSE((*umem)->contains(4096 + 97, 4000));  // into the next frame
}

TEST_CASE("capture: a record in front of the bytes, cut at the limit; ends with its reader") {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
  Fd reader(ends[0]);
  const auto counters = make_counters();
  Capture capture(*counters);
  CHECK_FALSE(capture.wants(CaptureSide::plain));
  capture.start(std::make_shared<CaptureSink>(CaptureSink{Fd(ends[1]), CaptureSide::cipher, 4}));
  CHECK(capture.wants(CaptureSide::cipher));
  CHECK_FALSE(capture.wants(CaptureSide::plain));
  const Bytes bytes = as_bytes("abcdefgh");
  capture.record({CaptureSide::plain, true, 2, bytes});  // not asked for
  capture.record({CaptureSide::cipher, true, 2, bytes});
  std::array<char, 128> got{};
  REQUIRE(::recv(reader.get(), got.data(), got.size(), MSG_DONTWAIT) == sizeof(CaptureRecord) + 4);
  CaptureRecord record;
  std::memcpy(&record, got.data(), sizeof record);
  CHECK(record.original_bytes == 8);
  CHECK(record.captured_bytes == 4);
  CHECK(record.linktype == 1);
  CHECK(record.ifindex == 2);
  CHECK(record.outbound == 1);
  CHECK(record.realtime_ns > 1'600'000'000'000'000'000U);
  CHECK(std::string_view(got.data() + sizeof record, 4) == "abcd");
  CHECK(::recv(reader.get(), got.data(), got.size(), MSG_DONTWAIT) < 0);
  for (int i = 0; i < 10000; ++i) capture.record({CaptureSide::cipher, false, 2, bytes});
  CHECK(counters->capture_lost.load() > 0);  // the reader is slow
  CHECK(counters->captured.load() + counters->capture_lost.load() == 10001);
  CHECK(capture.wants(CaptureSide::cipher));
  reader.reset();
  capture.record({CaptureSide::cipher, false, 2, bytes});
  CHECK_FALSE(capture.wants(CaptureSide::cipher));
}

TEST_CASE("mailbox: work is done on the other thread, in order, when run() returns") {
  auto bell = Bell::create();
  REQUIRE(bell);
  Mailbox mailbox(std::move(*bell));
  std::atomic<bool> ending = false;
  std::thread::id worker_id;
  std::thread worker([&] {
    worker_id = std::this_thread::get_id();
    while (!ending) mailbox.serve();
  });
  int done = 0;
  for (int i = 0; i < 100; ++i) {
    std::thread::id where;
    mailbox.run([&] {
      ++done;
      where = std::this_thread::get_id();
    });
    CHECK(done == i + 1);
    CHECK(where == worker_id);
  }
  mailbox.run([&] { ending = true; });
  worker.join();
}

TEST_CASE("outbox: bounded; what is put rings the bell") {
  auto bell = Bell::create();
  REQUIRE(bell);
  Outbox<int> outbox(std::move(*bell));
  std::size_t taken = 0;
  for (int i = 0; i < 5000; ++i) taken += outbox.put(i) ? 1 : 0;
  CHECK(taken == 1024);
  eventfd_t rung = 0;
  CHECK(::eventfd_read(outbox.fd(), &rung) == 0);
  const auto news = outbox.take();
  CHECK(news.size() == taken);
  CHECK(news.front() == 0);
  CHECK(outbox.put(1));
}

TEST_CASE("resolve limiter: once in a while for one key, and no more than a handful for all") {
  QuestionLimiter limiter(200'000'000);
  const AdjacencyKey key{0, IpAddress::v4(0x0a000001)};
  std::uint64_t now = 1'000'000'000;
  CHECK(limiter.may_ask(question_name(key, false), now));
  CHECK_FALSE(limiter.may_ask(question_name(key, false), now + 1000));
  CHECK(limiter.may_ask(question_name(AdjacencyKey{1, key.address}, false), now));  // another VRF
  CHECK(limiter.may_ask(question_name(key, false), now + 300'000'000));
  now += 10'000'000'000;
  int asked = 0;
  for (std::uint32_t i = 0; i < 1000; ++i)
    asked += limiter.may_ask(question_name(AdjacencyKey{0, IpAddress::v4(i)}, true), now) ? 1 : 0;
  CHECK(asked == 64);
  CHECK(limiter.may_ask(question_name(AdjacencyKey{0, IpAddress::v4(2000)}, true), now + 300'000'000));
}
