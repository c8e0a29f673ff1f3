// Where packets enter a worker thread: AF_XDP receive rings, TUN and steer TAP reads, sockets. Owner: that thread.
#pragma once

#include "worker/pipeline.hpp"
#include "worker/thread_context.hpp"

namespace postern {

class ThreadInput {
 public:
  explicit ThreadInput(ThreadContext& context) : context_(context) {}

  // The pipeline exists from the first XSK on; nothing is read before.
  void feed(Pipeline* pipeline) { pipeline_ = pipeline; }

  // Event::packet: one read of a TUN or TAP queue.
  void packet(const Completion& done);
  // Event::readable of a socket; of an XSK it only ends the sleep.
  void readable(const Completion& event);
  // A batch from every XSK and socket that has something.
  void take_batches();
  // Something waits that no event will announce.
  [[nodiscard]] bool more() const;

 private:
  void take_batch(Device& device);
  void take_descriptor(Device& device, const xdp_desc& entry);
  void take_frame(Device& device, Packet& packet);
  void chain(Device& device, Packet packet, bool last);
  [[nodiscard]] bool bring_home(Device& device, Packet& packet);
  void take_socket(Device& device, std::uint8_t part);
  void capture_cipher(const Device& device, const Packet& packet);
  void capture_plain(const Device& device, Bytes ip);

  ThreadContext& context_;
  Pipeline* pipeline_ = nullptr;
};

}  // namespace postern
