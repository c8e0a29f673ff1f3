// A control socket in a directory of its own, answered once by a thread.
#pragma once

#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.hpp"

namespace postern::cli {

struct RunDirectory {
  std::filesystem::path path;
  RunDirectory() {
    char name[] = "/tmp/postern-cli-XXXXXX";
    path = ::mkdtemp(name);
  }
  ~RunDirectory() { std::filesystem::remove_all(path); }
};

// Serves one connection: reads a line, calls `answer(line, connection)`.
class FakeNode {
 public:
  using Answer = std::function<void(const std::string& line, int connection)>;

  FakeNode(const RunDirectory& run, const std::string& node, Answer answer) {
    std::filesystem::create_directory(run.path / node);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = run.path / node / "control.sock";
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    listener_ = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(listener_.get(), 4) == 0);
    thread_ = std::thread([this, answer = std::move(answer)] { serve(answer); });
  }
  ~FakeNode() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }
  FakeNode(const FakeNode&) = delete;
  FakeNode& operator=(const FakeNode&) = delete;

  static Answer text(std::string line) {
    return [line = std::move(line)](const std::string&, int connection) { send_all(connection, line); };
  }
  static void send_all(int connection, const std::string& line) {
    (void)::send(connection, line.data(), line.size(), MSG_NOSIGNAL);
  }
  // One line and a descriptor with it.
  static void send_with(int connection, std::string line, int fd) {
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
    iovec part{line.data(), line.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
    (void)::sendmsg(connection, &message, MSG_NOSIGNAL);
  }

 private:
  void serve(const Answer& answer) {
    const Fd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!connection) return;
    std::string line;
    char c = 0;
    while (::read(connection.get(), &c, 1) == 1 && c != '\n') line += c;
    answer(line, connection.get());
  }

  Fd listener_;
  std::thread thread_;
};

}  // namespace postern::cli
