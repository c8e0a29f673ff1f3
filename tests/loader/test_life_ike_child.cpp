// Questions to postern-ike: descriptors go with them, long answers come by a memory file, and its broker is served
// while it works on the answer.
#include <cstring>
#include <thread>

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/log.hpp"
#include "loader/children.hpp"

using namespace postern;
using namespace postern::loader;
using nlohmann::json;

namespace {

struct Pair {
  Fd ours, theirs;
  Pair() {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    ours = Fd(ends[0]);
    theirs = Fd(ends[1]);
  }
};

Fd memory_file(const std::string& text) {
  Fd file(::memfd_create("test", MFD_CLOEXEC));
  REQUIRE(::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  return file;
}

struct Got {
  std::string text;
  std::vector<Fd> fds;
};
Got receive(const Fd& socket) {
  Got out;
  out.text.resize(4096);
  iovec part{out.text.data(), out.text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * 4)> control{};
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(socket.get(), &message, MSG_CMSG_CLOEXEC);
  out.text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
  if (const cmsghdr* const rights = CMSG_FIRSTHDR(&message)) {
    std::array<int, 4> fds{};
    const std::size_t bytes = rights->cmsg_len - CMSG_LEN(0);
    std::memcpy(fds.data(), CMSG_DATA(rights), bytes);
    for (std::size_t i = 0; i < bytes / sizeof(int); ++i) out.fds.emplace_back(fds[i]);
  }
  return out;
}

void send(const Fd& socket, const std::string& text, int fd = -1) {
  iovec part{const_cast<char*>(text.data()), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  if (fd >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  (void)::sendmsg(socket.get(), &message, MSG_NOSIGNAL);
}

// An answer names its question.
std::string answer_to(const Got& question, json body) {
  body["id"] = json::parse(question.text)["id"];
  return body.dump();
}

}  // namespace

TEST_CASE("a question takes its descriptors along, and the answer comes as text or as a memory file") {
  Pair sockets;
  IkeChild child;
  child.socket = std::move(sockets.ours);
  const Fd one = memory_file("first"), two = memory_file("second");
  std::string contents;
  std::thread peer([&] {
    const Got got = receive(sockets.theirs);
    for (const Fd& fd : got.fds) {
      std::string text(16, '\0');
      const ssize_t size = ::pread(fd.get(), text.data(), text.size(), 0);
      contents += text.substr(0, size < 0 ? 0 : static_cast<std::size_t>(size)) + " ";
    }
    send(sockets.theirs, R"({"ok": false, "id": 1000})");  // to a question that was given up
    send(sockets.theirs, answer_to(got, {{"ok", true}}));
    const Fd file = memory_file(answer_to(receive(sockets.theirs), {{"data", std::string(200000, 'x')}}));
    send(sockets.theirs, R"({"bytes": 1})", file.get());
    (void)receive(sockets.theirs);
    send(sockets.theirs, "no JSON");
  });
  const int fds[] = {one.get(), two.get()};
  const auto first = child.ask({{"command", "policy"}}, fds, slow_answer);
  const auto second = child.ask({{"command", "show"}}, {}, slow_answer);
  const auto third = child.ask({{"command", "show"}}, {}, slow_answer);
  peer.join();
  REQUIRE(first);
  CHECK(first->value("ok", false));
  CHECK(contents == "first second ");
  REQUIRE(second);
  CHECK((*second)["data"].get<std::string>().size() == 200000);
  CHECK(third.error().code == EPROTO);
}

TEST_CASE("the broker is served while postern-ike works on the answer") {
  spdlog::set_level(spdlog::level::off);
  Pair sockets, brokers;
  BrokerOpeners openers;
  openers.worker_channel = [] { return Result<Fd>(memory_file("channel")); };
  IkeChild child;
  child.socket = std::move(sockets.ours);
  child.broker = std::make_unique<Broker>(std::move(brokers.ours), BrokerGrant{"child", {}, {}, false, false, {}, true},
                                          std::move(openers));
  bool given = false;
  std::thread peer([&] {
    const Got question = receive(sockets.theirs);
    BrokerRequest request;
    request.kind = BrokerKind::worker_channel;
    (void)::send(brokers.theirs.get(), &request, sizeof request, 0);
    given = receive(brokers.theirs).fds.size() == 1;
    send(sockets.theirs, answer_to(question, {{"ok", true}}));
  });
  const auto answer = child.ask({{"command", "policy"}}, {}, slow_answer);
  peer.join();
  CHECK(answer);
  CHECK(given);
}

TEST_CASE("nobody answers: an error, and a closed socket at once") {
  Pair sockets;
  IkeChild child;
  child.socket = std::move(sockets.ours);
  CHECK(child.ask({{"command", "show"}}, {}, std::chrono::milliseconds(1)).error().code == ETIMEDOUT);
  sockets.theirs.reset();
  CHECK(!child.ask({{"command", "show"}}, {}, slow_answer));
}
