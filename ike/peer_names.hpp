// What the names of peers stand for (CM-04, CM-06): asked for, kept, or unresolved with a reason. Sans-IO: the owner
// asks the questions that it is told to ask, and brings the answers.
#pragma once

#include <compare>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/net_types.hpp"
#include "resolver/channel.hpp"

namespace postern::ike {

struct PeerName {
  std::string name;
  Family family = Family::v4;
  auto operator<=>(const PeerName&) const = default;
};

class PeerNames {
 public:
  // Longer than the C library's own patience with two silent name servers.
  static constexpr Duration patience = std::chrono::seconds(25);
  static constexpr Duration longest_retry = std::chrono::seconds(60);

  struct State {
    std::optional<IpAddress> address;  // the one to negotiate with
    std::string problem;               // why the last question brought none; empty: it did
    std::optional<Time> asked;         // a question is on its way since
    std::optional<Time> settled;       // the last one was answered, or given up, then
    std::optional<IpAddress> avoid;    // did not work: another one of the answer is taken, where there is one
    bool stale = false;                // to be asked for before it is used again
    std::uint32_t failures = 0;        // in a row
    std::optional<Time> retry;         // ask again then, by itself
  };

  // The names that the policy has. What is known of them stays, the others are forgotten.
  void keep(const std::set<PeerName>& names);
  [[nodiscard]] const State* find(const PeerName& name) const;
  [[nodiscard]] const std::map<PeerName, State>& all() const { return names_; }

  // True: the owner has to ask now. False: the question is on its way, or the name is none of ours.
  [[nodiscard]] bool ask(const PeerName& name, Time now);
  // It did not work: to be asked for before the next attempt.
  void spoil(const PeerName& name, const IpAddress& address);

  // `own`: addresses that no peer has. True: the name is one of ours, and find() says what came of it.
  bool settle(const PeerName& name, const resolver::Answer& answer, const std::set<IpAddress>& own, Time now);

  // Whose question has been on its way for too long, and whose time to be asked again has come.
  [[nodiscard]] std::vector<PeerName> overdue(Time now) const;
  [[nodiscard]] std::vector<PeerName> due(Time now) const;
  [[nodiscard]] std::optional<Time> next_timer() const;

 private:
  std::map<PeerName, State> names_;
};

// "nobody has the name vpn.example.net"
[[nodiscard]] std::string text_of(const PeerName& name, const resolver::Answer& answer);

}  // namespace postern::ike
