// Copies of packets for a reader outside (postern capture): one datagram a packet, CaptureRecord and then the bytes.
// Never waits: what the reader's socket does not take is counted as lost. Off, it costs one branch a batch.
#pragma once

#include <memory>

#include "base/fd.hpp"
#include "maps/counters.hpp"
#include "worker/sa_channel.hpp"

namespace postern {

// The reader's end, shared by all threads.
struct CaptureSink {
  Fd socket;
  CaptureSide side{};
  std::uint32_t snap_bytes = 0;
};

// One packet as it passes a tap point.
struct CapturedPacket {
  CaptureSide side{};  // plain or cipher
  bool outbound = false;
  std::uint32_t ifindex = 0;
  Bytes bytes;
};

// One thread's tap. Owner: that worker thread.
class Capture {
 public:
  explicit Capture(ThreadCounters& counters) : counters_(counters) {}

  void start(std::shared_ptr<const CaptureSink> sink) { sink_ = std::move(sink); }
  void stop() { sink_.reset(); }
  [[nodiscard]] bool wants(CaptureSide side) const {
    return sink_ != nullptr && (static_cast<std::uint32_t>(sink_->side) & static_cast<std::uint32_t>(side)) != 0;
  }
  // Ends the capture when the reader is gone.
  void record(const CapturedPacket& packet);

 private:
  ThreadCounters& counters_;
  std::shared_ptr<const CaptureSink> sink_;
};

}  // namespace postern
