// Removes everything a node has made, by its record and by the marks on its devices and pins. Works with and without a
// posternd that has just stopped; never while one runs.
#pragma once

#include "base/result.hpp"
#include "loader/node_paths.hpp"

namespace postern::loader {

// In the node's network namespace (when it is gone, its devices are too). Goes on after a failure; the first error is
// returned.
[[nodiscard]] Result<void> teardown(const NodePaths& paths);

// posternd --teardown: enters the namespace that state.json names unless `paths.netns` does, and locks the run
// directory.
[[nodiscard]] Result<void> teardown_without_daemon(NodePaths paths);

}  // namespace postern::loader
