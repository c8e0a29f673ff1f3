#include "loader/event_loop.hpp"

#include <algorithm>
#include <array>

#include <sys/epoll.h>
#include <sys/timerfd.h>

namespace postern::loader {
namespace {

constexpr std::uint64_t timer_watch = 0;

Result<void> add_to_epoll(int epoll, int fd, std::uint32_t events, std::uint64_t id) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = id;
  if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) return fail_errno("epoll: watch a descriptor");
  return {};
}

}  // namespace

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return fail_errno("epoll_create1");
  Fd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer) return fail_errno("timerfd_create");
  POSTERN_CHECK(add_to_epoll(epoll.get(), timer.get(), EPOLLIN, timer_watch));
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(epoll), std::move(timer)));
}

Result<void> EventLoop::watch(int fd, std::uint32_t events, OnReady on_ready) {
  forget(fd);
  const std::uint64_t id = next_id_++;
  POSTERN_CHECK(add_to_epoll(epoll_.get(), fd, events, id));
  watches_.emplace(id, std::make_shared<Watch>(fd, std::move(on_ready)));
  id_of_fd_[fd] = id;
  return {};
}

void EventLoop::forget(int fd) {
  const auto found = id_of_fd_.find(fd);
  if (found == id_of_fd_.end()) return;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  watches_.erase(found->second);
  id_of_fd_.erase(found);
}

EventLoop::TimerId EventLoop::after(Duration delay, std::function<void()> on_time) {
  const TimerId id = next_id_++;
  timers_.emplace(std::pair(Clock::now() + delay, id), std::move(on_time));
  arm();
  return id;
}

void EventLoop::cancel(TimerId timer) {
  std::erase_if(timers_, [timer](const auto& entry) { return entry.first.second == timer; });
  arm();
}

void EventLoop::arm() {
  itimerspec when{};
  if (!timers_.empty()) {
    const auto left = std::max<Duration>(timers_.begin()->first.first - Clock::now(), std::chrono::nanoseconds(1));
    const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
    when.it_value.tv_sec = nanoseconds / 1'000'000'000;
    when.it_value.tv_nsec = nanoseconds % 1'000'000'000;
  }
  ::timerfd_settime(timer_.get(), 0, &when, nullptr);
}

void EventLoop::run_timers() {
  std::uint64_t expirations = 0;
  [[maybe_unused]] const auto got = ::read(timer_.get(), &expirations, sizeof expirations);
  const Time now = Clock::now();
  while (running_ && !timers_.empty() && timers_.begin()->first.first <= now) {
    const auto due = timers_.extract(timers_.begin());
    due.mapped()();
  }
  arm();
}

void EventLoop::dispatch(std::uint64_t id, std::uint32_t events) {
  const auto found = watches_.find(id);
  if (found == watches_.end()) return;
  const auto kept = found->second;  // the callback may forget itself
  kept->on_ready(events);
}

Result<void> EventLoop::run() {
  running_ = true;
  arm();
  while (running_) {
    std::array<epoll_event, 32> events;
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno("epoll_wait");
    for (int i = 0; i < count && running_; ++i) {
      const auto& event = events[static_cast<std::size_t>(i)];
      if (event.data.u64 == timer_watch)
        run_timers();
      else
        dispatch(event.data.u64, event.events);
    }
  }
  return {};
}

}  // namespace postern::loader
