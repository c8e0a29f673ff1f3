// Between the control thread and a worker thread. Cold paths only: the data path looks at the mailbox when its
// descriptor says that something is in it.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <semaphore>
#include <utility>
#include <vector>

#include <sys/eventfd.h>

#include "base/fd.hpp"
#include "base/result.hpp"

namespace postern {

// A counter that poll() sees; rung by one side and silenced by the other.
class Bell {
 public:
  [[nodiscard]] static Result<Bell> create() {
    Fd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!fd) return fail_errno("eventfd");
    return Bell(std::move(fd));
  }
  [[nodiscard]] int fd() const { return fd_.get(); }
  void ring() const { (void)::eventfd_write(fd_.get(), 1); }
  void silence() const {
    eventfd_t rung = 0;
    (void)::eventfd_read(fd_.get(), &rung);
  }

 private:
  explicit Bell(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
};

// Work for one worker thread.
class Mailbox {
 public:
  explicit Mailbox(Bell bell) : bell_(std::make_shared<const Bell>(std::move(bell))) {}
  [[nodiscard]] int fd() const { return bell_->fd(); }
  // For whoever else may wake the thread; outlives the mailbox.
  [[nodiscard]] std::shared_ptr<const Bell> bell() const { return bell_; }

  // Any thread but the worker's: returns when the worker thread has run `work`, between two batches.
  void run(const std::function<void()>& work) {
    Job job{&work};
    {
      const std::scoped_lock lock(mutex_);
      jobs_.push_back(&job);
    }
    bell_->ring();
    job.done.acquire();
  }

  // The worker thread.
  void serve() {
    bell_->silence();
    std::vector<Job*> taken;
    {
      const std::scoped_lock lock(mutex_);
      taken.swap(jobs_);
    }
    for (Job* const job : taken) {
      (*job->work)();
      job->done.release();
    }
  }

 private:
  struct Job {
    const std::function<void()>* work;
    std::binary_semaphore done{0};
  };
  std::shared_ptr<const Bell> bell_;
  std::mutex mutex_;
  std::vector<Job*> jobs_;
};

// What worker threads tell the control thread; it never makes them wait. Past `limit` the news is lost: senders repeat
// it.
template <class T>
class Outbox {
 public:
  explicit Outbox(Bell bell) : bell_(std::move(bell)) {}
  [[nodiscard]] int fd() const { return bell_.fd(); }

  bool put(const T& news) {
    {
      const std::scoped_lock lock(mutex_);
      if (news_.size() >= limit) return false;
      news_.push_back(news);
    }
    bell_.ring();
    return true;
  }
  [[nodiscard]] std::vector<T> take() {
    bell_.silence();
    const std::scoped_lock lock(mutex_);
    return std::exchange(news_, {});
  }

 private:
  static constexpr std::size_t limit = 1024;
  Bell bell_;
  std::mutex mutex_;
  std::vector<T> news_;
};

}  // namespace postern
