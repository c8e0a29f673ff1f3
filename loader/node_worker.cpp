// The worker's side of a node: adopt or start it, give it devices, replace it when it dies.
#include <algorithm>

#include <sys/epoll.h>

#include "base/log.hpp"
#include "loader/facts.hpp"
#include "loader/node.hpp"

namespace postern::loader {
namespace {

constexpr std::chrono::milliseconds patience{3000};
constexpr std::chrono::seconds heartbeat{1};
constexpr int most_unanswered = 3;
constexpr std::size_t most_expected = 4096;  // SAs that are being negotiated

}  // namespace

// --- finding and starting

Result<void> Node::bring_worker(MemoryFiles stored) {
  auto adopted = try_adopt();
  if (!adopted) {
    spdlog::warn("the worker that runs cannot be adopted, replacing it: {}", adopted.error().message());
    if (worker_) end_process(worker_->process, patience);
    worker_.reset();
    adopted = false;
  }
  adopted_ = *adopted;
  if (adopted_) {
    spdlog::info("adopted the running worker, process {}", worker_->process.id.pid);
    return watch_worker();
  }
  state_.worker_devices.clear();
  POSTERN_CHECK(make_memory(std::move(stored)));
  return start_new_worker();
}

Result<bool> Node::try_adopt() {
  worker_ = adopt_worker(state_.worker, paths_.file("worker.sock"));
  if (!worker_) return false;
  POSTERN_TRY(answer, worker_->link.get_descriptors());
  POSTERN_TRY(memory, SharedMemory::map(std::move(answer.files)));
  worker_traits_ = std::move(answer.traits);
  use_memory(std::move(memory));
  return true;
}

// From systemd's store when it has them: the SAs go on with their numbers. Else new and empty ones.
Result<void> Node::make_memory(MemoryFiles stored) {
  if (stored.complete()) {
    auto memory = SharedMemory::map(std::move(stored));
    if (memory) {
      use_memory(std::move(*memory));
      return {};
    }
    spdlog::warn("the stored memory files are of no use: {}", memory.error().message());
  }
  state_.sas.clear();
  POSTERN_CHECK(kernel_->reset_counters());
  POSTERN_TRY(memory, SharedMemory::create(document_.dataplane.sa_capacity));
  use_memory(std::move(memory));
  return {};
}

void Node::use_memory(SharedMemory memory) {
  keeper_.reset();
  memory_ = std::move(memory);
  keeper_.emplace(*netlink_, memory_->adjacency(), Clock::now());
}

Result<void> Node::start_new_worker() {
  xsks_.forget();  // of a worker that is gone: their queues must be free
  POSTERN_TRY(threads_facts, current_facts(document_));
  state_.worker_threads = planned_threads(document_, threads_facts);
  POSTERN_TRY(started, start_worker(paths_.name, paths_.file("worker.sock")));
  worker_ = std::move(started);
  worker_started_ = Clock::now();
  state_.worker = worker_->process.id;
  state_.worker_devices.clear();
  save_state();
  const MemoryFiles& memory = memory_->files();
  const int files[] = {memory.sa_state.get(), memory.counters.get(), memory.adjacency.get()};
  POSTERN_TRY(traits, worker_->link.hello(paths_.name, state_.worker_threads, files));
  worker_traits_ = std::move(traits);
  return watch_worker();
}

Result<void> Node::watch_worker() {
  POSTERN_CHECK(
      loop_->watch(worker_->process.pidfd.get(), EPOLLIN, [this](std::uint32_t) { worker_lost("it ended"); }));
  return loop_->watch(worker_->link.fd(), EPOLLIN, [this](std::uint32_t) { on_worker_message(); });
}

// --- its end and its return

void Node::worker_lost(const std::string& why) {
  if (!worker_) return;
  loop_->forget(worker_->link.fd());
  loop_->forget(worker_->process.pidfd.get());
  const auto end = end_process(worker_->process, std::chrono::milliseconds(0));
  spdlog::error("worker {} lost: {} ({})", worker_->process.id.pid, why, end);
  worker_.reset();
  state_.worker_devices.clear();
  const auto delay = worker_pace_.after_crash(worker_started_, Clock::now());
  if (delay != Duration::zero())
    spdlog::warn("the worker crashes in a row: next start in {} ms",
                 std::chrono::duration_cast<std::chrono::milliseconds>(delay).count());
  loop_->after(delay, [this] { restart_worker(); });
}

void Node::restart_worker() {
  if (worker_) return;
  const Time began = Clock::now();
  auto done = start_new_worker();
  if (done) done = realize(document_, SaUpdate::keep, Cause::network);
  if (!done) {
    trouble_ = "worker: " + done.error().message();
    report_state();
    if (worker_) return worker_lost(done.error().message());
    const auto delay =
        std::max<Duration>(worker_pace_.after_crash(began, Clock::now()), std::chrono::milliseconds(100));
    loop_->after(delay, [this] { restart_worker(); });
    spdlog::error("{}", trouble_);
    return;
  }
  trouble_.clear();
  spdlog::info("worker {} serves again after {} ms", worker_->process.id.pid,
               std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - began).count());
  report_state();
}

// What came while the worker was asked about the last ones is not in the socket any more.
void Node::on_worker_message() {
  while (worker_ && take_worker_events()) {
  }
  arm_keeper();
}

// false: there were none, or the worker is lost.
bool Node::take_worker_events() {
  auto events = worker_->link.take_events();
  if (!events) {
    worker_lost(events.error().message());
    return false;
  }
  const Time now = Clock::now();
  for (const ChannelMessage& event : *events) {
    if (event.header.type == ChannelType::resolve) {
      if (Resolve wanted; event.read_into(wanted))
        keeper_->want({wanted.vrf, wanted.address}, wanted.forward != 0, now);
    } else if (event.header.type == ChannelType::device_failed) {
      RemoveDevice failed;
      if (!event.read_into(failed)) continue;
      spdlog::warn("worker: device {} (kind {}) failed; making it again", failed.ifindex,
                   static_cast<std::uint32_t>(failed.kind));
      // Its group is taken from the record and so is handed over again, if it still exists.
      if (const auto removed = worker_->link.remove_device(failed.ifindex, failed.kind); !removed) {
        worker_lost(removed.error().message());
        return false;
      }
      xsks_.release(failed.ifindex);
      std::erase_if(state_.worker_devices, [&](const PlannedDevice& device) {
        return device.ifindex == failed.ifindex && device.kind == failed.kind;
      });
      facts_ = {};
      look_again_soon(Duration::zero());
    } else if (const auto told = on_sa_event(event); !told) {
      worker_lost(told.error().message());
      return false;
    }
  }
  return !events->empty();
}

// What postern-ike installs and removes has to be in the `sas` map as well.
Result<void> Node::on_sa_event(const ChannelMessage& event) {
  if (SaExpiry expiry; event.header.type == ChannelType::sa_expiry && event.read_into(expiry))
    spdlog::warn("SPI {:#x} at {}: lifetime reached (kind {}); a manual SA gets new keys by `config apply`",
                 expiry.sa.spi, expiry.sa.local.text(), static_cast<std::uint32_t>(expiry.kind));
  SaRow row;
  if (ExpectSa expected; event.header.type == ChannelType::sa_expected && event.read_into(expected))
    on_sa_expected(expected);
  if (event.header.type == ChannelType::sa_removed && event.read_into(row)) on_sa_removed(row);
  if (event.header.type == ChannelType::sa_installed && event.read_into(row))
    return worker_->link.confirm(event.header.id, on_sa_installed(row));
  return {};
}

void Node::on_sa_expected(const ExpectSa& inbound) {
  if (expected_.size() == most_expected) return;
  kernel_->expect_sa(inbound);
  expected_.emplace_back(Clock::now() + expect_time, inbound);
}

void Node::forget_expected(Time now) {
  for (; !expected_.empty() && expected_.front().first <= now; expected_.pop_front())
    kernel_->forget_sa(expected_.front().second);
}

// A worker that lives but does not answer serves nobody.
void Node::check_worker() {
  loop_->after(heartbeat, [this] { check_worker(); });
  if (time_ranges_that_hold(document_) != facts_.time_ranges) look_again_soon(Duration::zero());
  if (!worker_) return;
  const auto answered = worker_->link.refresh_counters();
  check_temporaries();
  forget_expected(Clock::now());
  unanswered_ = answered ? 0 : worker_->link.silent() ? most_unanswered : unanswered_ + 1;
  if (unanswered_ < most_unanswered) return;
  unanswered_ = 0;
  worker_lost("it does not answer: " + answered.error().message());
}

// --- devices

Result<void> Node::renew_worker(const config::Document& document) {
  loop_->forget(worker_->link.fd());
  loop_->forget(worker_->process.pidfd.get());
  end_process(worker_->process, patience);
  worker_.reset();
  const config::Document running = std::exchange(document_, document);
  const auto started = start_new_worker();
  document_ = running;
  return started;
}

Result<void> Node::serve(const config::Document& document, const Plan& plan, SaUpdate update) {
  if (plan.threads != state_.worker_threads) {
    spdlog::info("the worker gets {} threads instead of {}: starting it anew", plan.threads, state_.worker_threads);
    POSTERN_CHECK(renew_worker(document));
  }
  auto served = serve_devices(document, plan);
  if (!served && served.error().code == EBUSY) {
    // io_uring before Linux 6.5 keeps a socket that was taken away as long as requests on any other file go on: its
    // queue becomes free with the worker's end alone.
    spdlog::warn("{}: starting the worker anew to free it", served.error().message());
    POSTERN_CHECK(renew_worker(document));
    served = serve_devices(document, plan);
  }
  POSTERN_CHECK(served);
  POSTERN_CHECK(tell_worker_policy(plan));
  POSTERN_CHECK(place_sas(plan));
  return install_sas(plan, update);
}

Result<void> Node::tell_worker_policy(const Plan& plan) {
  LoopPolicy::Rules rules;
  for (const PlannedInterface& interface : plan.interfaces)
    if (!interface.rules.empty()) rules[interface.ifindex] = interface.rules;
  return worker_->link.set_policy(rules);
}

Result<void> Node::serve_devices(const config::Document& document, const Plan& plan) {
  const auto change =
      difference(state_.worker_devices, plan.devices, [this](const PlannedDevice& xsk) { return xsks_.can_join(xsk); });
  const HandOver to = hand_over_of(document, plan);
  POSTERN_CHECK(take_away(change.removed));
  std::vector<PlannedDevice> xsks;
  std::ranges::copy_if(change.added, std::back_inserter(xsks), &PlannedDevice::is_xsk);
  if (!xsks.empty()) POSTERN_CHECK(serve_xsks(to, std::move(xsks), plan));
  for (const auto& group : groups_of(change.added)) {
    if (group.front().is_xsk()) continue;
    POSTERN_CHECK(hand_over_devices(to, group));
    state_.worker_devices.insert(state_.worker_devices.end(), group.begin(), group.end());
  }
  return {};
}

HandOver Node::hand_over_of(const config::Document& document, const Plan& plan) {
  return {worker_->link,
          *devices_,
          document.dataplane,
          kernel_->maps().xsks.fd(),
          [this](std::uint32_t ifindex) {
            for (const auto& [name, installed] : state_.interfaces)
              if (installed.ifindex == ifindex) return installed.xsk_base;
            return 0U;
          },
          [this, &document, threads = plan.threads](const PlannedDevice& device) {
            TunSpec spec = steer_spec(threads);
            spec.name = device.name;
            spec.tap = device.kind == DeviceKind::steer;
            spec.mtu = device.mtu;
            for (const config::Tunnel& tunnel : document.tunnels)
              if (tunnel.device() == device.name) spec.ipv6 = tunnel.carries_v6;
            return spec;
          }};
}

Result<void> Node::take_away(const std::vector<PlannedDevice>& devices) {
  for (const auto& group : groups_of(devices)) {
    std::erase_if(state_.worker_devices, [&](const PlannedDevice& device) {
      return device.ifindex == group.front().ifindex && device.kind == group.front().kind;
    });
    POSTERN_CHECK(worker_->link.remove_device(group.front().ifindex, group.front().kind));
    if (group.front().is_xsk()) xsks_.release(group.front().ifindex);
  }
  return {};
}

Result<void> Node::serve_xsks(const HandOver& to, std::vector<PlannedDevice> xsks, const Plan& plan) {
  auto bindings = xsks_.hand_over(to, xsks);
  if (!bindings && bindings.error().code == EOPNOTSUPP) {
    std::vector<PlannedDevice> all;
    std::ranges::copy_if(plan.devices, std::back_inserter(all), &PlannedDevice::is_xsk);
    POSTERN_CHECK(take_away(all));
    xsks_.forget();
    xsks = std::move(all);
    bindings = xsks_.hand_over(to, xsks);
  }
  if (!bindings) {
    const Error error = std::move(bindings.error());
    POSTERN_CHECK(take_away(xsks));  // the worker may have some of them
    return std::unexpected(error);
  }
  for (const auto& [ifindex, binding] : *bindings) bindings_[ifindex] = binding;
  state_.worker_devices.insert(state_.worker_devices.end(), xsks.begin(), xsks.end());
  return {};
}

}  // namespace postern::loader
