// Where a node lives, and what prepares the ground for it.
#pragma once

#include <string>

#include "base/fd.hpp"
#include "base/result.hpp"

namespace postern::loader {

struct NodePaths {
  std::string name;
  std::string config;   // the document's file
  std::string netns;    // as given; empty: the caller's
  std::string run_dir;  // /run/postern/NAME
  std::string pin_dir;  // /sys/fs/bpf/postern/NAME
  [[nodiscard]] std::string file(const char* name_in_run_dir) const { return run_dir + "/" + name_in_run_dir; }
};

// 1..32 characters of A-Z a-z 0-9 _ . -, not beginning with a dot or dash: it becomes part of paths and device names.
[[nodiscard]] Result<NodePaths> node_paths(const std::string& name, const std::string& config,
                                           const std::string& netns);

// Enters /run/netns/NAME, where /etc/netns/NAME/hosts, resolv.conf and gai.conf count, or the path that contains a
// slash. Call before any thread or socket is made.
[[nodiscard]] Result<void> enter_netns(const std::string& netns);

// Mounts a bpffs at /sys/fs/bpf where there is none.
[[nodiscard]] Result<void> ensure_bpffs();

// Makes run_dir (0755) and locks it against a second posternd of this name. EBUSY: there is one.
[[nodiscard]] Result<Fd> lock_run_dir(const NodePaths& paths);

// /proc/sys/kernel/random/boot_id; empty when it cannot be read.
[[nodiscard]] std::string boot_id();

}  // namespace postern::loader
