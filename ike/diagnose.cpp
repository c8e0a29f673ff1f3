#include "ike/diagnose.hpp"

#include <algorithm>

#include <fmt/chrono.h>

#include "ike/events.hpp"

namespace postern::ike {
namespace {

using nlohmann::json;

bool same_attempt(const Event& a, const Event& b) {
  return a.remote.address == b.remote.address && a.local.address == b.local.address && a.connection == b.connection &&
         a.child == b.child && a.initiator == b.initiator && a.failure->kind == b.failure->kind &&
         a.failure->by_peer == b.failure->by_peer && a.failure->summary == b.failure->summary &&
         a.failure->offered == b.failure->offered && a.failure->accepted == b.failure->accepted &&
         a.failure->differs == b.failure->differs;
}

std::string time_text(Diagnosis::WallTime time) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::chrono::system_clock::to_time_t(time)));
}

json or_null(const std::string& text) { return text.empty() ? json() : json(text); }

}  // namespace

void Diagnosis::take(const Event& event, WallTime now) {
  if (!event.failure) return;
  const auto same =
      std::ranges::find_if(attempts_, [&](const Attempt& known) { return same_attempt(known.event, event); });
  if (same != attempts_.end()) {
    Attempt again = std::move(*same);
    attempts_.erase(same);
    again.last = now;
    ++again.count;
    again.event = event;
    attempts_.push_back(std::move(again));
    return;
  }
  const auto of_peer = [&](const Attempt& known) { return known.event.remote.address == event.remote.address; };
  if (static_cast<std::size_t>(std::ranges::count_if(attempts_, of_peer)) >= max_per_peer)
    attempts_.erase(std::ranges::find_if(attempts_, of_peer));
  if (attempts_.size() >= max_attempts) attempts_.pop_front();
  attempts_.push_back({now, now, 1, event});
}

nlohmann::json Diagnosis::to_json(const std::optional<IpAddress>& peer, const std::string& name) const {
  json rows = json::array();
  for (auto at = attempts_.rbegin(); at != attempts_.rend(); ++at) {
    const Event& event = at->event;
    const Failure& failure = *event.failure;
    if ((peer && event.remote.address != *peer) || (!name.empty() && event.remote_name != name)) continue;
    rows.push_back({{"peer", event.remote.address.text()},
                    {"peer_name", or_null(event.remote_name)},
                    {"peer_port", event.remote.port},
                    {"local", event.local.address.text()},
                    {"local_port", event.local.port},
                    {"connection", or_null(event.connection)},
                    {"child", or_null(event.child)},
                    {"role", event.initiator ? "initiator" : "responder"},
                    {"first", time_text(at->first)},
                    {"last", time_text(at->last)},
                    {"count", at->count},
                    {"failure", name_of(failure.kind)},
                    {"said_by", failure.by_peer ? "peer" : "us"},
                    {"summary", failure.summary},
                    {"offered", or_null(failure.offered)},
                    {"accepted", or_null(failure.accepted)},
                    {"differs", or_null(failure.differs)},
                    {"remedy", or_null(failure.remedy)}});
  }
  return rows;
}

}  // namespace postern::ike
