#include "loader/children.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include <poll.h>
#include <sys/socket.h>

#include "loader/control_server.hpp"

namespace postern::loader {
namespace {

constexpr std::chrono::milliseconds patience{3000};

// A child on the listening socket `path`, which is its descriptor 3.
Result<Child> start_listening(const std::string& program, const std::string& node, const std::string& path) {
  POSTERN_TRY(listener, listen_at(path, SOCK_SEQPACKET, 0600));
  const int fds[] = {listener.get()};
  return spawn({program_directory() + "/" + program, {"--node", node, "--listen-fd", "3"}, fds});
}

Result<nlohmann::json> exchange(int socket, const nlohmann::json& question, int descriptor) {
  const auto text = question.dump();
  iovec part{const_cast<char*>(text.data()), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  if (descriptor >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &descriptor, sizeof descriptor);
  }
  if (::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return fail_errno("postern-ike: ask");
  pollfd ready{socket, POLLIN, 0};
  if (::poll(&ready, 1, 1000) != 1) return fail("postern-ike does not answer", ETIMEDOUT);
  std::string answer(65536, '\0');
  const ssize_t got = ::recv(socket, answer.data(), answer.size(), MSG_DONTWAIT);
  if (got <= 0) return fail("postern-ike closed its socket", ECONNRESET);
  answer.resize(static_cast<std::size_t>(got));
  auto parsed = nlohmann::json::parse(answer, nullptr, false);
  if (!parsed.is_object()) return fail("postern-ike answered something that is no JSON object", EPROTO);
  return parsed;
}

Result<IkeChild> introduce(Child process, const std::string& path) {
  POSTERN_TRY(socket, connect_to(path, SOCK_SEQPACKET));
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return fail_errno("broker socket");
  Fd ours(ends[0]);
  const Fd theirs(ends[1]);
  POSTERN_TRY(answer, exchange(socket.get(), {{"command", "adopt"}}, theirs.get()));
  if (answer.value("ok", false) != true) return fail("postern-ike refused its broker socket");
  return IkeChild{std::move(process), std::move(socket), std::move(ours)};
}

}  // namespace

Duration RestartPace::after_crash(Time started, Time now) {
  if (now - started > std::chrono::minutes(1)) in_a_row_ = 0;
  const std::uint32_t before = in_a_row_++;
  if (before == 0) return Duration::zero();
  return std::min<Duration>(std::chrono::milliseconds(100) * (1U << std::min(before, 8U)), std::chrono::seconds(10));
}

Result<WorkerChild> start_worker(const std::string& node, const std::string& socket_path) {
  POSTERN_TRY(process, start_listening("postern-worker", node, socket_path));
  auto link = WorkerLink::connect(socket_path);
  if (!link) {
    end_process(process, patience);
    return std::unexpected(link.error());
  }
  return WorkerChild{std::move(process), std::move(*link)};
}

std::optional<WorkerChild> adopt_worker(const ProcessId& id, const std::string& socket_path) {
  auto process = find_process(id);
  if (!process) return std::nullopt;
  auto link = WorkerLink::connect(socket_path);
  if (!link) {
    end_process(*process, patience);
    return std::nullopt;
  }
  return WorkerChild{std::move(*process), std::move(*link)};
}

Result<nlohmann::json> IkeChild::ask(const nlohmann::json& question) const {
  return exchange(socket.get(), question, -1);
}

Result<IkeChild> start_ike(const std::string& node, const std::string& socket_path) {
  POSTERN_TRY(process, start_listening("postern-ike", node, socket_path));
  Child watched{process.id, Fd(::dup(process.pidfd.get()))};
  auto introduced = introduce(std::move(process), socket_path);
  if (!introduced) end_process(watched, patience);
  return introduced;
}

std::optional<IkeChild> adopt_ike(const ProcessId& id, const std::string& socket_path) {
  auto process = find_process(id);
  if (!process) return std::nullopt;
  Child watched{process->id, Fd(::dup(process->pidfd.get()))};
  auto introduced = introduce(std::move(*process), socket_path);
  if (introduced) return std::move(*introduced);
  end_process(watched, patience);
  return std::nullopt;
}

}  // namespace postern::loader
