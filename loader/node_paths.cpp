#include "loader/node_paths.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <vector>

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>

namespace postern::loader {
namespace {

constexpr const char* bpffs = "/sys/fs/bpf";
constexpr std::size_t max_name = 31;  // Hello carries 32 bytes with the NUL

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}

}  // namespace

Result<NodePaths> node_paths(const std::string& name, const std::string& config, const std::string& netns) {
  if (name.empty() || name.size() > max_name || name.front() == '.' || name.front() == '-' ||
      !std::ranges::all_of(name, is_name_character))
    return fail("node name \"" + name + "\": 1 to 31 of A-Z a-z 0-9 _ . -, not beginning with a dot or a dash", EINVAL);
  return NodePaths{name, config, netns, "/run/postern/" + name, std::string(bpffs) + "/postern/" + name};
}

namespace {

// As ip-netns(8) does it: what stands in /etc/netns/NAME is there for the processes in that namespace alone, so that
// names are resolved as its owner says.
constexpr std::array files_of_netns = {"hosts", "resolv.conf", "gai.conf"};

Result<void> use_files_of_netns(const std::string& name) {
  const std::string own = "/etc/netns/" + name + "/";
  std::vector<std::string> there;
  for (const char* const file : files_of_netns)
    if (::access((own + file).c_str(), F_OK) == 0) there.emplace_back(file);
  if (there.empty()) return {};
  if (::unshare(CLONE_NEWNS) != 0) return fail_errno("a mount namespace for the files of " + own);
  // What is mounted elsewhere later is seen here; nothing of ours is seen there.
  if (::mount("", "/", "none", MS_SLAVE | MS_REC, nullptr) != 0) return fail_errno("make mounts private");
  for (const std::string& file : there)
    if (::mount((own + file).c_str(), ("/etc/" + file).c_str(), "none", MS_BIND, nullptr) != 0)
      return fail_errno("use " + own + file);
  return {};
}

}  // namespace

Result<void> enter_netns(const std::string& netns) {
  if (netns.empty()) return {};
  const std::string path = netns.contains('/') ? netns : "/run/netns/" + netns;
  const Fd space(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!space) return fail_errno("open network namespace " + path);
  if (::setns(space.get(), CLONE_NEWNET) != 0) return fail_errno("enter network namespace " + path);
  return netns.contains('/') ? Result<void>() : use_files_of_netns(netns);
}

Result<void> ensure_bpffs() {
  struct statfs status{};
  if (::statfs(bpffs, &status) == 0 && static_cast<unsigned long>(status.f_type) == BPF_FS_MAGIC) return {};
  if (::mount("bpf", bpffs, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") != 0)
    return fail_errno(std::string("mount a bpffs at ") + bpffs);
  return {};
}

Result<Fd> lock_run_dir(const NodePaths& paths) {
  std::error_code error;
  std::filesystem::create_directories(paths.run_dir, error);
  if (error) return fail("create " + paths.run_dir, error.value());
  for (const auto& directory : {std::string("/run/postern"), paths.run_dir})
    if (::chmod(directory.c_str(), 0755) != 0) return fail_errno("chmod " + directory);
  const auto path = paths.file("lock");
  Fd lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock) return fail_errno("open " + path);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0)
    return fail("node " + paths.name + ": a posternd of this name is running", EBUSY);
  return lock;
}

std::string boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

}  // namespace postern::loader
