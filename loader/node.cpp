#include "loader/node.hpp"

#include <algorithm>

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

#include "base/log.hpp"
#include "loader/facts.hpp"
#include "loader/service_manager.hpp"
#include "loader/teardown.hpp"

namespace postern::loader {
namespace {

// Netlink tells of one change in several messages.
constexpr std::chrono::milliseconds settle{100};
constexpr std::chrono::seconds plain_side_interval{10};  // legacy iptables and sysctls announce nothing
constexpr std::chrono::milliseconds worker_patience{3000};

Result<Fd> signal_descriptor() {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&signals, number);
  if (::sigprocmask(SIG_BLOCK, &signals, nullptr) != 0) return fail_errno("block signals");
  ::signal(SIGPIPE, SIG_IGN);
  Fd fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return fail_errno("signalfd");
  return fd;
}

}  // namespace

Node::~Node() = default;

Result<std::unique_ptr<Node>> Node::start(const NodePaths& paths, config::Loaded loaded, bool applied,
                                          MemoryFiles stored) {
  std::unique_ptr<Node> node(new Node(paths));
  POSTERN_CHECK(node->open());
  POSTERN_CHECK(node->begin(std::move(loaded.document), std::move(stored)));
  node->text_ = std::move(loaded.text);
  node->applied_ = applied;
  node->resume_confirmation();
  return node;
}

Result<void> Node::open() {
  POSTERN_TRY(lock, lock_run_dir(paths_));
  lock_ = std::move(lock);
  POSTERN_TRY(signals, signal_descriptor());
  signals_ = std::move(signals);
  POSTERN_TRY(loop, EventLoop::create());
  loop_ = std::move(loop);
  POSTERN_TRY(monitor, NetworkMonitor::open());  // before the first look, so that nothing is missed
  monitor_ = std::move(monitor);
  POSTERN_TRY(netlink, Netlink::open());
  netlink_.emplace(std::move(netlink));
  POSTERN_TRY(plain_side, PlainSide::open(*netlink_));
  plain_side_ = std::move(plain_side);
  devices_.emplace(*netlink_, paths_.name);
  POSTERN_CHECK(raise_memlock_limit());
  POSTERN_TRY(kernel, KernelSide::load(paths_.pin_dir));
  kernel_ = std::move(kernel);
  return load_state();
}

// What an earlier posternd left; without it, numbers go on above those that the pinned maps name.
Result<void> Node::load_state() {
  auto read = read_state(paths_.file("state.json"));
  if (!read) spdlog::warn("{}: starting without it", read.error().message());
  const bool known = read && *read && (*read)->boot_id == boot_id();
  if (known) state_ = std::move(**read);
  if (!known && !kernel_->maps_are_new()) POSTERN_CHECK(kernel_->forget_verdicts());
  state_.node = paths_.name;
  state_.netns = paths_.netns;
  state_.boot_id = boot_id();
  if (kernel_->maps_are_new()) state_.interfaces.clear();
  for (auto& [name, installed] : state_.interfaces) POSTERN_CHECK(kernel_->adopt_policy(installed));
  POSTERN_TRY(generation, kernel_->highest_generation());
  state_.generation = std::max(state_.generation, generation);
  POSTERN_TRY(flow, kernel_->highest_flow());
  flows_ = FlowBook(state_.flows, std::max(state_.next_flow, flow + 1));
  return {};
}

Result<void> Node::begin(config::Document document, MemoryFiles stored) {
  document_ = std::move(document);
  POSTERN_CHECK(bring_worker(std::move(stored)));
  temporaries_ = temporaries_of(*memory_);
  if (!adopted_) {
    // Whatever stood before stood without a worker: everything enters anew, blocked. Numbers and policies stay until
    // then.
    for (auto& [name, installed] : state_.interfaces) POSTERN_CHECK(kernel_->set_block(installed.ifindex, true));
  }
  remove_orphans();
  POSTERN_CHECK(realize(config::Document(document_), SaUpdate::replace, Cause::request));
  std::set<std::uint32_t> generations, interfaces;
  for (const auto& [name, installed] : state_.interfaces) {
    generations.insert(installed.generation);
    interfaces.insert(installed.ifindex);
  }
  POSTERN_CHECK(kernel_->keep_only_interfaces(interfaces));
  POSTERN_CHECK(kernel_->remove_other_policies(generations));
  bring_ike();
  store_memory_files(memory_->files());
  return watch_everything();
}

Result<void> Node::guard(const NodePaths& paths, const config::Document& document) {
  Node node(paths);
  POSTERN_TRY(monitor, NetworkMonitor::open());  // before the first look
  POSTERN_TRY(netlink, Netlink::open());
  node.netlink_.emplace(std::move(netlink));
  POSTERN_TRY(plain_side, PlainSide::open(*node.netlink_));
  node.plain_side_ = std::move(plain_side);
  std::set<std::uint32_t> guarded;
  for (bool first = true;; first = false) {
    // Held while it works and not while it waits: posternd takes over by taking it.
    auto lock = lock_run_dir(paths);
    if (!lock && lock.error().code == EBUSY && !first) return {};
    if (!lock) return std::unexpected(lock.error());
    POSTERN_TRY(complete, node.guard_once(document, guarded));
    if (first) notify_ready(complete ? "guards every interface" : "waits for interfaces that do not exist yet");
    if (complete) return {};
    lock->reset();
    pollfd changed{monitor.fd(), POLLIN, 0};
    if (::poll(&changed, 1, -1) < 0 && errno != EINTR) return fail_errno("boot guard: wait for interfaces");
    POSTERN_CHECK(monitor.drain());
  }
}

// True: nothing is missing, or a posternd has been here since the last time.
Result<bool> Node::guard_once(const config::Document& document, std::set<std::uint32_t>& guarded) {
  if (!kernel_) {
    POSTERN_TRY(kernel, KernelSide::load(paths_.pin_dir));
    kernel_ = std::move(kernel);
    POSTERN_CHECK(load_state());
  } else {
    const auto now = read_state(paths_.file("state.json"));
    if (now && *now && (*now)->to_json() != state_.to_json()) return true;
  }
  POSTERN_TRY(facts, kernel_facts(document));
  POSTERN_TRY(plan, make_plan(document, facts, flows_));
  std::uint32_t blocked = 0;
  for (const PlannedInterface& planned : plan.interfaces) {
    if (!guarded.insert(planned.ifindex).second) continue;
    POSTERN_CHECK(kernel_->enter(planned, first_generation(planned), 0, document.dataplane.xdp_mode,
                                 state_.interfaces[planned.name]));
    ++blocked;
  }
  save_state();
  if (blocked != 0 || guarded.empty()) {
    for (const auto& one : document.interfaces)
      if (facts.find(one.name) == nullptr) spdlog::warn("boot guard: interface {} does not exist", one.name);
    spdlog::info("boot guard: {} interfaces blocked", guarded.size());
  }
  // Tunnels are made by posternd; only what carries a policy is waited for.
  return std::ranges::all_of(document.interfaces, [&](const auto& one) { return facts.find(one.name) != nullptr; });
}

Result<void> Node::watch_everything() {
  POSTERN_CHECK(loop_->watch(signals_.get(), EPOLLIN, [this](std::uint32_t) { on_signal(); }));
  POSTERN_CHECK(loop_->watch(monitor_->fd(), EPOLLIN, [this](std::uint32_t) { on_network(); }));
  if (plain_side_->fd() >= 0)
    POSTERN_CHECK(loop_->watch(plain_side_->fd(), EPOLLIN, [this](std::uint32_t) {
      if (plain_side_->take_change()) look_again_soon(settle);
    }));
  POSTERN_TRY(control,
              ControlServer::create(
                  *loop_, paths_.file("control.sock"),
                  [this](const std::string& said, nlohmann::json args) { return command(said, std::move(args)); },
                  control_groups()));
  control_ = std::move(control);
  POSTERN_CHECK(watch_acl_log());
  sample_stats();
  arm_keeper();
  kick_watchdog();
  check_worker();
  look_again_soon(settle);
  return {};
}

Result<void> Node::run() {
  notify_ready(state_text());
  spdlog::info("node {}: {}{}", paths_.name, state_text(), adopted_ ? ", adopted" : "");
  POSTERN_CHECK(loop_->run());
  return stop();
}

// --- events

void Node::on_signal() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == SIGHUP) {
      reload();
      continue;
    }
    spdlog::info("stopping: signal {} from process {}", info.ssi_signo, info.ssi_pid);
    loop_->stop();
  }
}

void Node::on_network() {
  const auto changes = monitor_->drain();
  if (!changes) {
    spdlog::error("{}", changes.error().message());
    return;
  }
  for (const PlannedInterface& tunnel : plan_.interfaces)
    if ((tunnel.flags & POSTERN_IF_TUNNEL) != 0 &&
        (changes->resync || std::ranges::find(changes->down, tunnel.ifindex) != changes->down.end()))
      flushed_.insert(tunnel.ifindex);
  keeper_->on_changes(*changes, Clock::now());
  arm_keeper();
  if (changes->resync || changes->routes) check_ways_soon();
  if (changes->resync || changes->addresses || changes->traffic || !changes->links.empty() || !changes->gone.empty())
    look_again_soon(new_link(*changes) ? Duration::zero() : settle);
}

// A device that has just come, or become a bond's port, may be one that we protect: until it is blocked, every moment
// counts.
bool Node::new_link(const NetworkChanges& changes) {
  return std::ranges::any_of(changes.links, [this](std::uint32_t ifindex) {
    const LinkFacts* const known = facts_.find(ifindex);
    if (known == nullptr) return true;
    const auto now = netlink_->link(ifindex);
    return now && now->master != known->master;
  });
}

void Node::look_again_soon(Duration delay) {
  if (look_timer_ != 0 && delay != Duration::zero()) return;
  if (look_timer_ != 0) loop_->cancel(look_timer_);
  look_timer_ = loop_->after(delay, [this] {
    look_timer_ = 0;
    look_again();
  });
}

// Did anything change that a plan depends on? Then plan again.
void Node::look_again() {
  if (periodic_timer_ != 0) loop_->cancel(periodic_timer_);
  periodic_timer_ = loop_->after(plain_side_interval, [this] {
    periodic_timer_ = 0;
    look_again();
  });
  const auto facts = current_facts(document_);
  if (!facts) {
    spdlog::warn("{}", facts.error().message());
    return;
  }
  arm_grace();
  if (*facts == facts_ && trouble_.empty() && flushed_.empty()) return;
  const auto done = realize(config::Document(document_), SaUpdate::keep, Cause::network);
  const std::string now = done ? "" : done.error().message();
  if (!done && now != trouble_) spdlog::error("following a change of the network: {}", now);
  trouble_ = now;
  report_state();
}

void Node::on_keeper_timer() {
  keeper_timer_ = 0;
  keeper_->on_timer(Clock::now());
  arm_keeper();
}

void Node::arm_keeper() {
  if (keeper_timer_ != 0) loop_->cancel(keeper_timer_);
  keeper_timer_ = 0;
  if (const auto deadline = keeper_->next_deadline())
    keeper_timer_ =
        loop_->after(std::max<Duration>(*deadline - Clock::now(), Duration::zero()), [this] { on_keeper_timer(); });
}

void Node::sample_stats() {
  std::set<std::uint32_t> devices;
  for (const PlannedInterface& interface : plan_.interfaces) devices.insert(interface.ifindex);
  for (const LinkFacts& link : facts_.links)
    if (link.name == facts_.steer || config::find_named(document_.interfaces, link.name) != nullptr)
      devices.insert(link.ifindex);
  const Time now = Clock::now();
  if (const auto sampled = stats_.sample(*netlink_, devices, now); !sampled)
    spdlog::debug("link statistics: {}", sampled.error().message());
  loop_->after(std::max<Duration>(stats_.next_sample() - now, std::chrono::milliseconds(100)),
               [this] { sample_stats(); });
}

// TS-12. Nothing comes, and nothing is done, while no rule asks for it.
Result<void> Node::watch_acl_log() {
  AclLogNames names;
  names.rule = [this](std::uint32_t generation, std::uint32_t ace) -> std::optional<AclLogNames::Rule> {
    for (const PlannedInterface& planned : plan_.interfaces) {
      const auto installed = state_.interfaces.find(planned.name);
      if (installed != state_.interfaces.end() && installed->second.generation == generation &&
          ace < planned.rules.size())
        return AclLogNames::Rule{planned.rules[ace].name, planned.rules[ace].permit, planned.rules[ace].log_tag};
    }
    return std::nullopt;
  };
  names.interface = [this](std::uint32_t ifindex) {
    const auto link = netlink_->link(ifindex);
    return link ? link->name : std::to_string(ifindex);
  };
  names.mac = [this](std::uint32_t ifindex, const IpAddress& host) -> std::optional<MacAddress> {
    const auto found = netlink_->neighbour(ifindex, host);
    return found && *found && (*found)->has_mac ? std::optional((*found)->mac) : std::nullopt;
  };
  POSTERN_TRY(log, AclLog::create(kernel_->maps(), std::move(names),
                                  [](const std::string& line) { spdlog::info("{}", line); }));
  acl_log_ = std::move(log);
  return loop_->watch(acl_log_->fd(), EPOLLIN, [this](std::uint32_t) {
    acl_log_->on_records(Clock::now());
    if (!acl_log_timer_) on_acl_log_timer();
  });
}

void Node::on_acl_log_timer() {
  acl_log_->on_timer(Clock::now(), std::chrono::seconds(document_.system.acl_log_interval_s));
  acl_log_timer_ = acl_log_->waiting();
  if (acl_log_timer_) loop_->after(std::chrono::seconds(1), [this] { on_acl_log_timer(); });
}

void Node::kick_watchdog() {
  const auto interval = watchdog_interval();
  if (!interval) return;
  notify_watchdog();
  loop_->after(*interval, [this] { kick_watchdog(); });
}

// --- state

std::string Node::state_text() const {
  std::string why = trouble_;
  const auto add = [&](const std::string& reason) { why += (why.empty() ? "" : "; ") + reason; };
  for (const auto& line : plan_.missing) add(line);
  if (!worker_) add("the worker is down");
  for (const auto& family : forwarding_off(document_)) add(family + " forwarding is off in this namespace");
  const std::string state = why.empty() ? "running" : "degraded: " + why;
  return pending_ ? state + "; " + unconfirmed_text() : state;
}

void Node::report_state() {
  std::string now = state_text();
  if (now == reported_) return;  // the service manager's queue is short, and a full one would hold the node up
  notify_status(now);
  reported_ = std::move(now);
}

void Node::save_state() {
  state_.flows = flows_.ids();
  state_.next_flow = flows_.next();
  if (const auto saved = write_state(paths_.file("state.json"), state_); !saved)
    spdlog::error("{}: a crash now would leave things behind", saved.error().message());
}

// "block": everything stays but the processes, so what is protected is dropped. "release": nothing stays.
Result<void> Node::stop() {
  notify_stopping();
  control_.reset();
  if (ike_)  // peers are told while the way to them is open
    if (const auto told = ike_->ask({{"command", "goodbye"}}); !told) spdlog::debug("{}", told.error().message());
  for (const auto& [name, installed] : state_.interfaces)
    if (const auto blocked = kernel_->set_block(installed.ifindex, true); !blocked)
      spdlog::error("{}: {}", name, blocked.error().message());
  if (worker_) {
    if (const auto asked = worker_->link.shutdown(); !asked) spdlog::debug("{}", asked.error().message());
    end_process(worker_->process, worker_patience);
  }
  if (ike_) end_process(ike_->process, worker_patience);
  for (SideChild* const child : {pki_.get(), resolver_.get()})
    if (child != nullptr) child->end(worker_patience);
  worker_.reset();
  xsks_.forget();
  ike_.reset();
  state_.worker = state_.ike = {};
  state_.worker_devices.clear();
  state_.sas.clear();
  save_state();
  for (const char* name : {"worker.sock", "ike.sock", "pki.sock", "resolver.sock"}) ::unlink(paths_.file(name).c_str());
  forget_running(paths_);
  forget_confirmation(paths_);
  if (release_ || document_.dataplane.on_stop == config::OnStop::release) return teardown(paths_);
  spdlog::info("stopped; protected traffic is blocked until the next start or `postern teardown`");
  return {};
}

}  // namespace postern::loader
