// posternd's one loop: descriptors by epoll, timers by one timerfd. Single-threaded; a callback may watch, forget or
// stop.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "base/result.hpp"

namespace postern::loader {

class EventLoop {
 public:
  using TimerId = std::uint64_t;
  using OnReady = std::function<void(std::uint32_t events)>;

  [[nodiscard]] static Result<std::unique_ptr<EventLoop>> create();

  // `fd` is borrowed and must outlive the watch. `events` are epoll's. A second watch of the same descriptor replaces
  // it.
  [[nodiscard]] Result<void> watch(int fd, std::uint32_t events, OnReady on_ready);
  void forget(int fd);

  // One shot. Timers of one moment run in the order in which they were asked for.
  TimerId after(Duration delay, std::function<void()> on_time);
  void cancel(TimerId timer);

  // Until stop(). An error only when epoll itself fails.
  [[nodiscard]] Result<void> run();
  void stop() { running_ = false; }

 private:
  struct Watch {
    int fd;
    OnReady on_ready;
  };
  EventLoop(Fd epoll, Fd timer) : epoll_(std::move(epoll)), timer_(std::move(timer)) {}
  void arm();
  void run_timers();
  void dispatch(std::uint64_t id, std::uint32_t events);

  Fd epoll_, timer_;
  bool running_ = false;
  std::uint64_t next_id_ = 1;
  std::unordered_map<std::uint64_t, std::shared_ptr<Watch>>
      watches_;  // by id: an event of a forgotten fd finds nothing
  std::unordered_map<int, std::uint64_t> id_of_fd_;
  std::map<std::pair<Time, TimerId>, std::function<void()>> timers_;
};

}  // namespace postern::loader
