#include "resolver/daemon.hpp"

#include <nlohmann/json.hpp>

#include "base/log.hpp"

namespace postern::resolver {

using nlohmann::json;

Result<std::unique_ptr<Daemon>> Daemon::create(Fd listener, NameLookups::Ask ask_name, UrlLookups::Ask ask_url) {
  POSTERN_TRY(names, NameLookups::create(std::move(ask_name)));
  POSTERN_TRY(urls, UrlLookups::create(std::move(ask_url)));
  std::unique_ptr<Daemon> daemon(new Daemon(std::move(names), std::move(urls)));
  Daemon* const self = daemon.get();
  POSTERN_TRY(loop, ChildLoop::create(std::move(listener), {[self](std::string_view text, std::vector<Fd> descriptors) {
                                                              return self->answer(text, std::move(descriptors));
                                                            },
                                                            [self](int fd) { self->on_ready(fd); }}));
  POSTERN_CHECK(loop->watch(daemon->names_.fd()));
  POSTERN_CHECK(loop->watch(daemon->urls_.fd()));
  daemon->loop_ = std::move(loop);
  return daemon;
}

Result<void> Daemon::start() {
  POSTERN_CHECK(names_.start(lookup_threads));
  return urls_.start(fetch_threads);
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
  if (fd == names_.fd())
    send_answers(names_);
  else if (fd == urls_.fd())
    send_answers(urls_);
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
    take_question(**frame);
  }
}

void Daemon::take_question(Frame& frame) {
  if (auto* const question = std::get_if<Question>(&frame.body)) {
    if (!names_.add(channel_number_, frame.id, std::move(*question))) send({frame.id, Answer{Outcome::busy, {}, {}}});
  } else if (auto* const url = std::get_if<UrlQuestion>(&frame.body)) {
    if (!urls_.add(channel_number_, frame.id, std::move(*url))) send({frame.id, UrlAnswer{UrlOutcome::busy, {}, {}}});
  }
}

template <class Pool>
void Daemon::send_answers(Pool& pool) {
  for (typename Pool::Done& one : pool.take())
    if (one.channel == channel_number_) send({one.id, std::move(one.answer)});
}

// An answer that is lost would be waited for: what does not take it is at its end, and its asker knows.
void Daemon::send(const Frame& frame) {
  if (!channel_) return;
  if (const auto sent = send_frame(channel_.get(), frame); !sent) {
    spdlog::warn("{}", sent.error().message());
    channel_.reset();
  }
}

}  // namespace postern::resolver
