// Ring over poll(), readv(), writev() and sendto(): for kernels that refuse io_uring to the worker. Same order of
// events.
#pragma once

#include <poll.h>

#include "worker/ring.hpp"

namespace postern {

class PollRing final : public Ring {
 public:
  [[nodiscard]] static Result<std::unique_ptr<PollRing>> create();

  [[nodiscard]] bool is_io_uring() const override { return false; }
  [[nodiscard]] bool has_multishot_read() const override { return false; }
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
  void submit() override {}
  void collect(Completions& out) override;
  void recycle(std::uint16_t id) override { free_.push_back(id); }

 private:
  explicit PollRing(Mapping buffers);
  void poll_for(Token token);
  void ended(Token token, ssize_t result);
  void read_packets(std::size_t entry);

  std::array<int, ring_files> fds_;
  std::vector<pollfd> polled_;  // and, in step with it, what each is polled for
  std::vector<Token> tokens_;
  std::vector<std::uint16_t> free_;
  Completions done_;
};

}  // namespace postern
