#include "resolver/daemon.hpp"

#include <nlohmann/json.hpp>

#include "base/log.hpp"

namespace postern::resolver {

using nlohmann::json;

Result<std::unique_ptr<Daemon>> Daemon::create(Fd listener, Lookups::Ask ask) {
  POSTERN_TRY(lookups, Lookups::create(std::move(ask)));
  std::unique_ptr<Daemon> daemon(new Daemon(std::move(lookups)));
  Daemon* const self = daemon.get();
  POSTERN_TRY(loop, ChildLoop::create(std::move(listener), {[self](std::string_view text, std::vector<Fd> descriptors) {
                                                              return self->answer(text, std::move(descriptors));
                                                            },
                                                            [self](int fd) { self->on_ready(fd); }}));
  POSTERN_CHECK(loop->watch(daemon->lookups_.fd()));
  daemon->loop_ = std::move(loop);
  return daemon;
}

std::string Daemon::answer(std::string_view text, std::vector<Fd> descriptors) {
  const auto request = json::parse(text, nullptr, false);
  json out = {{"ok", false}, {"error", {{"message", "postern-resolver does not know this command"}}}};
  if (request.is_object() && request.contains("id")) out["id"] = request["id"];
  if (!request.is_object() || !request.contains("command")) return out.dump();
  const bool channel = request["command"] == "channel" && descriptors.size() == 1;
  if (!channel && request["command"] != "hello") return out.dump();
  if (channel) take_channel(std::move(descriptors.front()));
  out.erase("error");
  out["ok"] = true;
  out["data"] = json::object();
  return out.dump();
}

void Daemon::on_ready(int fd) {
  if (fd == lookups_.fd())
    send_answers();
  else if (fd == channel_.get())
    serve_channel();
}

void Daemon::take_channel(Fd channel) {
  channel_ = std::move(channel);  // the one before ends
  ++channel_number_;
  if (const auto watched = loop_->watch(channel_.get()); !watched) spdlog::error("{}", watched.error().message());
}

void Daemon::serve_channel() {
  for (std::size_t turn = 0; turn < max_questions_a_turn; ++turn) {
    auto frame = receive_frame(channel_.get(), buffer_);
    if (!frame) {
      spdlog::info("{}", frame.error().message());
      channel_.reset();
      return;
    }
    if (!*frame) return;
    auto* const question = std::get_if<Question>(&(*frame)->body);
    if (question == nullptr || lookups_.add(channel_number_, (*frame)->id, std::move(*question))) continue;
    if (const auto sent = send_frame(channel_.get(), {(*frame)->id, Answer{Outcome::busy, {}, {}}}); !sent)
      spdlog::warn("{}", sent.error().message());
  }
}

void Daemon::send_answers() {
  for (Lookups::Done& one : lookups_.take()) {
    if (!channel_ || one.channel != channel_number_) continue;
    if (const auto sent = send_frame(channel_.get(), {one.id, std::move(one.answer)}); !sent)
      spdlog::warn("{}", sent.error().message());
  }
}

}  // namespace postern::resolver
