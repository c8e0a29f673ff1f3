#include "loader/state_file.hpp"

#include <algorithm>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

namespace postern::loader {

using nlohmann::json;

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(InstalledInterface, ifindex, generation, flags, xsk_base, queues, policy_text,
                                   part_of)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(InstalledSaPair, inbound_slot, outbound_slot, flows)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ProcessId, pid, start_ticks)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(PlannedDevice, kind, name, ifindex, queue, thread, flow, vrf, mtu,
                                                arrives_at, mac, port, vrf_device, not_from)

namespace {

constexpr int state_version = 2;
constexpr std::size_t max_state_bytes = 16U << 20;

Result<std::string> read_bounded(int fd, const std::string& path) {
  std::string text;
  char chunk[65536];
  for (;;) {
    const ssize_t got = ::read(fd, chunk, sizeof chunk);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno("read " + path);
    if (got == 0) return text;
    text.append(chunk, static_cast<std::size_t>(got));
    if (text.size() > max_state_bytes) return fail(path + " is too large", EFBIG);
  }
}

Result<void> write_all(int fd, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t put = ::write(fd, text.data(), text.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return fail_errno("write " + path);
    text.remove_prefix(static_cast<std::size_t>(put));
  }
  return {};
}

}  // namespace

std::string State::to_json() const {
  const json document = {{"version", state_version},
                         {"node", node},
                         {"netns", netns},
                         {"boot_id", boot_id},
                         {"generation", generation},
                         {"flows", flows},
                         {"next_flow", next_flow},
                         {"worker", worker},
                         {"ike", ike},
                         {"pki", pki},
                         {"lent", lent},
                         {"resolver", resolver},
                         {"worker_threads", worker_threads},
                         {"worker_devices", worker_devices},
                         {"interfaces", interfaces},
                         {"sas", sas},
                         {"made", made},
                         {"acl_hits", acl_hits}};
  return document.dump(1) + "\n";
}

// The one place that meets the library's exceptions: a hand-edited or half-written file must not end posternd.
Result<State> State::from_json(std::string_view text) try {
  const auto document = json::parse(text);
  if (document.at("version") != state_version) return fail("state file: another version");
  State state;
  document.at("node").get_to(state.node);
  document.at("netns").get_to(state.netns);
  document.at("boot_id").get_to(state.boot_id);
  document.at("generation").get_to(state.generation);
  document.at("flows").get_to(state.flows);
  document.at("next_flow").get_to(state.next_flow);
  document.at("worker").get_to(state.worker);
  document.at("ike").get_to(state.ike);
  // Written by versions that have them.
  if (document.contains("pki")) document["pki"].get_to(state.pki);
  if (document.contains("resolver")) document["resolver"].get_to(state.resolver);
  if (document.contains("lent")) document["lent"].get_to(state.lent);
  document.at("worker_threads").get_to(state.worker_threads);
  document.at("worker_devices").get_to(state.worker_devices);
  document.at("interfaces").get_to(state.interfaces);
  document.at("sas").get_to(state.sas);
  document.at("made").get_to(state.made);
  document.at("acl_hits").get_to(state.acl_hits);
  return state;
} catch (const json::exception& error) {
  return fail(std::string("state file: ") + error.what());
}

Result<std::optional<State>> read_state(const std::string& path) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file && errno == ENOENT) return std::nullopt;
  if (!file) return fail_errno("open " + path);
  POSTERN_TRY(text, read_bounded(file.get(), path));
  POSTERN_TRY(state, State::from_json(text));
  return state;
}

Result<void> write_state(const std::string& path, const State& state) {
  return write_file(path, state.to_json(), 0600);
}

Result<void> write_file(const std::string& path, std::string_view text, unsigned mode) {
  const std::string next = path + ".new";
  const Fd file(::open(next.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  if (!file) return fail_errno("create " + next);
  if (::fchmod(file.get(), mode) != 0) return fail_errno("chmod " + next);
  POSTERN_CHECK(write_all(file.get(), text, next));
  if (::rename(next.c_str(), path.c_str()) != 0) return fail_errno("rename " + next);
  return {};
}

}  // namespace postern::loader
