#include "ike/resolver_door.hpp"

#include <utility>

namespace postern::ike {

void ResolverDoor::connect(Fd channel) {
  give_up();
  channel_ = std::move(channel);
  for (const PeerName& name : std::exchange(waiting_, {})) send(name);
}

void ResolverDoor::refuse(const PeerName& name, const char* why) {
  answers_.push_back({name, {resolver::Outcome::failed, why, {}}});
}

void ResolverDoor::give_up() {
  channel_.reset();
  for (const auto& [id, name] : asked_) refuse(name, "postern-resolver has ended");
  asked_.clear();
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
    const auto known = asked_.find((*frame)->id);
    auto* const answer = std::get_if<resolver::Answer>(&(*frame)->body);
    if (known == asked_.end() || answer == nullptr) continue;
    answers_.push_back({known->second, std::move(*answer)});
    asked_.erase(known);
  }
  return {};
}

std::optional<ResolverDoor::Answered> ResolverDoor::next() {
  if (answers_.empty()) return std::nullopt;
  Answered out = std::move(answers_.front());
  answers_.pop_front();
  return out;
}

}  // namespace postern::ike
