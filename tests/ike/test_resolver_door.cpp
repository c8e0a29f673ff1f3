// postern-ike's end of the channel to postern-resolver: what is asked for goes out, what comes in is checked, and what
// will never come is told.
#include <doctest/doctest.h>
#include <sys/socket.h>

#include "ike/resolver_door.hpp"

namespace postern::ike {
namespace {

using resolver::UrlAnswer, resolver::UrlOutcome, resolver::UrlQuestion;

struct Ends {
  Fd ours, theirs;
  std::vector<std::byte> buffer;
  Ends() {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
    ours = Fd(ends[0]);
    theirs = Fd(ends[1]);
  }
  resolver::Frame asked() {
    auto frame = resolver::receive_frame(theirs.get(), buffer);
    REQUIRE(frame);
    REQUIRE(*frame);
    return std::move(**frame);
  }
  void say(std::uint64_t id, UrlAnswer answer) { REQUIRE(resolver::send_frame(theirs.get(), {id, std::move(answer)})); }
};

const CertificateFetches::Fetch one{7, "http://pki.example.org/a.der", 100},
    other{8, "http://pki.example.org/b.der", 4};

}  // namespace

TEST_CASE("URLs wait for a channel; answers come back by the number of the fetch, once") {
  Ends ends;
  ResolverDoor door;
  door.fetch(one);
  CHECK(door.has_questions());
  door.connect(std::move(ends.ours));
  door.fetch(other);
  const auto first = ends.asked(), second = ends.asked();
  CHECK(std::get<UrlQuestion>(first.body).url == one.url);
  CHECK(std::get<UrlQuestion>(first.body).max_bytes == 100);
  CHECK(std::get<UrlQuestion>(second.body).url == other.url);
  ends.say(second.id, {UrlOutcome::timed_out, {}, {}});
  ends.say(first.id, {UrlOutcome::found, {}, {std::byte{5}}});
  ends.say(first.id, {UrlOutcome::found, {}, {std::byte{6}}});  // once more
  ends.say(99, {UrlOutcome::found, {}, {}});                    // of nothing that was asked
  REQUIRE(door.receive());
  auto fetched = door.next_fetched();
  REQUIRE(fetched);
  CHECK(fetched->fetch == 8);
  CHECK(fetched->answer.outcome == UrlOutcome::timed_out);
  fetched = door.next_fetched();
  REQUIRE(fetched);
  CHECK(fetched->fetch == 7);
  CHECK(fetched->answer.body == Octets{std::byte{5}});
  CHECK_FALSE(door.next_fetched());
  CHECK_FALSE(door.has_answers());
}

TEST_CASE("more than was asked for is not taken, and what will not come any more is told") {
  Ends ends;
  ResolverDoor door;
  door.connect(std::move(ends.ours));
  door.fetch(other);
  ends.say(ends.asked().id, {UrlOutcome::found, {}, Octets(5)});
  REQUIRE(door.receive());
  auto fetched = door.next_fetched();
  REQUIRE(fetched);
  CHECK(fetched->answer.outcome == UrlOutcome::failed);
  CHECK(fetched->answer.body.empty());
  door.fetch(one);
  ends.theirs.reset();
  CHECK_FALSE(door.receive());
  fetched = door.next_fetched();
  REQUIRE(fetched);
  CHECK(fetched->fetch == 7);
  CHECK(fetched->answer.outcome == UrlOutcome::failed);
  CHECK_FALSE(door.connected());
}

}  // namespace postern::ike
