// Ring over io_uring. Created disabled, restricted to the operations below and to registered files, then enabled: what
// takes the worker over later can do no more with it. seccomp does not see io_uring operations, the restriction does.
#pragma once

#include <liburing.h>

#include "worker/ring.hpp"

namespace postern {

class UringRing final : public Ring {
 public:
  [[nodiscard]] static Result<std::unique_ptr<UringRing>> create();
  ~UringRing() override;

  [[nodiscard]] int descriptor() const { return ring_.ring_fd; }
  [[nodiscard]] bool is_io_uring() const override { return true; }
  [[nodiscard]] bool has_multishot_read() const override { return multishot_read_; }
  [[nodiscard]] Result<void> attach(std::uint32_t file, int fd) override;
  void detach(std::uint32_t file) override;
  void watch(Token token) override;
  void receive(Token token) override;
  void write(Token token, std::span<const iovec> parts) override;
  void send(Token token, const msghdr& message) override;
  void send(Token token, Bytes data) override;
  void kick(Token token) override;
  void wake_receive(Token token) override;
  void turn(std::int64_t wait_ns, Completions& out) override;
  void submit() override;
  void collect(Completions& out) override;
  void recycle(std::uint16_t id) override;

 private:
  friend struct RingIntruder;  // of the tests: submits what the restriction forbids
  explicit UringRing(Mapping buffers) : Ring(std::move(buffers)) {}
  [[nodiscard]] Result<void> set_up();
  [[nodiscard]] Result<void> register_resources();
  [[nodiscard]] Result<void> restrict_and_enable();
  io_uring_sqe& next(Token token, std::uint8_t operation);
  void arm_watch(Token token);
  void arm_read(Token token);
  void take(const io_uring_cqe& entry, Completions& out);
  void renew(Token token, std::int32_t result);
  unsigned flush_queue();
  int enter(unsigned submit, unsigned wanted, unsigned flags, std::int64_t wait_ns);
  [[nodiscard]] bool kernel_has_news() const;
  void publish_buffers();

  struct File {
    bool closing = false;
    std::uint16_t under_way = 0;  // requests whose last completion is due
  };

  io_uring ring_{};
  bool ready_ = false;
  bool multishot_read_ = false;
  bool deferred_ = false;  // IORING_SETUP_DEFER_TASKRUN: completions are made inside our own enter
  Mapping buffer_ring_;
  std::uint16_t buffer_tail_ = 0;
  std::array<File, ring_files> files_{};
  std::vector<Token> starved_;  // reads that ended because every buffer was in use
  Completions stash_;           // arrived while something else was awaited
};

}  // namespace postern
