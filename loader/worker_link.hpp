// posternd's end of the SA channel: the one place that talks to the worker. Every call waits for the worker's answer
// (bounded by SaChannel's time-out); an error of any call but a refusal means that the worker is lost.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "loader/plan.hpp"
#include "loader/shared_memory.hpp"
#include "worker/loop_policy.hpp"
#include "worker/sa_channel.hpp"

namespace postern::loader {

// What the worker says about itself in its first answer.
struct WorkerTraits {
  std::string engine;
  bool io_uring = false, multishot_read = false;
};

class WorkerLink {
 public:
  // Connects to worker.sock. An error: no worker lives there.
  [[nodiscard]] static Result<WorkerLink> connect(const std::string& path);

  [[nodiscard]] int fd() const { return channel_.fd(); }

  [[nodiscard]] Result<WorkerTraits> hello(const std::string& node, std::uint32_t threads,
                                           std::span<const int> memory_files);
  // Adoption: what the worker works on, and what it is.
  struct Adopted {
    MemoryFiles files;
    WorkerTraits traits;
  };
  [[nodiscard]] Result<Adopted> get_descriptors();

  [[nodiscard]] Result<void> add_device(const AddDevice& device, std::span<const int> fds);
  // A device that the worker has not got is not an error (ENODEV, ENOENT).
  [[nodiscard]] Result<void> remove_device(std::uint32_t ifindex, DeviceKind kind);

  // The slot. Keys are put together for the time of the call alone.
  [[nodiscard]] Result<std::uint32_t> install(const PlannedSa& sa);
  [[nodiscard]] Result<void> remove_sa(std::uint32_t slot);
  // An SA that is gone by now is not an error.
  [[nodiscard]] Result<void> place_sa(std::uint32_t slot, std::uint32_t ifindex);
  [[nodiscard]] Result<void> bind_flow(std::uint32_t flow, std::uint32_t slot);
  [[nodiscard]] Result<void> unbind_flow(std::uint32_t flow);
  [[nodiscard]] Result<void> set_generation(std::uint32_t current, std::uint32_t oldest);

  // Rules of every outside interface, for what the worker itself makes.
  [[nodiscard]] Result<void> set_policy(const LoopPolicy::Rules& rules);
  // `socket` becomes the client channel (worker/sa_channel.hpp).
  [[nodiscard]] Result<void> add_client(int socket);
  // The answer to sa_installed: XDP knows it, or why not.
  [[nodiscard]] Result<void> confirm(std::uint64_t id, const Result<void>& outcome);

  [[nodiscard]] Result<void> start_capture(CaptureSide side, std::uint32_t snap_bytes, int socket);
  [[nodiscard]] Result<void> stop_capture();
  [[nodiscard]] Result<void> refresh_counters();
  [[nodiscard]] Result<void> shutdown();

  // A question timed out: it hangs. Every further one is refused at once, so that a plan of many steps does not wait
  // for each of them.
  [[nodiscard]] bool silent() const { return silent_; }

  [[nodiscard]] Result<std::vector<ChannelMessage>> take_events() { return channel_.take_events(); }

 private:
  explicit WorkerLink(Fd socket) : channel_(std::move(socket)) {}
  template <class T>
  [[nodiscard]] Result<Reply> ask(const char* what, ChannelType type, const T& body, std::span<const int> fds = {},
                                  int patience_ms = answer_ms);

  // Building XSK rings of a large UMEM may take a while on a busy machine.
  static constexpr int answer_ms = 4000;

  SaChannel channel_;
  bool silent_ = false;
};

}  // namespace postern::loader
