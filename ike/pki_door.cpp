#include "ike/pki_door.hpp"

#include <type_traits>

namespace postern::ike {
namespace {

pki::Refusal unavailable(std::string why) {
  return {pki::RefusalKind::unavailable, {}, std::move(why), {}, "see the log of postern-pki"};
}

// Nothing: the frame is no answer.
std::optional<pki::Answer> answer_in(pki::FrameBody& body) {
  return std::visit(
      [](auto& one) -> std::optional<pki::Answer> {
        if constexpr (std::is_constructible_v<pki::Answer, std::remove_reference_t<decltype(one)>>)
          return pki::Answer(std::move(one));
        else
          return std::nullopt;
      },
      body);
}

}  // namespace

void PkiDoor::connect(Fd channel) {
  give_up();
  channel_ = std::move(channel);
}

void PkiDoor::give_up() {
  channel_.reset();
  for (const auto& [id, who] : asked_)
    answers_.push_back({who.first, who.second, unavailable("postern-pki has ended")});
  asked_.clear();
}

void PkiDoor::ask(std::uint64_t session, const AskPki& question) {
  const auto refuse = [&](const char* why) { answers_.push_back({session, question.ticket, unavailable(why)}); };
  if (!channel_) return refuse("postern-pki is not there");
  if (asked_.size() >= max_outstanding) return refuse("postern-pki has too much to do");
  const std::uint64_t id = next_id_++;
  pki::Frame frame{id, {}};
  std::visit([&](const auto& body) { frame.body = body; }, question.question);
  if (const auto sent = pki::send_frame(channel_.get(), frame); !sent) return refuse("postern-pki has too much to do");
  asked_[id] = {session, question.ticket};
}

Result<void> PkiDoor::receive() {
  while (channel_) {
    auto frame = pki::receive_frame(channel_.get(), buffer_);
    if (!frame) {
      give_up();
      return std::unexpected(frame.error());
    }
    if (!*frame) return {};
    if (auto* const facts = std::get_if<pki::Facts>(&(*frame)->body)) {
      trustpoints_.clear();
      for (pki::TrustpointFacts& one : facts->trustpoints) trustpoints_[one.name] = std::move(one);
      continue;
    }
    const auto known = asked_.find((*frame)->id);
    if (known == asked_.end()) continue;
    const auto [session, ticket] = known->second;
    asked_.erase(known);
    auto answer = answer_in((*frame)->body);
    answers_.push_back({session, ticket, answer ? std::move(*answer) : unavailable("postern-pki answered nonsense")});
  }
  return {};
}

std::optional<PkiDoor::Answered> PkiDoor::next() {
  if (answers_.empty()) return std::nullopt;
  Answered out = std::move(answers_.front());
  answers_.pop_front();
  return out;
}

std::optional<pki::TrustpointFacts> PkiDoor::trustpoint(const std::string& name) const {
  const auto found = trustpoints_.find(name);
  return found == trustpoints_.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace postern::ike
