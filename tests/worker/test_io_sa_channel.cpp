// The SA channel over a socket pair: what a good message carries, and what a bad one is refused for.
#include <thread>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "worker/sa_channel.hpp"

using namespace postern;

namespace {

struct Pair {
  Fd ours, theirs;
};

Pair make_pair() {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
  return {Fd(ends[0]), Fd(ends[1])};
}

ino_t inode(int fd) {
  struct stat status{};
  REQUIRE(::fstat(fd, &status) == 0);
  return status.st_ino;
}

}  // namespace

TEST_CASE("sa channel: a message arrives with type, id, body and descriptors") {
  const Pair pair = make_pair();
  const Fd one(::open("/dev/null", O_RDONLY | O_CLOEXEC)), two(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
  const int fds[] = {one.get(), two.get()};
  REQUIRE(channel_send(pair.ours.get(), ChannelType::bind_flow, 77, BindFlow{.flow = 5, .slot = 6, .unbind = 0}, fds));
  const auto message = channel_receive(pair.theirs.get());
  REQUIRE(message);
  CHECK(message->header.type == ChannelType::bind_flow);
  CHECK(message->header.id == 77);
  REQUIRE(message->fds.size() == 2);
  CHECK(inode(message->fds[0].get()) == inode(one.get()));
  CHECK(inode(message->fds[1].get()) == inode(two.get()));
  CHECK((::fcntl(message->fds[0].get(), F_GETFD) & FD_CLOEXEC) != 0);
  BindFlow body;
  REQUIRE(message->read_into(body));
  CHECK(body.flow == 5);
  CHECK(body.slot == 6);
  RemoveSa other{99};
  CHECK_FALSE(message->read_into(other));  // wrong size
  CHECK(other.slot == 99);
}

TEST_CASE("sa channel: the largest body passes, one byte more is refused by the sender") {
  const Pair pair = make_pair();
  std::vector<std::byte> body(max_channel_message - sizeof(ChannelHeader), std::byte{7});
  REQUIRE(channel_send(pair.ours.get(), ChannelType::hello, 1, std::span<const std::byte>(body)));
  const auto message = channel_receive(pair.theirs.get());
  REQUIRE(message);
  CHECK(message->body == body);
  body.push_back(std::byte{7});
  const auto sent = channel_send(pair.ours.get(), ChannelType::hello, 1, std::span<const std::byte>(body));
  REQUIRE_FALSE(sent);
  CHECK(sent.error().code == EMSGSIZE);
}

TEST_CASE("sa channel: what is refused on receipt") {
  const Pair pair = make_pair();
  ChannelHeader header{.version = sa_channel_version + 1, .type = ChannelType::hello, .id = 1};
  SUBCASE("another version") { REQUIRE(::send(pair.ours.get(), &header, sizeof header, 0) == sizeof header); }
  SUBCASE("shorter than a header") { REQUIRE(::send(pair.ours.get(), &header, sizeof header - 1, 0) > 0); }
  SUBCASE("longer than the limit") {
    const std::vector<std::byte> large(max_channel_message + 1);
    REQUIRE(::send(pair.ours.get(), large.data(), large.size(), 0) > 0);
  }
  const auto message = channel_receive(pair.theirs.get());
  REQUIRE_FALSE(message);
  CHECK(message.error().code == EPROTO);
}

TEST_CASE("sa channel: a closed peer and an empty socket are different errors") {
  Pair pair = make_pair();
  REQUIRE(::fcntl(pair.theirs.get(), F_SETFL, O_NONBLOCK) == 0);
  const auto nothing = channel_receive(pair.theirs.get());
  REQUIRE_FALSE(nothing);
  CHECK(nothing.error().code == EAGAIN);
  pair.ours.reset();
  const auto closed = channel_receive(pair.theirs.get());
  REQUIRE_FALSE(closed);
  CHECK(closed.error().code == ECONNRESET);
}

TEST_CASE("sa channel: ask gets its own reply, keeps events, skips a late reply") {
  Pair pair = make_pair();
  const Fd passed(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  SaChannel channel(std::move(pair.ours));
  std::jthread worker([&] {
    const auto question = channel_receive(pair.theirs.get());
    if (!question || question->header.type != ChannelType::install_sa) return;
    const int fds[] = {passed.get()};
    (void)channel_send(pair.theirs.get(), ChannelType::reply, question->header.id + 1000, Reply{.code = 5});
    (void)channel_send(pair.theirs.get(), ChannelType::resolve, 0, Resolve{.vrf = 3, .address = {}, .forward = 1});
    (void)channel_send(pair.theirs.get(), ChannelType::reply, question->header.id, Reply{.value = 42}, fds);
  });
  std::vector<Fd> received;
  const InstallSa install{};
  const auto reply =
      channel.ask_bytes(ChannelType::install_sa, std::as_bytes(std::span(&install, 1)), {}, 5000, &received);
  worker.join();
  REQUIRE(reply);
  CHECK(reply->value == 42);
  REQUIRE(received.size() == 1);
  CHECK(inode(received[0].get()) == inode(passed.get()));
  const auto events = channel.take_events();
  REQUIRE(events);
  REQUIRE(events->size() == 1);
  Resolve wanted;
  REQUIRE(events->front().read_into(wanted));
  CHECK(wanted.vrf == 3);
  CHECK(channel.take_events()->empty());
}

TEST_CASE("sa channel: ask reports a refusal, silence and a closed peer") {
  Pair pair = make_pair();
  SaChannel channel(std::move(pair.ours));
  SUBCASE("refused: code and text") {
    Reply no{.code = EEXIST};
    std::memcpy(no.text.data(), "SPI exists", 10);
    REQUIRE(channel_send(pair.theirs.get(), ChannelType::reply, 1, no));  // the first question has id 1
    const auto reply = channel.ask(ChannelType::remove_sa, RemoveSa{.slot = 1});
    REQUIRE_FALSE(reply);
    CHECK(reply.error().code == EEXIST);
    CHECK(reply.error().what == "SPI exists");
  }
  SUBCASE("no answer") {
    const auto reply = channel.ask(ChannelType::remove_sa, RemoveSa{.slot = 1}, {}, 20);
    REQUIRE_FALSE(reply);
    CHECK(reply.error().code == ETIMEDOUT);
  }
  SUBCASE("no answer, and nobody reads: the question itself waits no longer than the time given") {
    for (int i = 0; i < 10000; ++i) {
      const auto reply = channel.ask(ChannelType::install_sa, InstallSa{}, {}, 0);
      REQUIRE_FALSE(reply);
      REQUIRE(reply.error().code == ETIMEDOUT);
    }
  }
  SUBCASE("peer gone") {
    pair.theirs.reset();
    CHECK_FALSE(channel.ask(ChannelType::remove_sa, RemoveSa{.slot = 1}));
    CHECK_FALSE(channel.take_events());
  }
  SUBCASE("a reply of the wrong size") {
    REQUIRE(channel_send(pair.theirs.get(), ChannelType::reply, 1, RemoveSa{.slot = 1}));
    CHECK_FALSE(channel.ask(ChannelType::remove_sa, RemoveSa{.slot = 1}));
  }
}

TEST_CASE("sa channel: a message assigned over holds the other one") {
  ChannelMessage first, second;
  first.body.assign(64, std::byte{0x5a});
  second.body.assign(16, std::byte{0x11});
  first = std::move(second);
  CHECK(first.body == std::vector<std::byte>(16, std::byte{0x11}));
}
