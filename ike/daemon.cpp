#include "ike/daemon.hpp"

#include <algorithm>
#include <array>
#include <climits>
#include <cstring>

#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/descriptors.hpp"
#include "base/log.hpp"

namespace postern::ike {
namespace {

Result<Fd> block_and_watch_signals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  if (::sigprocmask(SIG_BLOCK, &signals, nullptr) != 0) return fail_errno("block signals");
  Fd fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return fail_errno("signalfd");
  return fd;
}

Result<Fd> memory_file(std::string_view text) {
  Fd fd(::memfd_create("postern-answer", MFD_CLOEXEC));
  if (!fd) return fail_errno("memfd_create");
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t written = ::write(fd.get(), text.data() + done, text.size() - done);
    if (written < 0 && errno != EINTR) return fail_errno("write an answer");
    done += static_cast<std::size_t>(std::max<ssize_t>(written, 0));
  }
  return fd;
}

Result<void> send_text(int socket, std::string_view text, int descriptor) {
  iovec part{const_cast<char*>(text.data()), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  if (descriptor >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &descriptor, sizeof descriptor);
  }
  if (::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return fail_errno("answer");
  return {};
}

}  // namespace

Daemon::Daemon(Fd listener, Fd epoll, Fd signals)
    : listener_(std::move(listener)), epoll_(std::move(epoll)), signals_(std::move(signals)), engine_([this](int fd) {
        if (const auto watched = watch(fd); !watched) spdlog::error("{}", watched.error().message());
      }) {}

Result<std::unique_ptr<Daemon>> Daemon::create(Fd listener) {
  POSTERN_TRY(signals, block_and_watch_signals());
  Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return fail_errno("epoll_create1");
  std::unique_ptr<Daemon> daemon(new Daemon(std::move(listener), std::move(epoll), std::move(signals)));
  POSTERN_CHECK(daemon->watch(daemon->listener_.get()));
  POSTERN_CHECK(daemon->watch(daemon->signals_.get()));
  return daemon;
}

Result<void> Daemon::watch(int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return fail_errno("epoll: watch");
  return {};
}

// Milliseconds until the engine wants its turn, rounded up; -1: it waits for nothing.
int Daemon::patience(Time now) const {
  const auto next = engine_.next_time();
  if (!next) return -1;
  if (*next <= now) return 0;
  return static_cast<int>(
      std::min<std::int64_t>(std::chrono::ceil<std::chrono::milliseconds>(*next - now).count(), INT_MAX));
}

Result<void> Daemon::run() {
  while (running_) {
    std::array<epoll_event, 64> events;
    const int count =
        ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), patience(Clock::now()));
    if (count < 0 && errno != EINTR) return fail_errno("epoll_wait");
    for (int i = 0; i < count; ++i) dispatch(events[static_cast<std::size_t>(i)].data.fd);
    engine_.on_time(Clock::now());
  }
  return {};
}

void Daemon::dispatch(int fd) {
  if (fd == signals_.get())
    running_ = false;
  else if (fd == listener_.get())
    accept_client();
  else if (clients_.contains(fd))
    serve_client(fd);
  else
    (void)engine_.on_ready(fd, Clock::now());
}

void Daemon::accept_client() {
  Fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!client) return;
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(client.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return;
  if (peer.pid != ::getpid() && peer.uid != 0) return;
  if (clients_.size() >= max_clients) return;
  if (const auto watched = watch(client.get()); !watched) return;
  const int fd = client.get();
  clients_.emplace(fd, std::move(client));
}

void Daemon::serve_client(int fd) {
  std::array<char, max_request_bytes> buffer;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * 4)> control{};
  iovec part{buffer.data(), buffer.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  auto descriptors = got < 0 ? std::vector<Fd>() : take_descriptors(message);
  if (got <= 0 || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    clients_.erase(fd);
    return;
  }
  ++requests_;
  reply(fd, parse_and_answer({buffer.data(), static_cast<std::size_t>(got)}, std::move(descriptors)));
}

nlohmann::json Daemon::parse_and_answer(std::string_view text, std::vector<Fd> descriptors) {
  const auto request = nlohmann::json::parse(text, nullptr, false);
  if (!request.is_object() || !request.contains("command") || !request["command"].is_string())
    return failure("the request is not {\"command\": ...}", 2);
  auto body = answer(request, std::move(descriptors));
  if (request.contains("id")) body["id"] = request["id"];
  return body;
}

nlohmann::json Daemon::answer(const nlohmann::json& request, std::vector<Fd> descriptors) {
  const auto& said = request["command"].get_ref<const std::string&>();
  if (said == "adopt") return adopt(std::move(descriptors));
  if (said == policy_command) return take_policy(std::move(descriptors));
  return command(engine_, facts(), request, Clock::now());
}

nlohmann::json Daemon::adopt(std::vector<Fd> descriptors) {
  if (descriptors.size() != 1) return failure("adopt comes with one descriptor", 2);
  if (const auto watched = watch(descriptors.front().get()); !watched) return failure(watched.error().message(), 1);
  spdlog::info("adopted by posternd");
  engine_.adopt(std::move(descriptors.front()), Clock::now());
  return success({{"generation", engine_.manager().policy()->generation}});
}

nlohmann::json Daemon::take_policy(std::vector<Fd> descriptors) {
  if (descriptors.size() != 2) return failure("a policy comes with two descriptors", 2);
  const PolicyFiles files{std::move(descriptors[0]), std::move(descriptors[1])};
  const auto generation = engine_.take_policy(files, Clock::now());
  if (!generation) return failure("policy: " + generation.error().message(), 1);
  return success({{"generation", *generation}});
}

void Daemon::reply(int fd, const nlohmann::json& body) {
  const auto text = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  Result<void> sent;
  if (text.size() <= max_reply_bytes) {
    sent = send_text(fd, text, -1);
  } else {
    const auto file = memory_file(text);
    sent = file ? send_text(fd, nlohmann::json{{"bytes", text.size()}}.dump(), file->get())
                : std::unexpected(file.error());
  }
  if (!sent) clients_.erase(fd);
}

DaemonFacts Daemon::facts() const {
  const auto uptime = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - started_);
  DaemonFacts facts;
  facts.pid = ::getpid();
  facts.uptime_s = static_cast<std::uint64_t>(uptime.count());
  facts.broker_connected = engine_.has_broker();
  facts.worker_connected = engine_.has_worker();
  facts.debug = engine_.events().debug();
  facts.requests = requests_;
  facts.survivors = engine_.installer().survivors();
  facts.sockets = engine_.sockets().rows();
  facts.counters = engine_.sockets().counters();
  return facts;
}

}  // namespace postern::ike
