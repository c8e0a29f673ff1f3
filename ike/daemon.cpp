#include "ike/daemon.hpp"

#include <array>
#include <cstring>
#include <optional>

#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

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

bool is_adopt(std::string_view request) {
  const auto parsed = nlohmann::json::parse(request, nullptr, false);
  return parsed.is_object() && parsed.value("command", nlohmann::json()) == "adopt";
}

// The first descriptor that came with a message; others are closed.
std::optional<Fd> take_descriptor(msghdr& message) {
  std::optional<Fd> first;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
      Fd owned(fd);
      if (!first) first = std::move(owned);
    }
  }
  return first;
}

}  // namespace

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

Result<void> Daemon::run() {
  while (running_) {
    std::array<epoll_event, 16> events;
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
    if (count < 0 && errno != EINTR) return fail_errno("epoll_wait");
    for (int i = 0; i < count; ++i) dispatch(events[static_cast<std::size_t>(i)].data.fd);
  }
  return {};
}

void Daemon::dispatch(int fd) {
  if (fd == signals_.get())
    running_ = false;
  else if (fd == listener_.get())
    accept_client();
  else if (fd == broker_.get())
    broker_.reset();  // it answers only what is asked: readable means that posternd is gone
  else if (clients_.contains(fd))
    serve_client(fd);
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
  auto descriptor = got < 0 ? std::nullopt : take_descriptor(message);
  if (got <= 0 || (message.msg_flags & MSG_TRUNC) != 0) {
    clients_.erase(fd);
    return;
  }
  const std::string_view request(buffer.data(), static_cast<std::size_t>(got));
  if (descriptor && is_adopt(request)) {
    broker_ = std::move(*descriptor);
    if (const auto watched = watch(broker_.get()); !watched) broker_.reset();
    spdlog::info("adopted by posternd");
  }
  reply(fd, request);
}

void Daemon::reply(int fd, std::string_view request) {
  ++requests_;
  const auto body = is_adopt(request) ? nlohmann::json{{"ok", static_cast<bool>(broker_)}} : answer(request, facts());
  const auto text = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (::send(fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) clients_.erase(fd);
}

DaemonFacts Daemon::facts() const {
  const auto uptime = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - started_);
  return {::getpid(), static_cast<std::uint64_t>(uptime.count()), static_cast<bool>(broker_), requests_};
}

}  // namespace postern::ike
