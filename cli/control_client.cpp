#include "cli/control_client.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>

#include <fmt/core.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "base/clock.hpp"
#include "base/secret.hpp"
#include "cli/text.hpp"

namespace postern::cli {
namespace {

using nlohmann::json;

std::unexpected<Failure> failure(Exit exit, std::string message, std::string hint = {}) {
  return std::unexpected(Failure{exit, std::move(message), std::move(hint)});
}

std::vector<std::string> nodes_in(const std::string& run_directory) {
  std::vector<std::string> out;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(run_directory, ignored))
    if (entry.is_directory(ignored)) out.push_back(entry.path().filename().string());
  std::ranges::sort(out);
  return out;
}

std::string names(const std::vector<std::string>& nodes) {
  std::string out;
  for (const std::string& node : nodes) out += (out.empty() ? "" : ", ") + printable(node);
  return out;
}

bool is_node_name(std::string_view name) {
  constexpr std::string_view allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
  return !name.empty() && name.size() <= 32 && name[0] != '.' && name[0] != '-' &&
         name.find_first_not_of(allowed) == std::string_view::npos;
}

int left_of(Time deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::max<std::int64_t>(left, 0));
}

bool wait_for(int fd, short events, Time deadline) {
  for (;;) {
    pollfd one{fd, events, 0};
    const int ready = ::poll(&one, 1, left_of(deadline));
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

void take_descriptor(const msghdr& message, Fd& descriptor) {
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(const_cast<msghdr*>(&message), c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      descriptor = Fd(fd);
    }
  }
}

Exit exit_of(const json& reply) {
  const auto code = reply.value("exit", 1);
  return code >= 1 && code <= 4 ? static_cast<Exit>(code) : Exit::failed;
}

Failure failure_of(const json& reply) {
  const json& error = reply.at("error");
  const auto found = error.find("message");
  const std::string message =
      found != error.end() && found->is_string() ? found->get<std::string>() : "the node refused";
  const std::string path = text(error, "path");
  // The message of a refused document lists every problem with its path already.
  Failure out{exit_of(reply), path.empty() || error.contains("problems") ? message : path + ": " + message, ""};
  return out;
}

}  // namespace

Outcome<std::string> choose_node(const std::string& given, const std::string& run_directory) {
  const char* const environment = std::getenv("POSTERN_NODE");
  const std::string name = !given.empty() ? given : environment != nullptr ? environment : "";
  if (!name.empty()) {
    if (!is_node_name(name)) return failure(Exit::usage, fmt::format("\"{}\" is not a node name", printable(name)));
    return name;
  }
  const auto nodes = nodes_in(run_directory);
  if (nodes.empty())
    return failure(Exit::not_running, "no node runs here", "start one: posternd --name NAME --config FILE");
  if (nodes.size() > 1)
    return failure(Exit::usage, "several nodes run here: " + names(nodes), "choose one with --node NAME");
  return nodes.front();
}

Outcome<ControlClient> ControlClient::connect(const std::string& node, const std::string& run_directory) {
  const std::string path = run_directory + "/" + node + "/control.sock";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return failure(Exit::usage, "the node's name is too long");
  path.copy(address.sun_path, path.size());
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return failure(Exit::failed, fail_errno("socket").error().message());
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
    return ControlClient(std::move(socket));
  if (errno == EACCES || errno == EPERM)
    return failure(Exit::not_permitted, "not permitted to speak to node " + node,
                   "run as root, or join group postern (postern-ro to only show)");
  if (errno != ENOENT && errno != ECONNREFUSED)
    return failure(Exit::failed, fail_errno("connect " + path).error().message());
  const auto others = nodes_in(run_directory);
  const bool known = std::ranges::find(others, node) != others.end();
  const std::string hint =
      fmt::format("start it: systemctl start posternd@{} (or posternd --name {} --config FILE)", node, node);
  return failure(Exit::not_running, fmt::format("node {} is not running", node),
                 known || others.empty() ? hint : hint + "; known here: " + names(others));
}

Outcome<void> ControlClient::send_line(std::string line, int timeout_ms) {
  const Time deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
  std::size_t sent = 0;
  Outcome<void> done;
  while (sent < line.size() && done) {
    const ssize_t count = ::send(socket_.get(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count > 0)
      sent += static_cast<std::size_t>(count);
    else if (errno == EAGAIN && !wait_for(socket_.get(), POLLOUT, deadline))
      done = failure(Exit::failed, "the node does not take the request");
    else if (errno == EPIPE || errno == ECONNRESET)
      break;  // refused before the whole of it was read: the answer says why
    else if (errno != EAGAIN && errno != EINTR)
      done = failure(Exit::failed, fail_errno("send to the node").error().message());
  }
  wipe(std::as_writable_bytes(std::span(line)));  // config apply: it may hold keys
  return done;
}

Outcome<std::string> ControlClient::receive_line(int timeout_ms, Fd& descriptor) {
  const Time deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
  std::string line;
  for (;;) {
    char buffer[65536];
    alignas(cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))];
    iovec part{buffer, sizeof buffer};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    if (!wait_for(socket_.get(), POLLIN, deadline))
      return failure(Exit::failed, "the node does not answer", "look at its log: journalctl -u posternd@NODE");
    const ssize_t count = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failure(Exit::failed, fail_errno("receive from the node").error().message());
    take_descriptor(message, descriptor);
    if (count == 0)
      return failure(Exit::failed, "the node closed the connection without an answer",
                     "look at its log: journalctl -u posternd@NODE");
    line.append(buffer, static_cast<std::size_t>(count));
    const auto end = line.find('\n');
    if (end != std::string::npos) return line.substr(0, end);
    if (line.size() > max_reply_bytes) return failure(Exit::failed, "the node's answer is too long");
  }
}

Outcome<Reply> ControlClient::ask(const std::string& command, json args, int timeout_ms) {
  Reply reply;
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket_.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0) reply.daemon = peer.pid;
  const json request = {{"command", command}, {"args", std::move(args)}};
  POSTERN_CHECK(send_line(request.dump(-1, ' ', false, json::error_handler_t::replace) + "\n", timeout_ms));
  POSTERN_TRY(line, receive_line(timeout_ms, reply.descriptor));
  const json answer = json::parse(line, nullptr, false);
  if (!answer.is_object() || !answer.contains("ok") || (!flag(answer, "ok") && !answer.contains("error")))
    return failure(Exit::failed, "the node's answer is not understood", "postern and posternd must be of one version");
  if (!flag(answer, "ok")) return std::unexpected(failure_of(answer));
  reply.data = answer.value("data", json());
  return reply;
}

bool wait_for_exit(pid_t pid, int timeout_ms) {
  const Fd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process) return errno == ESRCH;
  return wait_for(process.get(), POLLIN, Clock::now() + std::chrono::milliseconds(timeout_ms));
}

}  // namespace postern::cli
