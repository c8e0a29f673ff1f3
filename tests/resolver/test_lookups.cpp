// Questions that block are asked beside each other, and no more of them wait than may.
#include <condition_variable>
#include <mutex>

#include <doctest/doctest.h>
#include <poll.h>

#include "resolver/lookups.hpp"

namespace postern::resolver {
namespace {

// Names beginning with "slow" wait for open().
class Gate {
 public:
  Answer ask(const Question& question) {
    std::unique_lock lock(mutex_);
    if (question.name.starts_with("slow")) changed_.wait(lock, [this] { return open_; });
    return {Outcome::found, "", {*IpAddress::parse("192.0.2.7")}};
  }
  void open() {
    const std::scoped_lock lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

std::vector<NameLookups::Done> wait_for(NameLookups& lookups, std::size_t count) {
  std::vector<NameLookups::Done> out;
  while (out.size() < count) {
    pollfd ready{lookups.fd(), POLLIN, 0};
    REQUIRE(::poll(&ready, 1, 10000) == 1);
    for (NameLookups::Done& one : lookups.take()) out.push_back(std::move(one));
  }
  return out;
}

}  // namespace

TEST_CASE("a question that takes long holds up nobody else's, and its answer comes with its own number") {
  auto gate = std::make_shared<Gate>();
  auto lookups = NameLookups::create([gate](const Question& question) { return gate->ask(question); });
  REQUIRE(lookups);
  REQUIRE(lookups->start(2));
  REQUIRE(lookups->add(1, 10, {"slow.example", Family::v4}));
  REQUIRE(lookups->add(1, 11, {"quick.example", Family::v4}));
  const auto first = wait_for(*lookups, 1);
  CHECK(first[0].id == 11);
  gate->open();
  const auto second = wait_for(*lookups, 1);
  CHECK(second[0].id == 10);
  CHECK(second[0].channel == 1);
}

TEST_CASE("what is too much is refused at once, and room comes again") {
  auto gate = std::make_shared<Gate>();
  auto lookups = NameLookups::create([gate](const Question& question) { return gate->ask(question); });
  REQUIRE(lookups);
  for (std::uint64_t id = 0; id < NameLookups::max_waiting; ++id)
    REQUIRE(lookups->add(1, id, {"slow.example", Family::v4}));
  CHECK_FALSE(lookups->add(1, 999, {"slow.example", Family::v4}));
  REQUIRE(lookups->start(2));
  gate->open();
  CHECK(wait_for(*lookups, NameLookups::max_waiting).size() == NameLookups::max_waiting);
  CHECK(lookups->add(1, 999, {"slow.example", Family::v4}));
}

TEST_CASE("the C library: /etc/hosts counts, a name of nobody is one of nobody") {
  REQUIRE(choose_services());
  const Answer here = ask_c_library({"localhost", Family::v4});
  CHECK(here.outcome == Outcome::found);
  CHECK(here.addresses == std::vector{*IpAddress::parse("127.0.0.1")});
  const Answer numeric = ask_c_library({"192.0.2.9", Family::v4});
  CHECK(numeric.addresses == std::vector{*IpAddress::parse("192.0.2.9")});
  CHECK(ask_c_library({"192.0.2.9", Family::v6}).addresses.empty());
}

}  // namespace postern::resolver
