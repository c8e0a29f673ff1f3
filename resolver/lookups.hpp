// Questions that block, asked by a few threads, so that the loop never does. Bounded: what is too much is refused at
// once. A thread that hangs holds up nobody but itself; names and URLs have threads of their own.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <sys/eventfd.h>
#include <unistd.h>

#include "base/fd.hpp"
#include "resolver/channel.hpp"

namespace postern::resolver {

template <class Asked, class Answered, std::size_t MaxWaiting>
class Lookups {
 public:
  static constexpr std::size_t max_waiting = MaxWaiting;

  // Called by several threads at once.
  using Ask = std::function<Answered(const Asked&)>;
  struct Done {
    std::uint64_t channel = 0, id = 0;
    Answered answer;
  };

  // The descriptor that fd() names is made here; threads are not.
  [[nodiscard]] static Result<Lookups> create(Ask ask);
  // After the process is caged, so that the threads are too. Each lives until it is done after the object has gone.
  [[nodiscard]] Result<void> start(std::size_t threads);

  // False: too many are waiting. `channel` and `id` come back with the answer.
  [[nodiscard]] bool add(std::uint64_t channel, std::uint64_t id, Asked question);
  // Readable while there are answers.
  [[nodiscard]] int fd() const { return shared_->wake.get(); }
  [[nodiscard]] std::vector<Done> take();

  Lookups(Lookups&&) noexcept = default;
  Lookups& operator=(Lookups&&) = delete;
  ~Lookups();

 private:
  struct Task {
    std::uint64_t channel = 0, id = 0;
    Asked question;
  };
  struct Shared {
    Ask ask;
    Fd wake;
    std::mutex mutex;
    std::condition_variable there_is_work;
    std::deque<Task> waiting;
    std::vector<Done> done;
    bool ended = false;
  };
  explicit Lookups(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
  static void work(const std::shared_ptr<Shared>& shared);
  std::shared_ptr<Shared> shared_;
};

using NameLookups = Lookups<Question, Answer, 256>;
using UrlLookups = Lookups<UrlQuestion, UrlAnswer, 64>;

// getaddrinfo(3): /etc/hosts and /etc/resolv.conf count.
[[nodiscard]] Answer ask_c_library(const Question& question);
// "hosts" is looked up in files and DNS alone, whatever /etc/nsswitch.conf says: those two are part of the C library,
// every other service is a plug-in that a caged process may not load. Call before the process is caged.
[[nodiscard]] Result<void> choose_services();

// --- the template

template <class Asked, class Answered, std::size_t MaxWaiting>
Result<Lookups<Asked, Answered, MaxWaiting>> Lookups<Asked, Answered, MaxWaiting>::create(Ask ask) {
  auto shared = std::make_shared<Shared>();
  shared->ask = std::move(ask);
  shared->wake = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!shared->wake) return fail_errno("eventfd");
  return Lookups(std::move(shared));
}

template <class Asked, class Answered, std::size_t MaxWaiting>
Lookups<Asked, Answered, MaxWaiting>::~Lookups() {
  if (!shared_) return;
  const std::scoped_lock lock(shared_->mutex);
  shared_->ended = true;
  shared_->there_is_work.notify_all();
}

template <class Asked, class Answered, std::size_t MaxWaiting>
Result<void> Lookups<Asked, Answered, MaxWaiting>::start(std::size_t threads) try {
  for (std::size_t i = 0; i < threads; ++i) std::thread(work, shared_).detach();
  return {};
} catch (const std::system_error& error) {
  return fail("start a thread", error.code().value());
}

template <class Asked, class Answered, std::size_t MaxWaiting>
bool Lookups<Asked, Answered, MaxWaiting>::add(std::uint64_t channel, std::uint64_t id, Asked question) {
  const std::scoped_lock lock(shared_->mutex);
  if (shared_->waiting.size() >= max_waiting) return false;
  shared_->waiting.push_back({channel, id, std::move(question)});
  shared_->there_is_work.notify_one();
  return true;
}

template <class Asked, class Answered, std::size_t MaxWaiting>
auto Lookups<Asked, Answered, MaxWaiting>::take() -> std::vector<Done> {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto got = ::read(shared_->wake.get(), &count, sizeof count);
  const std::scoped_lock lock(shared_->mutex);
  return std::exchange(shared_->done, {});
}

template <class Asked, class Answered, std::size_t MaxWaiting>
void Lookups<Asked, Answered, MaxWaiting>::work(const std::shared_ptr<Shared>& shared) {
  for (;;) {
    std::unique_lock lock(shared->mutex);
    shared->there_is_work.wait(lock, [&] { return shared->ended || !shared->waiting.empty(); });
    if (shared->ended) return;
    const Task task = std::move(shared->waiting.front());
    shared->waiting.pop_front();
    lock.unlock();
    Answered answer = shared->ask(task.question);
    lock.lock();
    shared->done.push_back({task.channel, task.id, std::move(answer)});
    constexpr std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(shared->wake.get(), &one, sizeof one);
  }
}

}  // namespace postern::resolver
