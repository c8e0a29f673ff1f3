#include "ike/peer_names.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace postern::ike {
namespace {

bool is_loopback(const IpAddress& address) {
  if (address.family() == Family::v4) return address.v4_host_order() >> 24 == 127;
  std::array<std::uint8_t, 16> one{};
  one.back() = 1;
  return address.mapped() == one;
}

std::string no_peer(const PeerName& name, const IpAddress& address) {
  return fmt::format("{} is {}, which is no address of a peer", name.name, address.text());
}

}  // namespace

std::string text_of(const PeerName& name, const resolver::Answer& answer) {
  using resolver::Outcome;
  switch (answer.outcome) {
    case Outcome::found: return "";
    case Outcome::no_name: return fmt::format("nobody has the name {}", name.name);
    case Outcome::no_address: return fmt::format("{} has no IPv{} address", name.name, static_cast<int>(name.family));
    case Outcome::unreachable: return fmt::format("no name server answered about {}", name.name);
    case Outcome::busy: return fmt::format("too many names are asked for at once: {} was not", name.name);
    case Outcome::failed: break;
  }
  return fmt::format("{} could not be looked up: {}", name.name, answer.detail);
}

void PeerNames::keep(const std::set<PeerName>& names) {
  std::erase_if(names_, [&](const auto& row) { return !names.contains(row.first); });
  for (const PeerName& name : names) names_.try_emplace(name);
}

const PeerNames::State* PeerNames::find(const PeerName& name) const {
  const auto known = names_.find(name);
  return known == names_.end() ? nullptr : &known->second;
}

bool PeerNames::ask(const PeerName& name, Time now) {
  const auto known = names_.find(name);
  if (known == names_.end() || known->second.asked) return false;
  known->second.asked = now;
  known->second.retry.reset();
  return true;
}

void PeerNames::spoil(const PeerName& name, const IpAddress& address) {
  const auto known = names_.find(name);
  if (known == names_.end()) return;
  known->second.stale = true;
  known->second.avoid = address;
}

// The address in use stays the one while the answer has it: name servers turn their lists round.
bool PeerNames::settle(const PeerName& name, const resolver::Answer& answer, const std::set<IpAddress>& own, Time now) {
  const auto known = names_.find(name);
  if (known == names_.end()) return false;
  State& state = known->second;
  state.asked.reset();
  state.settled = now;
  state.stale = false;
  state.problem = text_of(name, answer);
  std::vector<IpAddress> usable;
  for (const IpAddress& one : answer.addresses) {
    const bool of_peer = one.family() == name.family && !one.is_unspecified() && !one.is_multicast() &&
                         !is_loopback(one) && !own.contains(one);
    if (of_peer)
      usable.push_back(one);
    else
      state.problem = no_peer(name, one);
  }
  const auto avoid = std::exchange(state.avoid, std::nullopt);
  if (usable.empty()) {
    const auto pause = std::chrono::seconds(std::int64_t{1} << std::min(state.failures++, 6U));
    state.retry = now + std::min<Duration>(pause, longest_retry);
    return true;
  }
  state.problem.clear();
  state.failures = 0;
  const auto good = [&](const IpAddress& one) { return one != avoid; };
  if (state.address && good(*state.address) && std::ranges::find(usable, *state.address) != usable.end()) return true;
  const auto other = std::ranges::find_if(usable, good);
  state.address = other == usable.end() ? usable.front() : *other;
  return true;
}

std::vector<PeerName> PeerNames::overdue(Time now) const {
  std::vector<PeerName> out;
  for (const auto& [name, state] : names_)
    if (state.asked && now >= *state.asked + patience) out.push_back(name);
  return out;
}

std::vector<PeerName> PeerNames::due(Time now) const {
  std::vector<PeerName> out;
  for (const auto& [name, state] : names_)
    if (!state.asked && state.retry && now >= *state.retry) out.push_back(name);
  return out;
}

std::optional<Time> PeerNames::next_timer() const {
  std::optional<Time> out;
  for (const auto& [name, state] : names_) {
    const auto at = state.asked ? std::optional(*state.asked + patience) : state.retry;
    if (at && (!out || *at < *out)) out = at;
  }
  return out;
}

}  // namespace postern::ike
