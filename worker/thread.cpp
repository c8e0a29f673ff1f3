#include "worker/thread.hpp"

#include <algorithm>
#include <cstdio>

#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/utsname.h>

#include "base/log.hpp"
#include "worker/thread_worker.hpp"

namespace postern {
namespace {

constexpr std::uint64_t held_interval_ns = 10'000'000;
constexpr std::uint64_t refresh_interval_ns = 1'000'000'000;
constexpr std::int64_t kick_retry_ns = 1'000'000;
constexpr int drain_rounds = 16;
constexpr std::uint32_t reads_between_batches = 8;
constexpr std::uint32_t batches_helped_a_round = 8;
constexpr std::uint64_t look_for_more_ns = 20'000;

void stay_on(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (::pthread_setaffinity_np(::pthread_self(), sizeof set, &set) != 0)
    spdlog::warn("cannot pin a thread to CPU {}", cpu);
}

// Kernel 6.2: a TUN or TAP takes UDP super-packets (USO) whatever its readers accept.
CoalesceOptions coalescing_of_this_kernel() {
  utsname kernel{};
  unsigned major = 0, minor = 0;
  const bool known = ::uname(&kernel) == 0 && std::sscanf(kernel.release, "%u.%u", &major, &minor) == 2;
  return {.tcp = true, .udp = known && (major > 6 || (major == 6 && minor >= 2))};
}

}  // namespace

struct DataThread::StartState {
  std::binary_semaphore ready{0};
  Result<void> outcome;
};

Result<std::unique_ptr<DataThread>> DataThread::start(const DataThreadConfig& config) {
  POSTERN_TRY(bell, Bell::create());
  std::unique_ptr<DataThread> out(new DataThread(std::move(bell)));
  StartState state;
  if (config.team != nullptr) config.team->join(config.index, out->mailbox_.bell());
  out->thread_ = std::thread(main, std::ref(*out), config, std::ref(state));
  state.ready.acquire();
  if (!state.outcome) return std::unexpected(state.outcome.error());
  return out;
}

void DataThread::main(DataThread& self, const DataThreadConfig& config, StartState& state) {
  ::prctl(PR_SET_NAME, fmt::format("postern-{}", config.index).c_str());
  if (config.cpu) stay_on(*config.cpu);
  auto ring = Ring::create();
  auto engine = crypto::EspEngine::create();
  if (!ring || !engine) {
    state.outcome = std::unexpected(ring ? engine.error() : ring.error());
    state.ready.release();
    return;
  }
  self.traits_ = {(*ring)->is_io_uring(), (*ring)->has_multishot_read(), std::string(engine->name())};
  Worker worker(config, self.mailbox_, std::move(*ring), std::move(*engine));
  if (const auto attached =
          worker.ring->attach(Token{Event::readable, 0, mailbox_device, 0}.file(), self.mailbox_.fd());
      !attached) {
    state.outcome = attached;
    state.ready.release();
    return;
  }
  worker.ring->watch({Event::readable, 0, mailbox_device, 0});
  self.worker_ = &worker;
  state.ready.release();
  worker.loop();
}

DataThread::~DataThread() {
  if (worker_ != nullptr) mailbox_.run([this] { worker_->stopping = true; });
  if (thread_.joinable()) thread_.join();
}

Result<std::uint32_t> DataThread::add_device(const AddDevice& spec, std::vector<Fd> fds) {
  Result<std::uint32_t> out = 0;
  mailbox_.run([&] { out = worker_->add_device(spec, std::move(fds)); });
  return out;
}

std::uint32_t DataThread::remove_device(const RemoveDevice& which) {
  std::uint32_t removed = 0;
  mailbox_.run([&] { removed = worker_->remove_device(which); });
  return removed;
}

void DataThread::set_oldest_generation(std::uint32_t oldest) {
  mailbox_.run([&] {
    worker_->oldest_generation = oldest;
    if (worker_->pipeline) worker_->pipeline->set_oldest_generation(oldest);
  });
}

void DataThread::set_policy(std::shared_ptr<const LoopPolicy> policy) {
  mailbox_.run([&] {
    worker_->policy = policy;
    if (worker_->pipeline) worker_->pipeline->set_policy(policy);
  });
}

void DataThread::set_dummies(std::uint32_t flow, Duration interval) {
  mailbox_.run([&] { worker_->dummies.set(flow, interval, Clock::now()); });
}

void DataThread::start_capture(std::shared_ptr<const CaptureSink> sink) {
  mailbox_.run([&] { worker_->context.capture.start(sink); });
}

void DataThread::stop_capture() {
  mailbox_.run([&] { worker_->context.capture.stop(); });
}

void DataThread::refresh_counters() {
  mailbox_.run([&] { worker_->refresh_counters(); });
}

DataThread::Worker::Worker(const DataThreadConfig& configuration, Mailbox& box, std::unique_ptr<Ring> own_ring,
                           crypto::EspEngine own_engine)
    : config(configuration),
      mailbox(box),
      ring(std::move(own_ring)),
      context{*ring,
              DeviceTable(*config.counters),
              Capture(*config.counters),
              *config.counters,
              *config.adjacencies,
              *config.outbox,
              coalescing_of_this_kernel(),
              nullptr,
              {},
              monotonic_ns()},
      egress(context),
      input(context),
      engine(std::move(own_engine)) {
  context.backlog.reserve(4096);
}

void DataThread::Worker::loop() {
  while (!stopping) round();
  drain();
}

// One round: wait, take, seal and open, send.
void DataThread::Worker::round() {
  std::int64_t wait = wait_ns();
  if (wait != 0 && config.team != nullptr) wait = wait_in_team();
  // Batches that are away keep their SAs.
  const bool offline = wait != 0 && !(pipeline && pipeline->held_since());
  if (offline) config.sad->offline(config.index);
  ring->turn(wait, context.backlog);
  if (offline) config.sad->online(config.index);
  if (config.team != nullptr) {
    config.team->busy(config.index);
    if (pipeline) pipeline->begin_round(config.sad->epoch());
  }
  context.now_ns = monotonic_ns();
  deal_with_backlog();
  input.take_batches();
  if (pipeline) pipeline->end_round();
  kick_soon = egress.kick_pending();
  keep_time();
  const auto held_since = pipeline ? pipeline->held_since() : std::nullopt;
  held_since ? config.sad->holding(config.index, *held_since) : config.sad->quiescent(config.index);
}

// Cipher work of other threads, while nothing of our own waits. It looks a little longer for more, so that a busy
// thread need not wake it for each batch.
bool DataThread::Worker::help_others() {
  Team& team = *config.team;
  team.free(config.index);
  std::uint32_t helped = 0;
  for (std::uint64_t until = 0; helped < batches_helped_a_round && !input.more();) {
    CipherBatch* const batch = team.take(config.index);
    if (batch == nullptr) {
      if (helped == 0 || monotonic_ns() > until) break;
      __builtin_ia32_pause();
      continue;
    }
    pipeline ? pipeline->cipher(*batch) : batch->cipher(*engine);
    count(context.counters.helped, batch->count);
    team.finish(*batch);
    ++helped;
    until = monotonic_ns() + look_for_more_ns;
  }
  return helped != 0;
}

// How long this thread may sleep once it has nothing to do for others, and nothing of its own is to be done here.
std::int64_t DataThread::Worker::wait_in_team() {
  if (help_others()) return 0;
  const CipherBatch* waits = nullptr;
  if (pipeline && pipeline->held_since()) {
    waits = pipeline->settle();
    kick_soon = egress.kick_pending() || kick_soon;
  }
  return config.team->about_to_sleep(config.index, waits) ? wait_ns() : 0;
}

// Reads of a TUN may be 64 KiB each: the receive rings are looked at in between, before they overflow.
void DataThread::Worker::deal_with_backlog() {
  std::uint32_t reads = 0;
  // Dealing with one may append others: by index, and by value.
  for (std::size_t i = 0; i < context.backlog.size(); ++i) {
    const Completion done = context.backlog[i];
    if (pipeline && config.team != nullptr) pipeline->set_crowded(i + 1 < context.backlog.size());
    dispatch(done);
    if (done.token.event == Event::packet && ++reads % reads_between_batches == 0) input.take_batches();
  }
  context.backlog.clear();
}

void DataThread::Worker::dispatch(const Completion& done) {
  switch (done.token.event) {
    case Event::none: return;
    case Event::readable:
      if (done.token.device == mailbox_device) return mailbox.serve();
      return input.readable(done);
    case Event::packet: return input.packet(done);
    case Event::written: return egress.written(done);
    case Event::sent: return egress.sent(done);
    case Event::kicked: return egress.kicked(done);
  }
}

// How long the next turn may sleep.
std::int64_t DataThread::Worker::wait_ns() const {
  if (stopping || !context.backlog.empty() || input.more()) return 0;
  if (kick_soon) return kick_retry_ns;
  if (pipeline && pipeline->has_held()) return held_interval_ns;
  const bool refreshes = counters_stale || !quarantine.empty();
  const auto next_dummy = pipeline ? dummies.next() : std::nullopt;
  if (!next_dummy) return refreshes ? static_cast<std::int64_t>(refresh_interval_ns) : -1;
  const auto left = std::chrono::nanoseconds(*next_dummy - Clock::now()).count();
  return std::clamp<std::int64_t>(left, 0, refresh_interval_ns);
}

void DataThread::Worker::keep_time() {
  const std::uint64_t now = context.now_ns;
  if (pipeline && now - held_polled_ns >= held_interval_ns && pipeline->has_held()) {
    held_polled_ns = now;
    pipeline->poll_held(Clock::now());
    pipeline->end_round();
    kick_soon = egress.kick_pending() || kick_soon;
  }
  if (const auto due = dummies.next(); pipeline && due && *due <= Clock::now()) {
    dummies.run(Clock::now(), [&](std::uint32_t flow) { return pipeline->dummy(flow); });
    pipeline->end_round();
    kick_soon = egress.kick_pending() || kick_soon;
  }
  if (now - refreshed_ns >= refresh_interval_ns) {
    refresh_counters();
    counters_stale = false;
  } else {
    counters_stale = true;
  }
}

void DataThread::Worker::refresh_counters() {
  refreshed_ns = monotonic_ns();
  for (Device* const device : context.devices.xsks()) {
    device->xsk->reclaim(*device->counters);
    refresh_xsk_counters(*device, context.counters);
  }
  reclaim_quarantine();
  publish_ring_counters();
}

void DataThread::Worker::publish_ring_counters() {
  context.counters.system_calls.store(ring->system_calls(), std::memory_order_relaxed);
  context.counters.wakeups.store(ring->sleeps(), std::memory_order_relaxed);
}

// Nothing of the pipeline's is on the way afterwards, unless a write is stuck in the kernel.
void DataThread::Worker::let_go_of_frames() {
  if (!pipeline) return;
  pipeline->flush();
  pipeline->drop_held();
  egress.kick_pending();
  const std::size_t dealt_with = context.backlog.size();
  ring->turn(0, context.backlog);
  for (std::size_t i = dealt_with; i < context.backlog.size(); ++i) {
    const Completion done = context.backlog[i];
    // What happened to others waits for the next round: this one may be inside their handler.
    if (done.token.event != Event::written && done.token.event != Event::sent) continue;
    context.backlog[i].token.event = Event::none;
    dispatch(done);
  }
}

// What was received is still sealed or opened and sent; what is held has no more time.
void DataThread::Worker::drain() {
  round();
  for (int i = 1; i < drain_rounds && input.more(); ++i) round();
  let_go_of_frames();
  refresh_counters();
  config.sad->offline(config.index);
}

}  // namespace postern
