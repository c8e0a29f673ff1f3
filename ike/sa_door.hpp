// The door to the data plane as sa_installer sees it: the client channel of worker/sa_channel.hpp, or a test's own.
#pragma once

#include <optional>
#include <vector>

#include "base/result.hpp"
#include "worker/sa_channel.hpp"

namespace postern::ike {

// Each waits for the worker's answer. Errors: the channel is gone (ENOTCONN, ECONNRESET), or the worker's refusal.
class SaDoor {
 public:
  virtual ~SaDoor() = default;
  [[nodiscard]] virtual Result<std::uint32_t> install(const InstallSa& sa) = 0;  // its slot
  [[nodiscard]] virtual Result<void> expect(const ExpectSa& sa) = 0;
  [[nodiscard]] virtual Result<void> remove(std::uint32_t slot) = 0;
  [[nodiscard]] virtual Result<void> bind(std::uint32_t flow, std::uint32_t slot) = 0;
  [[nodiscard]] virtual Result<void> move(std::uint32_t slot, const SaEnds& ends) = 0;
  [[nodiscard]] virtual Result<void> unbind(std::uint32_t flow) = 0;
  [[nodiscard]] virtual Result<std::vector<SaRow>> list() = 0;
};

class ChannelDoor final : public SaDoor {
 public:
  void connect(Fd socket) { channel_.emplace(std::move(socket)); }
  void disconnect() { channel_.reset(); }
  [[nodiscard]] bool connected() const { return channel_.has_value(); }
  [[nodiscard]] int fd() const { return channel_ ? channel_->fd() : -1; }
  [[nodiscard]] Result<std::vector<ChannelMessage>> take_events() { return channel_->take_events(); }

  [[nodiscard]] Result<std::uint32_t> install(const InstallSa& sa) override;
  [[nodiscard]] Result<void> expect(const ExpectSa& sa) override;
  [[nodiscard]] Result<void> remove(std::uint32_t slot) override;
  [[nodiscard]] Result<void> bind(std::uint32_t flow, std::uint32_t slot) override;
  [[nodiscard]] Result<void> move(std::uint32_t slot, const SaEnds& ends) override;
  [[nodiscard]] Result<void> unbind(std::uint32_t flow) override;
  [[nodiscard]] Result<std::vector<SaRow>> list() override;

 private:
  template <class T>
  [[nodiscard]] Result<Reply> ask(ChannelType type, const T& body) {
    if (!channel_) return fail("no channel to the worker", ENOTCONN);
    return channel_->ask(type, body);
  }
  std::optional<SaChannel> channel_;
};

}  // namespace postern::ike
