// postern-resolver's loop without its cage: commands of posternd, questions over the channel, a channel that is
// replaced.
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <thread>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/send_descriptors.hpp"
#include "resolver/daemon.hpp"

namespace postern::resolver {
namespace {

using nlohmann::json;

Answer answer_by_name(const Question& question) {
  if (question.name == "nobody.example") return {Outcome::no_name, "", {}};
  return {Outcome::found, "", {*IpAddress::parse(question.family == Family::v4 ? "192.0.2.7" : "2001:db8::7")}};
}

// "hang" waits for open().
class Web {
 public:
  UrlAnswer fetch(const UrlQuestion& question) {
    std::unique_lock lock(mutex_);
    if (question.url.ends_with("hang")) changed_.wait(lock, [this] { return open_; });
    return {UrlOutcome::found, "", std::vector<std::byte>(question.max_bytes, std::byte{9})};
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

class Running {
 public:
  std::shared_ptr<Web> web = std::make_shared<Web>();
  Running() {
    path_ = std::filesystem::temp_directory_path() / ("postern-resolver-" + std::to_string(::getpid()) + ".sock");
    std::filesystem::remove(path_);
    Fd listener(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    REQUIRE(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&name()), sizeof(sockaddr_un)) == 0);
    REQUIRE(::listen(listener.get(), 4) == 0);
    auto daemon = Daemon::create(std::move(listener), answer_by_name,
                                 [at = web](const UrlQuestion& question) { return at->fetch(question); });
    REQUIRE(daemon);
    REQUIRE((*daemon)->start());
    daemon_ = std::move(*daemon);
    thread_ = std::thread([this] { CHECK(daemon_->run()); });
    control_ = Fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    REQUIRE(::connect(control_.get(), reinterpret_cast<const sockaddr*>(&name()), sizeof(sockaddr_un)) == 0);
  }
  ~Running() {
    ::kill(::getpid(), SIGTERM);  // blocked in this process: the loop's signalfd reads it
    thread_.join();
    sigset_t ours;  // it was seen and not taken: the next loop of this process would end by it
    ::sigemptyset(&ours);
    ::sigaddset(&ours, SIGTERM);
    int taken = 0;
    ::sigwait(&ours, &taken);
    std::filesystem::remove(path_);
  }
  json ask(const json& question, std::span<const int> descriptors = {}) {
    const std::string text = question.dump();
    REQUIRE(send_descriptors(control_.get(), as_bytes(text), descriptors) > 0);
    std::string got(4096, '\0');
    const auto size = ::recv(control_.get(), got.data(), got.size(), 0);
    REQUIRE(size > 0);
    got.resize(static_cast<std::size_t>(size));
    return json::parse(got);
  }
  Fd channel() {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    const Fd theirs(ends[1]);
    const int one = theirs.get();
    CHECK(ask({{"command", "channel"}}, {&one, 1})["ok"] == true);
    return Fd(ends[0]);
  }

 private:
  const sockaddr_un& name() {
    name_.sun_family = AF_UNIX;
    path_.native().copy(name_.sun_path, sizeof name_.sun_path - 1);
    return name_;
  }
  std::filesystem::path path_;
  sockaddr_un name_{};
  std::unique_ptr<Daemon> daemon_;
  std::thread thread_;
  Fd control_;
};

Frame next(const Fd& channel) {
  pollfd ready{channel.get(), POLLIN, 0};
  REQUIRE(::poll(&ready, 1, 10000) == 1);
  std::vector<std::byte> buffer;
  auto frame = receive_frame(channel.get(), buffer);
  REQUIRE(frame);
  REQUIRE(*frame);
  return std::move(**frame);
}

}  // namespace

TEST_CASE("names in, addresses out, each by its number; what is no question ends nothing") {
  Running resolver;
  CHECK(resolver.ask({{"command", "hello"}, {"id", 5}}) == json{{"ok", true}, {"id", 5}, {"data", json::object()}});
  CHECK(resolver.ask({{"command", "resolve everything"}})["ok"] == false);
  CHECK(resolver.ask({{"command", "channel"}})["ok"] == false);  // without one
  const Fd channel = resolver.channel();
  REQUIRE(send_frame(channel.get(), {1, Answer{Outcome::no_name, "", {}}}));
  REQUIRE(send_frame(channel.get(), {2, Question{"vpn.example.net", Family::v6}}));
  const Frame found = next(channel);
  CHECK(found.id == 2);
  CHECK(std::get<Answer>(found.body).addresses == std::vector{*IpAddress::parse("2001:db8::7")});
  REQUIRE(send_frame(channel.get(), {3, Question{"nobody.example", Family::v4}}));
  CHECK(std::get<Answer>(next(channel).body).outcome == Outcome::no_name);
}

TEST_CASE("web servers that hang hold up neither names nor each other; what is too much is refused at once") {
  Running resolver;
  const Fd channel = resolver.channel();
  std::uint64_t id = 1;
  for (; id <= fetch_threads; ++id) REQUIRE(send_frame(channel.get(), {id, UrlQuestion{"http://h/hang", 10}}));
  REQUIRE(send_frame(channel.get(), {100, Question{"vpn.example.net", Family::v4}}));
  CHECK(next(channel).id == 100);  // while all of them wait
  // More than may wait, whether or not the threads have taken theirs by now: one is refused at least.
  for (std::size_t i = 0; i <= UrlLookups::max_waiting; ++i, ++id)
    REQUIRE(send_frame(channel.get(), {id, UrlQuestion{"http://h/hang", 10}}));
  const Frame busy = next(channel);
  CHECK(std::get<UrlAnswer>(busy.body).outcome == UrlOutcome::busy);
  resolver.web->open();
  const Frame found = next(channel);
  CHECK(std::get<UrlAnswer>(found.body).outcome != UrlOutcome::failed);
}

TEST_CASE("a new channel ends the one before; one that speaks another language is closed, and the next one works") {
  Running resolver;
  const Fd first = resolver.channel();
  const Fd second = resolver.channel();
  char byte = 0;
  CHECK(::recv(first.get(), &byte, 1, 0) == 0);
  REQUIRE(::send(second.get(), "nonsense", 8, 0) == 8);
  CHECK(::recv(second.get(), &byte, 1, 0) == 0);
  const Fd third = resolver.channel();
  REQUIRE(send_frame(third.get(), {1, Question{"vpn.example.net", Family::v4}}));
  CHECK(std::get<Answer>(next(third).body).outcome == Outcome::found);
}

}  // namespace postern::resolver
