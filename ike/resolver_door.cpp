#include "ike/resolver_door.hpp"

#include <utility>

namespace postern::ike {

void ResolverDoor::connect(Fd channel) {
  give_up();
  channel_ = std::move(channel);
  for (const PeerName& name : std::exchange(waiting_, {})) send(name);
  for (const CertificateFetches::Fetch& what : std::exchange(to_fetch_, {})) send(what);
}

void ResolverDoor::refuse(const PeerName& name, const char* why) {
  answers_.push_back({name, {resolver::Outcome::failed, why, {}}});
}

void ResolverDoor::give_up() {
  channel_.reset();
  for (const auto& [id, name] : asked_) refuse(name, "postern-resolver has ended");
  asked_.clear();
  for (const auto& [id, what] : fetching_) refuse(what, "postern-resolver has ended");
  fetching_.clear();
}

void ResolverDoor::refuse(const CertificateFetches::Fetch& what, const char* why) {
  fetched_.push_back({what.id, {resolver::UrlOutcome::failed, why, {}}});
}

void ResolverDoor::fetch(const CertificateFetches::Fetch& what) {
  if (fetching_.size() + to_fetch_.size() >= max_outstanding)
    return refuse(what, "postern-resolver has too much to do");
  if (channel_)
    send(what);
  else
    to_fetch_.push_back(what);
}

void ResolverDoor::send(const CertificateFetches::Fetch& what) {
  const std::uint64_t id = next_id_++;
  if (const auto sent = resolver::send_frame(channel_.get(), {id, resolver::UrlQuestion{what.url, what.max_bytes}});
      !sent)
    return refuse(what, "postern-resolver has too much to do");
  fetching_[id] = what;
}

void ResolverDoor::ask(const PeerName& name) {
  if (asked_.size() + waiting_.size() >= max_outstanding) return refuse(name, "postern-resolver has too much to do");
  if (channel_)
    send(name);
  else
    waiting_.insert(name);
}

void ResolverDoor::send(const PeerName& name) {
  const std::uint64_t id = next_id_++;
  if (const auto sent = resolver::send_frame(channel_.get(), {id, resolver::Question{name.name, name.family}}); !sent)
    return refuse(name, "postern-resolver has too much to do");
  asked_[id] = name;
}

Result<void> ResolverDoor::receive() {
  while (channel_) {
    auto frame = resolver::receive_frame(channel_.get(), buffer_);
    if (!frame) {
      give_up();
      return std::unexpected(frame.error());
    }
    if (!*frame) return {};
    if (auto* const answer = std::get_if<resolver::Answer>(&(*frame)->body)) take_answer(**frame, *answer);
    if (auto* const answer = std::get_if<resolver::UrlAnswer>(&(*frame)->body)) take_answer(**frame, *answer);
  }
  return {};
}

void ResolverDoor::take_answer(const resolver::Frame& frame, resolver::Answer& answer) {
  const auto known = asked_.find(frame.id);
  if (known == asked_.end()) return;
  answers_.push_back({known->second, std::move(answer)});
  asked_.erase(known);
}

void ResolverDoor::take_answer(const resolver::Frame& frame, resolver::UrlAnswer& answer) {
  const auto known = fetching_.find(frame.id);
  if (known == fetching_.end()) return;
  const CertificateFetches::Fetch what = std::move(known->second);
  fetching_.erase(known);
  if (answer.body.size() > what.max_bytes) return refuse(what, "postern-resolver brings more than it was asked for");
  fetched_.push_back({what.id, std::move(answer)});
}

std::optional<ResolverDoor::Fetched> ResolverDoor::next_fetched() {
  if (fetched_.empty()) return std::nullopt;
  Fetched out = std::move(fetched_.front());
  fetched_.pop_front();
  return out;
}

std::optional<ResolverDoor::Answered> ResolverDoor::next() {
  if (answers_.empty()) return std::nullopt;
  Answered out = std::move(answers_.front());
  answers_.pop_front();
  return out;
}

}  // namespace postern::ike
