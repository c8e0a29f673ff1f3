// Both rings over socket pairs: the same questions, the same answers.
#include <algorithm>
#include <string>
#include <string_view>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "worker/ring_poll.hpp"
#include "worker/ring_uring.hpp"

namespace postern {

// Whoever took the process over writes entries as it likes: what the kernel says to one that `change` made different
// from an ordinary write.
struct RingIntruder {
  static std::int32_t submit(UringRing& ring, Token token, std::span<const iovec> parts, auto change) {
    ring.write(token, parts);
    change(ring.ring_.sq.sqes[(ring.ring_.sq.sqe_tail - 1) & (ring.ring_.sq.ring_entries - 1)]);
    Completions done;
    for (int turns = 0; done.empty() && turns < 200; ++turns) ring.turn(10'000'000, done);
    return done.empty() ? 1 : done[0].result;
  }
};

}  // namespace postern

using namespace postern;

namespace {

constexpr std::int64_t long_wait = 2'000'000'000;

template <class T>
std::unique_ptr<Ring> make_ring() {
  auto ring = T::create();
  if (!ring) {
    MESSAGE("skipped, this kernel refuses: " << ring.error().message());
    return nullptr;
  }
  return std::move(*ring);
}

struct Pair {
  Fd ours, theirs;
};
Pair make_pair() {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
  return {Fd(ends[0]), Fd(ends[1])};
}

// Turns until `count` completions are there, or nothing more comes.
Completions turn_until(Ring& ring, std::size_t count) {
  Completions out;
  for (std::size_t turns = 0; out.size() < count && turns < 200; ++turns) ring.turn(long_wait / 100, out);
  return out;
}

std::string_view text_of(const Ring& ring, const Completion& done) {
  return {reinterpret_cast<const char*>(ring.buffer(done.buffer)), static_cast<std::size_t>(done.result)};
}

void say(const Fd& socket, std::string_view text) {
  REQUIRE(::send(socket.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
}

constexpr Token reading{Event::packet, 0, 3, 9};
constexpr Token watching{Event::readable, 1, 3, 0};

}  // namespace

TEST_CASE_TEMPLATE("ring: packets arrive one by one, in order, with their token", T, UringRing, PollRing) {
  const auto ring = make_ring<T>();
  if (!ring) return;
  const Pair pair = make_pair();
  REQUIRE(ring->attach(reading.file(), pair.ours.get()));
  ring->receive(reading);
  for (int i = 0; i < 5; ++i) say(pair.theirs, std::string("packet ") + std::to_string(i));
  const Completions done = turn_until(*ring, 5);
  REQUIRE(done.size() == 5);
  for (std::size_t i = 0; i < 5; ++i) {
    CHECK(done[i].token.bits() == reading.bits());
    CHECK(text_of(*ring, done[i]) == "packet " + std::to_string(i));
    ring->recycle(done[i].buffer);
  }
}

TEST_CASE_TEMPLATE("ring: reading goes on after every buffer was in use", T, UringRing, PollRing) {
  const auto ring = make_ring<T>();
  if (!ring) return;
  const Pair pair = make_pair();
  int size = 1 << 20;
  ::setsockopt(pair.theirs.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  REQUIRE(ring->attach(reading.file(), pair.ours.get()));
  ring->receive(reading);
  std::size_t sent = 0, received = 0;
  std::vector<std::uint16_t> kept;
  // A queue of datagrams is bounded: give, take, and keep every buffer until none is left.
  for (int round = 0; round < 400 && kept.size() < read_buffers; ++round) {
    if (::send(pair.theirs.get(), &sent, sizeof sent, 0) == sizeof sent) ++sent;
    Completions done;
    ring->turn(0, done);
    for (const Completion& one : done) kept.push_back(one.buffer);
  }
  REQUIRE(kept.size() == read_buffers);
  std::ranges::sort(kept);
  CHECK(std::ranges::adjacent_find(kept) == kept.end());  // nobody got the same buffer twice
  received = kept.size();
  say(pair.theirs, "12345678");
  ++sent;
  Completions starved;
  ring->turn(20'000'000, starved);
  CHECK(starved.empty());
  for (const auto id : kept) ring->recycle(id);
  received += turn_until(*ring, sent - received).size();
  CHECK(received == sent);
}

TEST_CASE_TEMPLATE("ring: watch tells each arrival, wait ends with it or with its time", T, UringRing, PollRing) {
  const auto ring = make_ring<T>();
  if (!ring) return;
  const Fd bell(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  REQUIRE(ring->attach(watching.file(), bell.get()));
  ring->watch(watching);
  Completions done;
  ring->turn(1'000'000, done);
  CHECK(done.empty());
  for (int i = 0; i < 3; ++i) {
    ::eventfd_write(bell.get(), 1);
    const Completions rung = turn_until(*ring, 1);
    REQUIRE(rung.size() == 1);
    CHECK(rung[0].token.bits() == watching.bits());
    eventfd_t count = 0;
    ::eventfd_read(bell.get(), &count);
  }
  CHECK(ring->sleeps() > 0);
  CHECK(ring->system_calls() >= ring->sleeps());
}

TEST_CASE_TEMPLATE("ring: writes and sends end with their bytes, or with the error", T, UringRing, PollRing) {
  const auto ring = make_ring<T>();
  if (!ring) return;
  Pair pair = make_pair();
  constexpr Token write{Event::written, 0, 1, 7}, send{Event::sent, 0, 1, 8};
  REQUIRE(ring->attach(write.file(), pair.ours.get()));
  char left[] = "left ", right[] = "right";
  const iovec parts[] = {{left, 5}, {right, 5}};
  ring->write(write, parts);
  ring->send(send, as_bytes("single"));
  const iovec part{right, 5};
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(&part);
  message.msg_iovlen = 1;
  ring->send(send, message);
  Completions done = turn_until(*ring, 3);
  REQUIRE(done.size() == 3);
  CHECK(done[0].result == 10);
  CHECK(done[0].token.detail == 7);
  CHECK(done[1].result == 6);
  CHECK(done[2].result == 5);
  char got[16] = {};
  CHECK(::recv(pair.theirs.get(), got, sizeof got, 0) == 10);
  CHECK(std::string_view(got, 10) == "left right");
  pair.theirs.reset();
  ring->write(write, parts);
  done = turn_until(*ring, 1);
  REQUIRE(done.size() == 1);
  CHECK(done[0].result < 0);
}

TEST_CASE_TEMPLATE("ring: submit ends writes, collect tells of them without waiting", T, UringRing, PollRing) {
  const auto ring = make_ring<T>();
  if (!ring) return;
  const Pair pair = make_pair();
  constexpr Token write{Event::written, 0, 1, 7};
  REQUIRE(ring->attach(write.file(), pair.ours.get()));
  char text[] = "text";
  const iovec part{text, 4};
  ring->write(write, {&part, 1});
  ring->submit();
  Completions done;
  ring->collect(done);
  REQUIRE(done.size() == 1);
  CHECK(done[0].result == 4);
}

TEST_CASE_TEMPLATE("ring: more writes than the queue holds are all done", T, UringRing, PollRing) {
  const auto ring = make_ring<T>();
  if (!ring) return;
  const Fd null(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  constexpr std::uint32_t count = 1000;
  REQUIRE(ring->attach(Token{Event::written, 0, 1, 0}.file(), null.get()));
  char text[] = "text";
  const iovec part{text, 4};
  for (std::uint32_t i = 0; i < count; ++i) ring->write({Event::written, 0, 1, i}, {&part, 1});
  const Completions done = turn_until(*ring, count);
  REQUIRE(done.size() == count);
  for (std::uint32_t i = 0; i < count; ++i) CHECK(done[i].token.detail == i);
}

TEST_CASE_TEMPLATE("ring: a detached file is silent, its buffers come back, others go on", T, UringRing, PollRing) {
  const auto ring = make_ring<T>();
  if (!ring) return;
  const Pair first = make_pair(), second = make_pair();
  constexpr Token other{Event::packet, 0, 4, 0};
  for (std::size_t i = 0; i < 3 * read_buffers; ++i) {
    REQUIRE(ring->attach(reading.file(), first.ours.get()));
    ring->receive(reading);
    Completions none;
    ring->turn(0, none);
    say(first.theirs, "lost");
    ring->detach(reading.file());
    char rest[8];
    while (::recv(first.ours.get(), rest, sizeof rest, 0) > 0) continue;
  }
  REQUIRE(ring->attach(other.file(), second.ours.get()));
  ring->receive(other);
  say(first.theirs, "unheard");
  say(second.theirs, "heard");
  const Completions done = turn_until(*ring, 1);
  REQUIRE(done.size() == 1);
  CHECK(done[0].token.bits() == other.bits());
  CHECK(text_of(*ring, done[0]) == "heard");
}

TEST_CASE("io_uring: what the restriction leaves out is refused") {
  const auto made = UringRing::create();
  if (!made) {
    MESSAGE("skipped, this kernel refuses: " << made.error().message());
    return;
  }
  CHECK((*made)->is_io_uring());
  // The ring's own descriptor is the only way in for whoever took the process over.
  const int ring_fd = (*made)->descriptor();
  CHECK(io_uring_register(static_cast<unsigned>(ring_fd), IORING_REGISTER_BUFFERS, nullptr, 0) == -EACCES);
  CHECK(io_uring_register(static_cast<unsigned>(ring_fd), IORING_REGISTER_RESTRICTIONS, nullptr, 0) < 0);
}

TEST_CASE("io_uring: an operation, a flag or a file that is not allowed is refused at submission") {
  const auto made = UringRing::create();
  if (!made) {
    MESSAGE("skipped, this kernel refuses: " << made.error().message());
    return;
  }
  auto& ring = static_cast<UringRing&>(**made);
  const Pair pair = make_pair();
  constexpr Token write{Event::written, 0, 1, 7};
  REQUIRE(ring.attach(write.file(), pair.ours.get()));
  char text[] = "text";
  const iovec part{text, 4};
  const auto answer = [&](auto change) { return RingIntruder::submit(ring, write, {&part, 1}, change); };
  CHECK(answer([](io_uring_sqe&) {}) == 4);
  for (const int operation :
       {IORING_OP_OPENAT, IORING_OP_OPENAT2, IORING_OP_ACCEPT, IORING_OP_CONNECT, IORING_OP_SOCKET, IORING_OP_CLOSE,
        IORING_OP_SPLICE, IORING_OP_FILES_UPDATE, IORING_OP_PROVIDE_BUFFERS, IORING_OP_UNLINKAT, IORING_OP_URING_CMD}) {
    CAPTURE(operation);
    CHECK(answer([&](io_uring_sqe& sqe) { sqe.opcode = static_cast<std::uint8_t>(operation); }) == -EACCES);
  }
  CHECK(answer([&](io_uring_sqe& sqe) {  // a descriptor of the process in place of an attached file
          sqe.flags = 0;
          sqe.fd = pair.ours.get();
        }) == -EACCES);
  for (const unsigned flag : {IOSQE_ASYNC, IOSQE_IO_DRAIN, IOSQE_IO_LINK}) {
    CAPTURE(flag);
    CHECK(answer([&](io_uring_sqe& sqe) { sqe.flags |= static_cast<std::uint8_t>(flag); }) == -EACCES);
  }
  char got[16];
  CHECK(::recv(pair.theirs.get(), got, sizeof got, MSG_DONTWAIT) == 4);
  CHECK(::recv(pair.theirs.get(), got, sizeof got, MSG_DONTWAIT) < 0);  // none of the others was done
  CHECK(answer([](io_uring_sqe&) {}) == 4);
}
