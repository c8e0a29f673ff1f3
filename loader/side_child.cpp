#include "loader/side_child.hpp"

#include <span>

#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/log.hpp"

namespace postern::loader {

using nlohmann::json;

namespace {

// As many certificates as postern-ike may wait for at once, each as long as may be: nothing waits in a channel.
constexpr int channel_bytes = 8 << 20;

}  // namespace

void SideChild::bring() {
  if (!child_) {
    child_ = adopt_side(setup_.program, *setup_.known, setup_.socket_path);
    if (!child_) {
      auto started = start_side(setup_.program, setup_.node, setup_.socket_path);
      if (started) child_ = std::move(*started);
      if (!started) spdlog::error("{}", started.error().message());
    }
    started_ = Clock::now();
    if (!child_) {
      setup_.loop->after(pace_.after_crash(started_, Clock::now()) + std::chrono::seconds(1), [this] { bring(); });
      return;
    }
    *setup_.known = child_->process.id;
    setup_.save_state();
    const auto watched = setup_.loop->watch(child_->process.pidfd.get(), EPOLLIN, [this](std::uint32_t) { lost(); });
    if (!watched) spdlog::error("{}", watched.error().message());
  }
  if (!setup_.configure) return;
  if (const auto told = setup_.configure(); !told) spdlog::error("{}: {}", setup_.program, told.error().message());
}

void SideChild::lost() {
  setup_.loop->forget(child_->process.pidfd.get());
  spdlog::error("{} {} ended ({})", setup_.program, child_->process.id.pid, reap(child_->process));
  child_.reset();
  setup_.loop->after(pace_.after_crash(started_, Clock::now()), [this] { bring(); });
}

void SideChild::end(std::chrono::milliseconds patience) {
  if (child_) end_process(child_->process, patience);
  child_.reset();
  *setup_.known = {};
}

Result<json> SideChild::ask(const json& question) {
  if (!child_) return fail(std::string(setup_.program) + " is not running", EAGAIN);
  return child_->ask(question);
}

Result<json> SideChild::ask_for(const json& question, int descriptor) {
  if (!child_) return fail(std::string(setup_.program) + " is not running", EAGAIN);
  const std::span<const int> descriptors(&descriptor, descriptor < 0 ? 0U : 1U);
  POSTERN_TRY(answer, child_->ask(question, descriptors, slow_answer));
  if (answer.value("ok", false) == true) return answer.value("data", json::object());
  return fail(answer.value("error", json::object()).value("message", std::string("refused")));
}

Result<Fd> SideChild::channel() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return fail_errno("broker: socketpair");
  const Fd for_child(ends[0]);
  Fd for_ike(ends[1]);
  for (const int end : ends)
    if (::setsockopt(end, SOL_SOCKET, SO_SNDBUFFORCE, &channel_bytes, sizeof channel_bytes) != 0)
      return fail_errno("broker: SO_SNDBUFFORCE");
  POSTERN_CHECK(ask_for({{"command", "channel"}}, for_child.get()));
  return for_ike;
}

}  // namespace postern::loader
