// One worker thread: it waits on its ring, takes batches from its devices, runs the pipeline over them, and sleeps when
// nothing is left. Public members are for the control thread; each returns when the worker thread has done it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "crypto/packet_cipher.hpp"
#include "worker/pipeline.hpp"
#include "worker/sad.hpp"
#include "worker/team.hpp"
#include "worker/thread_context.hpp"
#include "worker/thread_egress.hpp"
#include "worker/thread_input.hpp"

namespace postern {

struct DataThreadConfig {
  std::uint32_t index = 0;
  std::optional<int> cpu;  // to stay on
  Sad* sad = nullptr;
  ThreadCounters* counters = nullptr;
  const AdjacencyTable* adjacencies = nullptr;
  Outbox<WorkerNews>* outbox = nullptr;
  Team* team = nullptr;  // null: the only thread
};

// What the thread found when it started.
struct DataThreadTraits {
  bool io_uring = false;
  bool multishot_read = false;
  std::string engine;
};

class DataThread {
 public:
  // Borrowed: everything that `config` points to. Ring and cipher engine exist when this returns.
  [[nodiscard]] static Result<std::unique_ptr<DataThread>> start(const DataThreadConfig& config);
  // Drains what is on the way, drops what is held, and ends the thread.
  ~DataThread();

  [[nodiscard]] const DataThreadTraits& traits() const { return traits_; }

  // The device's row in this thread's counters.
  [[nodiscard]] Result<std::uint32_t> add_device(const AddDevice& spec, std::vector<Fd> fds);
  // How many there were.
  [[nodiscard]] std::uint32_t remove_device(const RemoveDevice& which);
  void set_oldest_generation(std::uint32_t oldest);
  void set_policy(std::shared_ptr<const LoopPolicy> policy);
  // Dummy packets of `flow`, as worker/dummy_schedule.hpp says.
  void set_dummies(std::uint32_t flow, Duration interval);
  void start_capture(std::shared_ptr<const CaptureSink> sink);
  void stop_capture();
  void refresh_counters();

 private:
  // Lives on the worker thread, from its start to its end.
  struct Worker;
  struct StartState;

  explicit DataThread(Bell bell) : mailbox_(std::move(bell)) {}
  static void main(DataThread& self, const DataThreadConfig& config, StartState& state);

  Mailbox mailbox_;
  DataThreadTraits traits_;
  Worker* worker_ = nullptr;  // used inside mailbox_.run() alone
  std::thread thread_;
};

}  // namespace postern
