// Questions that block, asked by a few threads, so that the loop never does. Bounded: what is too much is refused at
// once. A thread that hangs in the C library holds up nobody but itself.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/fd.hpp"
#include "resolver/channel.hpp"

namespace postern::resolver {

class Lookups {
 public:
  static constexpr std::size_t max_waiting = 256;

  // Called by several threads at once.
  using Ask = std::function<Answer(const Question&)>;
  struct Done {
    std::uint64_t channel = 0, id = 0;
    Answer answer;
  };

  // The descriptor that fd() names is made here; threads are not.
  [[nodiscard]] static Result<Lookups> create(Ask ask);
  // After the process is caged, so that the threads are too. Each lives until it is done after the object has gone.
  [[nodiscard]] Result<void> start(std::size_t threads);

  // False: too many are waiting. `channel` and `id` come back with the answer.
  [[nodiscard]] bool add(std::uint64_t channel, std::uint64_t id, Question question);
  // Readable while there are answers.
  [[nodiscard]] int fd() const;
  [[nodiscard]] std::vector<Done> take();

  Lookups(Lookups&&) noexcept = default;
  Lookups& operator=(Lookups&&) = delete;
  ~Lookups();

 private:
  struct Shared;
  explicit Lookups(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
  static void work(const std::shared_ptr<Shared>& shared);
  std::shared_ptr<Shared> shared_;
};

// getaddrinfo(3): /etc/hosts and /etc/resolv.conf count.
[[nodiscard]] Answer ask_c_library(const Question& question);
// "hosts" is looked up in files and DNS alone, whatever /etc/nsswitch.conf says: those two are part of the C library,
// every other service is a plug-in that a caged process may not load. Call before the process is caged.
[[nodiscard]] Result<void> choose_services();

}  // namespace postern::resolver
