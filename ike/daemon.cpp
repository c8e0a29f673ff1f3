#include "ike/daemon.hpp"

#include <unistd.h>

#include "base/log.hpp"

namespace postern::ike {

Result<std::unique_ptr<Daemon>> Daemon::create(Fd listener) {
  std::unique_ptr<Daemon> daemon(new Daemon());
  Daemon* const self = daemon.get();
  POSTERN_TRY(
      loop, ChildLoop::create(std::move(listener), {[self](std::string_view text, std::vector<Fd> descriptors) {
                                                      return self->parse_and_answer(text, std::move(descriptors));
                                                    },
                                                    [self](int fd) { (void)self->engine_.on_ready(fd, Clock::now()); },
                                                    [self] { return self->engine_.next_time(); },
                                                    [self] { self->engine_.on_time(Clock::now()); }}));
  daemon->loop_ = std::move(loop);
  return daemon;
}

Daemon::Daemon()
    : engine_([this](int fd) {
        if (const auto watched = loop_->watch(fd); !watched) spdlog::error("{}", watched.error().message());
      }) {}

std::string Daemon::parse_and_answer(std::string_view text, std::vector<Fd> descriptors) {
  const auto request = nlohmann::json::parse(text, nullptr, false);
  nlohmann::json body = failure("the request is not {\"command\": ...}", 2);
  if (request.is_object() && request.contains("command") && request["command"].is_string()) {
    body = answer(request, std::move(descriptors));
    if (request.contains("id")) body["id"] = request["id"];
  }
  return body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

nlohmann::json Daemon::answer(const nlohmann::json& request, std::vector<Fd> descriptors) {
  const auto& said = request["command"].get_ref<const std::string&>();
  if (said == "adopt") return adopt(std::move(descriptors));
  if (said == policy_command) return take_policy(std::move(descriptors));
  return command(engine_, facts(), request, Clock::now());
}

nlohmann::json Daemon::adopt(std::vector<Fd> descriptors) {
  if (descriptors.size() != 1) return failure("adopt comes with one descriptor", 2);
  if (const auto watched = loop_->watch(descriptors.front().get()); !watched)
    return failure(watched.error().message(), 1);
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

DaemonFacts Daemon::facts() const {
  const auto uptime = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - started_);
  DaemonFacts facts;
  facts.pid = ::getpid();
  facts.uptime_s = static_cast<std::uint64_t>(uptime.count());
  facts.broker_connected = engine_.has_broker();
  facts.worker_connected = engine_.has_worker();
  facts.debug = engine_.events().debug();
  facts.requests = loop_->requests();
  facts.survivors = engine_.installer().survivors();
  facts.sockets = engine_.sockets().rows();
  facts.counters = engine_.sockets().counters();
  return facts;
}

}  // namespace postern::ike
