// What is under a URL, by libcurl. The URL is a peer's, who has proved nothing yet: no other scheme than HTTP, no
// redirect, no proxy, nothing of the environment; one answer within its bounds, in time or not at all.
#pragma once

#include <chrono>

#include "base/result.hpp"
#include "resolver/channel.hpp"

namespace postern::resolver {

struct FetchPatience {
  std::chrono::milliseconds connect = std::chrono::seconds(3), whole = std::chrono::seconds(6);
};

// Blocks. Thread-safe.
[[nodiscard]] UrlAnswer fetch(const UrlQuestion& question, const FetchPatience& patience = {});
// Once, before the process is caged and has threads.
[[nodiscard]] Result<void> prepare_fetches();

}  // namespace postern::resolver
