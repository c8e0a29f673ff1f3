#include "loader/children.hpp"

#include <algorithm>
#include <span>

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/send_descriptors.hpp"
#include "loader/control_server.hpp"

namespace postern::loader {
namespace {

constexpr std::chrono::milliseconds child_patience{3000};
constexpr off_t max_answer_bytes = 64 << 20;

// A child on the listening socket `path`, which is its descriptor 3.
Result<Child> start_listening(const std::string& program, const std::string& node, const std::string& path) {
  POSTERN_TRY(listener, listen_at(path, SOCK_SEQPACKET, 0600));
  const int fds[] = {listener.get()};
  return spawn({program_directory() + "/" + program, {"--node", node, "--listen-fd", "3"}, fds});
}

Result<void> send_question(int socket, const nlohmann::json& question, std::span<const int> descriptors,
                           const std::string& called) {
  const auto text = question.dump();
  if (send_descriptors(socket, std::as_bytes(std::span(text)), descriptors) < 0) return fail_errno(called + ": ask");
  return {};
}

// A long answer comes as {"bytes": N} with a memory file that holds it.
Result<std::string> content_of(const Fd& file) {
  struct stat status{};
  if (::fstat(file.get(), &status) != 0 || status.st_size <= 0 || status.st_size > max_answer_bytes)
    return fail("postern-ike sent an answer of no use", EPROTO);
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  if (::pread(file.get(), text.data(), text.size(), 0) != status.st_size) return fail_errno("postern-ike: answer");
  return text;
}

Result<nlohmann::json> receive_answer(int socket, const std::string& called) {
  std::string text(65536, '\0');
  iovec part{text.data(), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got <= 0) return fail(called + " closed its socket", ECONNRESET);
  text.resize(static_cast<std::size_t>(got));
  if (const cmsghdr* const rights = CMSG_FIRSTHDR(&message);
      rights != nullptr && rights->cmsg_type == SCM_RIGHTS && rights->cmsg_len == CMSG_LEN(sizeof(int))) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(rights), sizeof fd);
    POSTERN_TRY(content, content_of(Fd(fd)));
    text = std::move(content);
  }
  auto parsed = nlohmann::json::parse(text, nullptr, false);
  if (!parsed.is_object()) return fail(called + " answered something that is no JSON object", EPROTO);
  return parsed;
}

Result<IkeChild> introduce(Child process, const std::string& path, const MakeBroker& make_broker) {
  POSTERN_TRY(socket, connect_to(path, SOCK_SEQPACKET));
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return fail_errno("broker socket");
  Fd ours(ends[0]);
  const int theirs[] = {ends[1]};
  const Fd theirs_owner(ends[1]);
  IkeChild child{std::move(process), std::move(socket), make_broker(std::move(ours)), {}, {}, 1, "postern-ike"};
  POSTERN_TRY(answer, child.ask({{"command", "adopt"}}, theirs, slow_answer));
  if (answer.value("ok", false) != true) return fail("postern-ike refused its broker socket");
  return child;
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
    end_process(process, child_patience);
    return std::unexpected(link.error());
  }
  return WorkerChild{std::move(process), std::move(*link)};
}

std::optional<WorkerChild> adopt_worker(const ProcessId& id, const std::string& socket_path) {
  auto process = find_process(id);
  if (!process) return std::nullopt;
  auto link = WorkerLink::connect(socket_path);
  if (!link) {
    end_process(*process, child_patience);
    return std::nullopt;
  }
  return WorkerChild{std::move(*process), std::move(*link)};
}

// While postern-ike works on the answer it may need a descriptor, or the worker's answer: both are served meanwhile.
Result<nlohmann::json> IkeChild::ask(const nlohmann::json& question, std::span<const int> descriptors,
                                     std::chrono::milliseconds wait) {
  nlohmann::json numbered = question;
  const std::uint64_t id = next_question++;
  numbered["id"] = id;
  POSTERN_CHECK(send_question(socket.get(), numbered, descriptors, called));
  const Time deadline = Clock::now() + wait;
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd ready[] = {
        {socket.get(), POLLIN, 0}, {broker ? broker->fd() : -1, POLLIN, 0}, {also ? also() : -1, POLLIN, 0}};
    const int count = left.count() > 0 ? ::poll(ready, 3, static_cast<int>(left.count())) : 0;
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return fail(std::string(called) + " does not answer", ETIMEDOUT);
    if (ready[0].revents != 0) {
      POSTERN_TRY(answer, receive_answer(socket.get(), called));
      if (answer.value("id", std::uint64_t{0}) != id) continue;  // to a question that we gave up
      answer.erase("id");
      return answer;
    }
    if (ready[1].revents != 0) POSTERN_CHECK(broker->serve());
    if (ready[2].revents != 0) serve_also();
  }
}

Result<IkeChild> start_ike(const std::string& node, const std::string& socket_path, const MakeBroker& make_broker) {
  POSTERN_TRY(process, start_listening("postern-ike", node, socket_path));
  Child watched{process.id, Fd(::dup(process.pidfd.get()))};
  auto introduced = introduce(std::move(process), socket_path, make_broker);
  if (!introduced) end_process(watched, child_patience);
  return introduced;
}

std::optional<IkeChild> adopt_ike(const ProcessId& id, const std::string& socket_path, const MakeBroker& make_broker) {
  auto process = find_process(id);
  if (!process) return std::nullopt;
  Child watched{process->id, Fd(::dup(process->pidfd.get()))};
  auto introduced = introduce(std::move(*process), socket_path, make_broker);
  if (introduced) return std::move(*introduced);
  end_process(watched, child_patience);
  return std::nullopt;
}

namespace {

Result<IkeChild> introduce_side(const char* program, Child process, const std::string& path) {
  POSTERN_TRY(socket, connect_to(path, SOCK_SEQPACKET));
  IkeChild child{std::move(process), std::move(socket), nullptr, {}, {}, 1, program};
  POSTERN_CHECK(child.ask({{"command", "hello"}}, {}, slow_answer));
  return child;
}

}  // namespace

Result<IkeChild> start_side(const char* program, const std::string& node, const std::string& socket_path) {
  POSTERN_TRY(process, start_listening(program, node, socket_path));
  Child watched{process.id, Fd(::dup(process.pidfd.get()))};
  auto introduced = introduce_side(program, std::move(process), socket_path);
  if (!introduced) end_process(watched, child_patience);
  return introduced;
}

std::optional<IkeChild> adopt_side(const char* program, const ProcessId& id, const std::string& socket_path) {
  auto process = find_process(id);
  if (!process) return std::nullopt;
  Child watched{process->id, Fd(::dup(process->pidfd.get()))};
  auto introduced = introduce_side(program, std::move(*process), socket_path);
  if (introduced) return std::move(*introduced);
  end_process(watched, child_patience);
  return std::nullopt;
}

}  // namespace postern::loader
