#include "worker/capture.hpp"

#include <algorithm>

#include <sys/socket.h>
#include <sys/uio.h>

namespace postern {
namespace {

constexpr std::uint32_t linktype_ethernet = 1;
constexpr std::uint32_t linktype_raw_ip = 101;

std::uint64_t realtime_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

bool reader_is_gone(int error) {
  return error == EPIPE || error == ECONNREFUSED || error == ECONNRESET || error == ENOTCONN;
}

}  // namespace

void Capture::record(const CapturedPacket& packet) {
  if (!wants(packet.side)) return;
  CaptureRecord record{};
  record.realtime_ns = realtime_ns();
  record.original_bytes = static_cast<std::uint32_t>(packet.bytes.size());
  record.linktype = packet.side == CaptureSide::cipher ? linktype_ethernet : linktype_raw_ip;
  record.ifindex = packet.ifindex;
  record.side = packet.side;
  record.outbound = packet.outbound ? 1 : 0;
  record.captured_bytes = std::min(record.original_bytes, sink_->snap_bytes);
  std::array<iovec, 2> parts = {
      {{&record, sizeof record}, {const_cast<std::byte*>(packet.bytes.data()), record.captured_bytes}}};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  if (::sendmsg(sink_->socket.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return count(counters_.captured);
  count(counters_.capture_lost);
  if (reader_is_gone(errno)) stop();
}

}  // namespace postern
