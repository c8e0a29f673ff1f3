#include "base/child_loop.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>
#include <cstdio>

#include <fmt/format.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.hpp"
#include "base/descriptors.hpp"
#include "base/log.hpp"
#include "base/send_descriptors.hpp"

namespace postern {
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

}  // namespace

ChildLoop::ChildLoop(Fd listener, Fd epoll, Fd signals, Hooks hooks)
    : listener_(std::move(listener)),
      epoll_(std::move(epoll)),
      signals_(std::move(signals)),
      hooks_(std::move(hooks)) {}

Result<std::unique_ptr<ChildLoop>> ChildLoop::create(Fd listener, Hooks hooks) {
  POSTERN_TRY(signals, block_and_watch_signals());
  Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return fail_errno("epoll_create1");
  std::unique_ptr<ChildLoop> loop(
      new ChildLoop(std::move(listener), std::move(epoll), std::move(signals), std::move(hooks)));
  POSTERN_CHECK(loop->watch(loop->listener_.get()));
  POSTERN_CHECK(loop->watch(loop->signals_.get()));
  return loop;
}

Result<void> ChildLoop::watch(int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return fail_errno("epoll: watch");
  return {};
}

// Milliseconds until somebody wants a turn, rounded up; -1: nobody does.
int ChildLoop::patience(Time now) const {
  const auto next = hooks_.next_time ? hooks_.next_time() : std::nullopt;
  if (!next) return -1;
  if (*next <= now) return 0;
  return static_cast<int>(
      std::min<std::int64_t>(std::chrono::ceil<std::chrono::milliseconds>(*next - now).count(), INT_MAX));
}

Result<void> ChildLoop::run() {
  while (running_) {
    std::array<epoll_event, 64> events;
    const int count =
        ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), patience(Clock::now()));
    if (count < 0 && errno != EINTR) return fail_errno("epoll_wait");
    for (int i = 0; i < count; ++i) dispatch(events[static_cast<std::size_t>(i)].data.fd);
    if (hooks_.on_time) hooks_.on_time();
  }
  return {};
}

void ChildLoop::dispatch(int fd) {
  if (fd == signals_.get())
    running_ = false;
  else if (fd == listener_.get())
    accept_client();
  else if (clients_.contains(fd))
    serve_client(fd);
  else
    hooks_.on_ready(fd);
}

void ChildLoop::accept_client() {
  Fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!client) return;
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(client.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return;
  if ((peer.pid != ::getpid() && peer.uid != 0) || clients_.size() >= max_clients) return;
  if (const auto watched = watch(client.get()); !watched) return;
  const int fd = client.get();
  clients_.emplace(fd, std::move(client));
}

void ChildLoop::serve_client(int fd) {
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
  reply(fd, hooks_.answer({buffer.data(), static_cast<std::size_t>(got)}, std::move(descriptors)));
}

void ChildLoop::reply(int fd, std::string_view text) {
  ssize_t sent = -1;
  if (text.size() <= max_reply_bytes) {
    sent = send_descriptors(fd, as_bytes(text), {});
  } else if (const auto file = memory_file(text)) {
    const int descriptor = file->get();
    sent = send_descriptors(fd, as_bytes(fmt::format(R"({{"bytes":{}}})", text.size())), {&descriptor, 1});
  }
  if (sent < 0) clients_.erase(fd);
}

Result<ChildOptions> child_options(const char* program, int argc, char** argv) {
  ChildOptions options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i], value = argv[i + 1];
    if (name == "--node") options.node = value;
    if (name == "--listen-fd") std::from_chars(value.data(), value.data() + value.size(), options.listen_fd);
  }
  if (options.node.empty() || options.listen_fd < 3 || argc != 5)
    return fail(fmt::format("usage: {} --node NAME --listen-fd N (started by posternd)", program));
  return options;
}

int run_child(const char* program, int argc, char** argv, Result<void> (*body)(Fd listener)) {
  const auto options = child_options(program, argc, argv);
  if (!options) {
    std::fprintf(stderr, "%s\n", options.error().message().c_str());
    return 2;
  }
  start_log(program, options->node);
  if (const auto outcome = body(Fd(options->listen_fd)); !outcome) {
    spdlog::error("{}", outcome.error().message());
    return 1;
  }
  spdlog::info("stopped");
  return 0;
}

}  // namespace postern
