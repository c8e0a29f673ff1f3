// The control socket against clients of every kind; who they are is told by a fake in place of SO_PEERCRED.
#include <atomic>
#include <optional>
#include <thread>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/socket.h>
#include <unistd.h>

#include "loader/control_server.hpp"

using namespace postern;
using namespace postern::loader;
using nlohmann::json;

namespace {

constexpr gid_t full = 1000, read_only = 1001;

// A server on its own thread and loop, with one peer's identity for every client.
class Serving {
 public:
  explicit Serving(Peer peer, ControlServer::Handler handler = {}) {
    path_ = "/tmp/postern-control-" + std::to_string(::getpid()) + "-" + std::to_string(next_++);
    loop_ = std::move(*EventLoop::create());
    if (!handler)
      handler = [this](const std::string& command, json args) {
        ++handled;
        return ControlReply::success({{"command", command}, {"args", std::move(args)}});
      };
    auto server = ControlServer::create(*loop_, path_, std::move(handler), {full, read_only},
                                        [peer](int) -> Result<Peer> { return peer; });
    REQUIRE(server);
    server_ = std::move(*server);
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    stop_read_ = Fd(ends[0]);
    stop_write_ = Fd(ends[1]);
    REQUIRE(loop_->watch(stop_read_.get(), 1 /* EPOLLIN */, [this](std::uint32_t) { loop_->stop(); }));
    thread_ = std::thread([this] { ran_ = static_cast<bool>(loop_->run()); });
  }
  ~Serving() {
    stop_write_.reset();
    thread_.join();
    CHECK(ran_);
  }
  [[nodiscard]] Fd connect() const {
    auto client = connect_to(path_, SOCK_STREAM);
    REQUIRE(client);
    return std::move(*client);
  }
  std::atomic<int> handled = 0;

 private:
  static inline int next_ = 0;
  std::string path_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<ControlServer> server_;
  Fd stop_read_, stop_write_;
  std::thread thread_;
  bool ran_ = false;
};

void send_text(const Fd& client, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = ::send(client.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;  // the server has answered and closed: its answer is what counts
    text.remove_prefix(static_cast<std::size_t>(sent));
  }
}

json answer(const Fd& client) {
  std::string text;
  char chunk[65536];
  for (ssize_t got; (got = ::recv(client.get(), chunk, sizeof chunk, 0)) > 0;)
    text.append(chunk, static_cast<std::size_t>(got));
  return json::parse(text, nullptr, false);
}

json ask(const Serving& server, std::string_view text) {
  const Fd client = server.connect();
  send_text(client, text);
  return answer(client);
}

}  // namespace

TEST_CASE("who may say what") {
  struct Row {
    const char* who;
    Peer peer;
    const char* command;
    int exit;  // 0: allowed
  };
  const Row rows[] = {
      {"root", {0, 0, {}}, "config apply", 0},
      {"root shows", {0, 0, {}}, "show crypto map", 0},
      {"group postern, supplementary", {77, 77, {5, full}}, "clear crypto sa", 0},
      {"group postern, primary", {77, full, {}}, "teardown", 0},
      {"group postern-ro shows", {77, 77, {read_only}}, "show crypto session", 0},
      {"group postern-ro reads the configuration", {77, read_only, {}}, "config show", 0},
      {"group postern-ro applies", {77, 77, {read_only}}, "config apply", 4},
      {"group postern-ro clears", {77, 77, {read_only}}, "clear crypto sa", 4},
      {"group postern-ro captures", {77, 77, {read_only}}, "capture", 4},
      {"group postern-ro stops", {77, 77, {read_only}}, "stop", 4},
      {"group postern-ro, show without its blank", {77, 77, {read_only}}, "shower", 4},
      {"anybody shows", {77, 77, {5}}, "show crypto map", 4},
      {"nobody", {65534, 65534, {}}, "show dataplane", 4},
  };
  for (const Row& row : rows) {
    CAPTURE(row.who);
    Serving server(row.peer);
    const auto reply = ask(server, json{{"command", row.command}}.dump() + "\n");
    CHECK(reply["ok"] == (row.exit == 0));
    if (row.exit != 0) CHECK(reply["exit"] == row.exit);
    CHECK(server.handled == (row.exit == 0 ? 1 : 0));
  }
}

TEST_CASE("groups that do not exist grant nothing") {
  CHECK(access_of({77, 0, {0}}, {std::nullopt, std::nullopt}) == Access::none);
  CHECK(access_of({0, 0, {}}, {std::nullopt, std::nullopt}) == Access::everything);
  CHECK(access_of({77, 77, {full, read_only}}, {full, read_only}) == Access::everything);
}

TEST_CASE("requests that are none") {
  Serving server({0, 0, {}});
  const std::string deep = "{\"command\":\"x\",\"args\":{\"a\":" + std::string(40, '[') + std::string(40, ']') + "}}\n";
  for (const std::string& text :
       {std::string("\n"), std::string("nonsense\n"), std::string("{}\n"), std::string("[]\n"),
        std::string("{\"command\":5}\n"), std::string("{\"command\":\"show\",\"args\":[]}\n"), deep}) {
    CAPTURE(text);
    const auto reply = ask(server, text);
    CHECK(reply["ok"] == false);
    CHECK(reply["exit"] == 2);
  }
  CHECK(server.handled == 0);
  // The brackets of a string are no nesting.
  CHECK(ask(server, json{{"command", std::string(100, '[')}}.dump() + "\n")["ok"] == true);
}

TEST_CASE("a request in many pieces is one request; a second line is not read") {
  Serving server({0, 0, {}});
  const Fd client = server.connect();
  for (const char* piece : {"{\"comm", "and\":\"show x\"", "}\n{\"command\":\"stop\"}\n"}) send_text(client, piece);
  const auto reply = answer(client);
  CHECK(reply["data"]["command"] == "show x");
  CHECK(server.handled == 1);
}

TEST_CASE("a request without end is refused at 8 MiB") {
  Serving server({0, 0, {}});
  const Fd client = server.connect();
  send_text(client, std::string(ControlServer::max_request_bytes + 100000, 'x'));
  CHECK(answer(client)["ok"] == false);
  CHECK(server.handled == 0);
}

TEST_CASE("a client that does not read its long answer holds nobody up") {
  const std::string large(4 << 20, 'y');
  Serving server({0, 0, {}}, [&](const std::string&, json) { return ControlReply::success(large); });
  const Fd slow = server.connect();
  send_text(slow, "{\"command\":\"show slow\"}\n");
  const Fd silent = server.connect();  // and one that never asks
  CHECK(ask(server, "{\"command\":\"show quick\"}\n")["data"] == large);
  CHECK(answer(slow)["data"] == large);
}

TEST_CASE("no more clients than the bound, and room again when they go") {
  Serving server({0, 0, {}});
  std::vector<Fd> idle;
  for (std::size_t i = 0; i < ControlServer::max_clients; ++i) idle.push_back(server.connect());
  const Fd surplus = server.connect();
  CHECK(answer(surplus).is_discarded());  // closed without a word
  idle.clear();
  json reply;
  for (int i = 0; i < 1000 && !reply.is_object(); ++i) reply = ask(server, "{\"command\":\"show x\"}\n");
  CHECK(reply["ok"] == true);
}

TEST_CASE("a descriptor travels with its answer, and afterwards runs once it has left") {
  std::atomic<bool> after = false;
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const Fd read_end(ends[0]);
  {
    Serving server({0, 0, {}}, [&](const std::string&, json) {
      ControlReply reply = ControlReply::success("x");
      reply.descriptor = Fd(ends[1]);
      reply.afterwards = [&] { after = true; };
      return reply;
    });
    const Fd client = server.connect();
    send_text(client, "{\"command\":\"capture\"}\n");
    char text[256];
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    iovec part{text, sizeof text};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    REQUIRE(::recvmsg(client.get(), &message, MSG_CMSG_CLOEXEC) > 0);
    REQUIRE(CMSG_FIRSTHDR(&message) != nullptr);
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    {
      const Fd received(fd);
      CHECK(::write(received.get(), "z", 1) == 1);
    }
    char byte = 0;
    CHECK(::read(read_end.get(), &byte, 1) == 1);
    CHECK(byte == 'z');
    CHECK(::read(read_end.get(), &byte, 1) == 0);  // the server kept no copy
  }
  CHECK(after);
}
