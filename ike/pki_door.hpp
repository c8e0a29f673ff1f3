// postern-ike's end of the channel to postern-pki (pki/channel.hpp): questions out, answers in by number, and what it
// told of its trustpoints. Nothing waits; what was asked when the channel ends is answered as unavailable.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "ike/actions.hpp"
#include "pki/channel.hpp"

namespace postern::ike {

class PkiDoor {
 public:
  static constexpr std::size_t max_outstanding = 4096;

  struct Answered {
    std::uint64_t session = 0, ticket = 0;
    pki::Answer answer;
  };

  void connect(Fd channel);
  [[nodiscard]] bool connected() const { return static_cast<bool>(channel_); }
  [[nodiscard]] int fd() const { return channel_.get(); }

  void ask(std::uint64_t session, const AskPki& question);
  // What has come, and what never will. Error: the channel has ended.
  [[nodiscard]] Result<void> receive();
  [[nodiscard]] std::optional<Answered> next();
  [[nodiscard]] bool has_answers() const { return !answers_.empty(); }
  [[nodiscard]] std::optional<pki::TrustpointFacts> trustpoint(const std::string& name) const;

 private:
  void give_up();
  Fd channel_;
  std::vector<std::byte> buffer_;
  std::uint64_t next_id_ = 1;
  std::map<std::uint64_t, std::pair<std::uint64_t, std::uint64_t>> asked_;  // id: session, ticket
  std::deque<Answered> answers_;
  std::map<std::string, pki::TrustpointFacts> trustpoints_;
};

}  // namespace postern::ike
