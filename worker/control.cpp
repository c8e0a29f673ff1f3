#include "worker/control.hpp"

#include <algorithm>
#include <cstring>

#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/log.hpp"
#include "worker/sandbox.hpp"

namespace postern {
namespace {

constexpr int reply_patience_ms = 200;  // a peer that does not read its replies is gone

bool may_connect(int socket, uid_t owner) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return peer.uid == 0 || peer.uid == owner;
}

// One CPU for each thread where every CPU gets one; otherwise the scheduler knows better.
std::vector<int> cpus_to_stay_on(std::uint32_t threads) {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (threads < 2 || ::sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  if (cpus.size() != threads) cpus.clear();
  return cpus;
}

void set_text(Reply& reply, std::string_view text) {
  const std::size_t length = std::min(text.size(), reply.text.size() - 1);
  std::copy_n(text.begin(), length, reply.text.begin());
}

const char* name_of(SaInstaller who) { return who == SaInstaller::posternd ? "posternd" : "the client"; }

// What worker/sa_channel.hpp grants to a client.
bool client_may(ChannelType type) {
  return type == ChannelType::install_sa || type == ChannelType::expect_sa || type == ChannelType::remove_sa ||
         type == ChannelType::bind_flow || type == ChannelType::move_sa || type == ChannelType::list_sas ||
         type == ChannelType::refresh_counters;
}

}  // namespace

Result<std::unique_ptr<Control>> Control::create(Config config) {
  POSTERN_TRY(bell, Bell::create());
  return std::unique_ptr<Control>(new Control(std::move(config), std::move(bell)));
}

Control::Control(Config config, Bell bell) : config_(std::move(config)), outbox_(std::move(bell)) {}

Control::~Control() = default;

Result<void> Control::run() {
  while (!stopping_) {
    std::array<pollfd, 5> waiting = {{{config_.listener.get(), POLLIN, 0},
                                      {config_.signals.get(), POLLIN, 0},
                                      {outbox_.fd(), POLLIN, 0},
                                      {channel_.get(), POLLIN, 0},
                                      {client_.get(), POLLIN, 0}}};  // poll() skips -1
    if (::poll(waiting.data(), waiting.size(), wait_ms()) < 0) {
      if (errno == EINTR) continue;
      return fail_errno("poll");
    }
    if (waiting[1].revents != 0) stopping_ = true;
    if (waiting[2].revents != 0) pass_on_news();
    if (waiting[3].revents != 0) serve(SaInstaller::posternd);
    // One that came meanwhile has its own turn.
    if (waiting[4].revents != 0 && client_.get() == waiting[4].fd) serve(SaInstaller::ike);
    if (waiting[0].revents != 0) accept_peer();
    settle_overdue(Clock::now());
  }
  threads_.clear();
  spdlog::info("stopped");
  return {};
}

void Control::accept_peer() {
  Fd peer(::accept4(config_.listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!peer) return;
  if (!may_connect(peer.get(), config_.owner)) return spdlog::warn("a connection by another user was refused");
  if (channel_) close_peer(SaInstaller::posternd, "a newer connection replaces it");
  channel_ = std::move(peer);
  if (sad_) sad_->tell_again(SaInstaller::posternd);
}

void Control::close_peer(SaInstaller who, const char* why) {
  spdlog::info("channel of {} closed: {}; the data plane goes on", name_of(who), why);
  socket_of(who).reset();
  if (who == SaInstaller::posternd) settle_all();
  if (who == SaInstaller::ike) unconfirmed_.clear();
}

void Control::serve(SaInstaller who) {
  auto message = channel_receive(socket_of(who).get());
  if (!message) {
    if (message.error().code != EAGAIN) close_peer(who, message.error().message().c_str());
    return;
  }
  if (message->header.type == ChannelType::reply && who == SaInstaller::posternd) return confirmed(*message);
  const auto outcome = handle(*message, who);
  if (!outcome) spdlog::warn("request of {} refused: {}", name_of(who), outcome.error().message());
  if (!outcome || !outcome->later) reply_to(who, message->header.id, outcome);
}

void Control::reply_to(SaInstaller who, std::uint64_t id, const Result<Answer>& outcome) {
  const int socket = socket_of(who).get();
  if (socket < 0) return;
  Reply body;
  std::vector<int> fds;
  if (outcome) {
    body.value = outcome->value;
    fds = outcome->fds;
    set_text(body, outcome->text);
  } else {
    body.code = outcome.error().code == 0 ? EINVAL : outcome.error().code;
    set_text(body, outcome.error().message());
  }
  auto sent = channel_send(socket, ChannelType::reply, id, body, fds);
  if (!sent && sent.error().code == EAGAIN) {
    pollfd writable{socket, POLLOUT, 0};
    if (::poll(&writable, 1, reply_patience_ms) <= 0) return close_peer(who, "it does not read its replies");
    sent = channel_send(socket, ChannelType::reply, id, body, fds);
  }
  if (!sent) close_peer(who, sent.error().message().c_str());
}

Result<Control::Answer> Control::handle(ChannelMessage& message, SaInstaller who) {
  const ChannelType type = message.header.type;
  if (who == SaInstaller::ike && !client_may(type)) return fail("not a request that a client may make", EPERM);
  if (type == ChannelType::hello) return hello(message);
  if (type == ChannelType::shutdown) {
    stopping_ = true;
    return Answer{};
  }
  if (threads_.empty()) return fail("hello comes first", ENOTCONN);
  switch (type) {
    case ChannelType::add_device: return add_device(message);
    case ChannelType::remove_device: return remove_device(message);
    case ChannelType::install_sa: return install_sa(message, who);
    case ChannelType::expect_sa: return expect_sa(message);
    case ChannelType::remove_sa: return remove_sa(message, who);
    case ChannelType::bind_flow: return bind_flow(message, who);
    case ChannelType::move_sa: return move_sa(message, who);
    case ChannelType::place_sa: return place_sa(message);
    case ChannelType::list_sas: return list_sas(message, who);
    case ChannelType::add_client: return add_client(message);
    case ChannelType::set_generation: return set_generation(message);
    case ChannelType::set_policy: return set_policy(message);
    case ChannelType::start_capture: return start_capture(message);
    case ChannelType::stop_capture:
      for (const auto& thread : threads_) thread->stop_capture();
      return Answer{};
    case ChannelType::refresh_counters:
      for (const auto& thread : threads_) thread->refresh_counters();
      return Answer{};
    case ChannelType::get_descriptors: return get_descriptors();
    default: return fail("no such request", EPROTO);
  }
}

Result<Control::Answer> Control::hello(ChannelMessage& message) {
  if (!threads_.empty()) return fail("hello: this worker has its memory already", EALREADY);
  Hello body;
  POSTERN_CHECK(message.read_into(body));
  if (body.threads == 0 || body.threads > max_worker_threads) return fail("hello: threads out of range", EINVAL);
  POSTERN_TRY(files, SharedFiles::map(std::move(message.fds)));
  shared_ = std::make_unique<SharedFiles>(std::move(files));
  POSTERN_TRY(sad, Sad::create(shared_->slots(), body.threads));
  sad_ = std::move(sad);
  POSTERN_CHECK(start_threads(body.threads));
  for (std::uint32_t slot = 0; slot < sad_->capacity(); ++slot)  // of an earlier worker
    if (const auto row = sad_->row(slot); row && row->bound && row->dummy_interval_us != 0)
      schedule_dummies(*row, row->flow);
  if (const auto closed = close_sandbox(); !closed) {
    threads_.clear();
    return std::unexpected(closed.error());
  }
  CounterPage& page = shared_->counters();
  page.threads.store(body.threads, std::memory_order_relaxed);
  page.worker_starts.fetch_add(1, std::memory_order_relaxed);
  const Answer out = traits();
  spdlog::info("{} thread(s), {}, {}", body.threads, out.text,
               (out.value & hello_io_uring) != 0 ? "io_uring" : "poll()");
  return out;
}

Result<void> Control::start_threads(std::uint32_t count) {
  const auto cpus = cpus_to_stay_on(count);
  if (count > 1) team_ = std::make_unique<Team>(count);
  for (std::uint32_t index = 0; index < count; ++index) {
    DataThreadConfig config;
    config.index = index;
    if (!cpus.empty()) config.cpu = cpus[index];
    config.sad = sad_.get();
    config.counters = &shared_->counters().thread[index];
    config.adjacencies = &shared_->adjacencies();
    config.outbox = &outbox_;
    config.team = team_.get();
    auto thread = DataThread::start(config);
    if (!thread) {
      threads_.clear();
      return std::unexpected(thread.error());
    }
    threads_.push_back(std::move(*thread));
  }
  return {};
}

Control::Answer Control::traits() const {
  const DataThreadTraits& found = threads_.front()->traits();
  return {(found.io_uring ? hello_io_uring : 0) | (found.multishot_read ? hello_multishot_read : 0), found.engine, {}};
}

Result<Control::Answer> Control::get_descriptors() {
  Answer out = traits();
  for (const int fd : shared_->descriptors()) out.fds.push_back(fd);
  return out;
}

Result<Control::Answer> Control::add_device(ChannelMessage& message) {
  AddDevice body;
  POSTERN_CHECK(message.read_into(body));
  body.name.back() = '\0';
  if (body.thread >= threads_.size()) return fail("add_device: no such thread", EINVAL);
  POSTERN_TRY(row, threads_[body.thread]->add_device(body, std::move(message.fds)));
  spdlog::info("thread {}: device {} queue {} in row {}", body.thread, body.name.data(), body.queue, row);
  return Answer{row, {}, {}};
}

Result<Control::Answer> Control::remove_device(const ChannelMessage& message) {
  RemoveDevice body;
  POSTERN_CHECK(message.read_into(body));
  std::uint32_t removed = 0;
  for (const auto& thread : threads_) removed += thread->remove_device(body);
  if (removed == 0) return fail("remove_device: there is none", ENOENT);
  return Answer{removed, {}, {}};
}

Result<Control::Answer> Control::set_generation(const ChannelMessage& message) {
  SetGeneration body;
  POSTERN_CHECK(message.read_into(body));
  for (const auto& thread : threads_) thread->set_oldest_generation(body.oldest);
  return Answer{};
}

Result<Control::Answer> Control::set_policy(const ChannelMessage& message) {
  if (message.fds.size() != 1) return fail("set_policy: one file is needed", EINVAL);
  POSTERN_TRY(file, map_whole_file(message.fds[0], PROT_READ, "policy file"));
  POSTERN_TRY(rules, LoopPolicy::read(file.bytes()));
  const auto policy = rules.empty() ? nullptr : std::make_shared<const LoopPolicy>(std::move(rules));
  for (const auto& thread : threads_) thread->set_policy(policy);
  return Answer{};
}

Result<Control::Answer> Control::start_capture(ChannelMessage& message) {
  StartCapture body;
  POSTERN_CHECK(message.read_into(body));
  const auto side = static_cast<std::uint32_t>(body.side);
  if (message.fds.size() != 1 || side == 0 || side > static_cast<std::uint32_t>(CaptureSide::both))
    return fail("start_capture: one socket and a side are needed", EINVAL);
  const auto sink = std::make_shared<CaptureSink>(CaptureSink{std::move(message.fds[0]), body.side, body.snap_bytes});
  for (const auto& thread : threads_) thread->start_capture(sink);
  return Answer{};
}

}  // namespace postern
