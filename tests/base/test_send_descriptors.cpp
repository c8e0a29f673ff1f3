// base/send_descriptors: what is sent arrives with its descriptors, and what cannot be sent is refused.
#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/fd.hpp"
#include "base/send_descriptors.hpp"

using namespace postern;

namespace {

struct Ends {
  Fd left, right;
  Ends() {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    left = Fd(ends[0]);
    right = Fd(ends[1]);
  }
};

struct Received {
  std::string text;
  std::vector<Fd> descriptors;
};

Received receive(int socket) {
  std::array<char, 64> bytes{};
  iovec part{bytes.data(), bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(max_sent_descriptors * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  REQUIRE(got >= 0);
  Received out{std::string(bytes.data(), static_cast<std::size_t>(got)), {}};
  for (cmsghdr* one = CMSG_FIRSTHDR(&message); one != nullptr; one = CMSG_NXTHDR(&message, one))
    for (std::size_t at = 0; CMSG_LEN(at) < one->cmsg_len; at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(one) + at, sizeof fd);
      out.descriptors.emplace_back(fd);
    }
  return out;
}

std::uint64_t inode(int fd) {
  struct stat status{};
  REQUIRE(::fstat(fd, &status) == 0);
  return status.st_ino;
}

}  // namespace

TEST_CASE("bytes arrive with none, one and the most descriptors, in order") {
  const std::string_view text = "question";
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, max_sent_descriptors}) {
    const Ends ends;
    std::vector<Ends> sent(count);
    std::vector<int> descriptors;
    for (const Ends& one : sent) descriptors.push_back(one.left.get());
    CHECK(send_descriptors(ends.left.get(), std::as_bytes(std::span(text)), descriptors) == 8);
    const Received got = receive(ends.right.get());
    CHECK(got.text == text);
    REQUIRE(got.descriptors.size() == count);
    for (std::size_t i = 0; i < count; ++i) CHECK(inode(got.descriptors[i].get()) == inode(descriptors[i]));
  }
}

TEST_CASE("refused: too many descriptors, one that is not open, and a peer that is gone") {
  Ends ends;
  const std::array<std::byte, 1> byte{};
  const std::vector<int> many(max_sent_descriptors + 1, ends.left.get());
  CHECK(send_descriptors(ends.left.get(), byte, many) == -1);
  CHECK(errno == EINVAL);
  const int closed = -1;
  CHECK(send_descriptors(ends.left.get(), byte, {&closed, 1}) == -1);
  CHECK(errno == EBADF);
  ends.right.reset();
  CHECK(send_descriptors(ends.left.get(), byte, {}) == -1);  // and no SIGPIPE
  CHECK(errno == EPIPE);
}
