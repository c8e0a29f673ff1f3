// What sessions and the manager tell (ike/actions.hpp: Event), as one line of key=value pairs each in the log. No key
// is in an Event, so none is in the log.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "ike/actions.hpp"
#include "ike/rate.hpp"

namespace postern::ike {

[[nodiscard]] std::string_view name_of(EventKind kind);     // "ike_up"
[[nodiscard]] std::string_view name_of(FailureKind kind);   // "wrong_key"
[[nodiscard]] std::string spi_text(std::uint64_t ike_spi);  // 16 upper-case digits

// "event=ike_up connection="M1 10" local=192.0.2.1:500 remote=192.0.2.2:500 spi_i=... spi_r=... role=initiator
// text="..."". Values that hold more than letters, digits and a few signs are quoted, what a terminal would obey is
// escaped.
[[nodiscard]] std::string line_of(const Event& event);

class EventLog {
 public:
  // Messages that were ignored come at a stranger's will: at most so many lines a second.
  EventLog() : ignored_(10, std::chrono::milliseconds(100)) {}
  void take(const Event& event, Time now);
  // debug crypto ikev2: what is otherwise of level debug appears as well. Lasts for the life of the process.
  void set_debug(bool on) { debug_ = on; }
  [[nodiscard]] bool debug() const { return debug_; }
  [[nodiscard]] std::uint64_t suppressed() const { return suppressed_; }

 private:
  RateLimit ignored_;
  bool debug_ = false;
  std::uint64_t suppressed_ = 0;
};

}  // namespace postern::ike
