// postern-ike's end of the channel to postern-resolver (resolver/channel.hpp). Nothing blocks: what is asked before
// there is a channel goes out with it; what was asked when it ends is answered as not to be looked up. Both kinds of
// questions: names, and URLs of certificates.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "base/fd.hpp"
#include "ike/certificate_fetches.hpp"
#include "ike/peer_names.hpp"
#include "resolver/channel.hpp"

namespace postern::ike {

class ResolverDoor {
 public:
  static constexpr std::size_t max_outstanding = 1024;

  struct Answered {
    PeerName name;
    resolver::Answer answer;
  };

  struct Fetched {
    std::uint64_t fetch = 0;
    resolver::UrlAnswer answer;
  };

  void connect(Fd channel);
  [[nodiscard]] bool connected() const { return static_cast<bool>(channel_); }
  [[nodiscard]] int fd() const { return channel_.get(); }

  void ask(const PeerName& name);
  void fetch(const CertificateFetches::Fetch& what);
  [[nodiscard]] bool has_questions() const { return !waiting_.empty() || !to_fetch_.empty(); }
  // What has come, and what never will. Error: the channel has ended.
  [[nodiscard]] Result<void> receive();
  [[nodiscard]] std::optional<Answered> next();
  [[nodiscard]] std::optional<Fetched> next_fetched();
  [[nodiscard]] bool has_answers() const { return !answers_.empty() || !fetched_.empty(); }

 private:
  void give_up();
  void refuse(const PeerName& name, const char* why);
  void send(const PeerName& name);
  void refuse(const CertificateFetches::Fetch& what, const char* why);
  void send(const CertificateFetches::Fetch& what);
  void take_answer(const resolver::Frame& frame, resolver::Answer& answer);
  void take_answer(const resolver::Frame& frame, resolver::UrlAnswer& answer);

  Fd channel_;
  std::vector<std::byte> buffer_;
  std::uint64_t next_id_ = 1;
  std::set<PeerName> waiting_;  // for a channel
  std::map<std::uint64_t, PeerName> asked_;
  std::deque<Answered> answers_;
  std::deque<CertificateFetches::Fetch> to_fetch_;  // for a channel
  std::map<std::uint64_t, CertificateFetches::Fetch> fetching_;
  std::deque<Fetched> fetched_;
};

}  // namespace postern::ike
