// IF-20: interfaces of the document that were there a moment ago. Until a grace time is over such a one counts as it
// was, so that its SAs are still there when a device of its name is; what carries no packet has no other use for it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "base/clock.hpp"
#include "config/model.hpp"
#include "loader/plan.hpp"

namespace postern::loader {

class Lingering {
 public:
  // Notes what is there of the interfaces that something is protected by, and adds to `facts` what is missing and was
  // there less than the document's grace ago: devices as LinkFacts.gone, or, where the device goes on under another
  // name, as that device; and addresses that a device which is there has lost (Linux takes IPv6's of one that goes
  // down). Logs what begins to linger and what comes back. One loop's thread.
  void complete(Facts& facts, const config::Document& document, Time now);
  // A plan of the document is in force: forgets what it does not name, and, with a word in the log, what is over.
  void settle(const config::Document& document, Time now);
  // When the next grace is over.
  [[nodiscard]] std::optional<Time> next_end() const;

 private:
  struct Known {
    LinkFacts link;  // as it was last
    std::optional<Time> gone_at, without_v4, without_v6;
    std::optional<Time> ends, v4_ends, v6_ends;
  };
  void seen(const std::string& name, LinkFacts& link, Known& known, Duration grace, Time now);
  void linger(const std::string& name, Facts& facts, Known& known, Duration grace, Time now);

  std::map<std::string, Known> known_;
};

}  // namespace postern::loader
