// URLs by libcurl, from a web server of the test's own that does what no good one does.
#include <atomic>
#include <functional>
#include <map>
#include <thread>

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.hpp"
#include "resolver/fetch.hpp"

namespace postern::resolver {
namespace {

using namespace std::chrono_literals;
constexpr FetchPatience short_patience{500ms, 800ms};

// One thread a connection; each ends with the server.
class WebServer {
 public:
  using Answer = std::function<void(WebServer&, int connection)>;
  std::map<std::string, Answer> paths;
  std::atomic<int> requests = 0;

  WebServer() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    REQUIRE(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&at), size) == 0);
    REQUIRE(::listen(listener_.get(), 16) == 0);
    REQUIRE(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&at), &size) == 0);
    port_ = ntohs(at.sin_port);
  }
  void start() {
    accepting_ = std::thread([this] {
      for (;;) {
        Fd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (!connection) return;
        serving_.emplace_back([this, c = std::move(connection)] { serve(c.get()); });
      }
    });
  }
  ~WebServer() {
    ended_ = true;
    ::shutdown(listener_.get(), SHUT_RDWR);
    if (accepting_.joinable()) accepting_.join();
    for (std::thread& one : serving_) one.join();
  }
  [[nodiscard]] std::string url(const std::string& path, const char* host = "127.0.0.1") const {
    return "http://" + std::string(host) + ":" + std::to_string(port_) + path;
  }
  static bool say(int connection, std::string_view text) {
    return ::send(connection, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
  }
  // Until the other end has gone, or the test is over.
  void hang(int connection) const {
    char byte = 0;
    pollfd there{connection, POLLIN, 0};
    while (!ended_)
      if (::poll(&there, 1, 50) == 1 && ::recv(connection, &byte, 1, 0) <= 0) return;
  }
  [[nodiscard]] bool ended() const { return ended_; }

 private:
  void serve(int connection) {
    std::string request;
    char piece[512];
    while (request.find("\r\n\r\n") == std::string::npos) {
      const ssize_t got = ::recv(connection, piece, sizeof piece, 0);
      if (got <= 0) return;
      request.append(piece, static_cast<std::size_t>(got));
    }
    ++requests;
    const auto begin = request.find(' ') + 1;
    const auto path = paths.find(request.substr(begin, request.find(' ', begin) - begin));
    if (path == paths.end())
      say(connection, "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngone");
    else
      path->second(*this, connection);
  }
  Fd listener_;
  std::uint16_t port_ = 0;
  std::atomic<bool> ended_ = false;
  std::thread accepting_;
  std::vector<std::thread> serving_;
};

WebServer::Answer says(std::string text) {
  return [text = std::move(text)](WebServer&, int connection) { WebServer::say(connection, text); };
}
std::string ok(std::string_view body, std::size_t length) {
  return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(length) + "\r\nConnection: close\r\n\r\n" +
         std::string(body);
}
std::string text_of(const UrlAnswer& answer) {
  return {reinterpret_cast<const char*>(answer.body.data()), answer.body.size()};
}

}  // namespace

TEST_CASE("what is there comes whole: with a length, in chunks, until the connection ends, empty") {
  REQUIRE(prepare_fetches());
  WebServer web;
  const std::string body("certificate\0in DER", 18);
  web.paths["/whole"] = says(ok(body, body.size()));
  web.paths["/chunks"] = says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n");
  web.paths["/closed"] = says("HTTP/1.0 200 OK\r\n\r\nto the end");
  web.paths["/empty"] = says(ok("", 0));
  web.start();
  const UrlAnswer whole = fetch({web.url("/whole"), 18});
  CHECK(whole.outcome == UrlOutcome::found);
  CHECK(text_of(whole) == body);
  CHECK(text_of(fetch({web.url("/chunks"), 100})) == "abcdef");
  CHECK(text_of(fetch({web.url("/closed"), 100})) == "to the end");
  CHECK(fetch({web.url("/empty"), 100}).outcome == UrlOutcome::found);
  CHECK(fetch({web.url("/whole", "localhost"), 100}).outcome == UrlOutcome::found);
}

TEST_CASE("another answer than 200 is none: no file, no redirect, no part, no other protocol") {
  WebServer web;
  web.paths["/there"] = says(ok("x", 1));
  web.paths["/moved"] = says("HTTP/1.1 302 Found\r\nLocation: " + web.url("/there") + "\r\nContent-Length: 0\r\n\r\n");
  web.paths["/file"] = says("HTTP/1.1 301 Moved\r\nLocation: file:///etc/hostname\r\nContent-Length: 0\r\n\r\n");
  web.paths["/part"] = says("HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx");
  web.paths["/old"] = says("just text, as HTTP/0.9 had it");
  web.paths["/cut"] = says(ok("half", 8));
  web.start();
  const UrlAnswer missing = fetch({web.url("/missing"), 100});
  CHECK(missing.outcome == UrlOutcome::refused);
  CHECK(missing.detail == "the server answers 404");
  CHECK(missing.body.empty());
  CHECK(fetch({web.url("/moved"), 100}).detail == "the server answers 302");
  CHECK(fetch({web.url("/file"), 100}).detail == "the server answers 301");
  CHECK(fetch({web.url("/part"), 100}).detail == "the server answers 206");
  CHECK(web.requests == 4);  // nobody went where the redirects led
  CHECK(fetch({web.url("/old"), 100}, short_patience).outcome == UrlOutcome::failed);
  CHECK(fetch({web.url("/cut"), 100}, short_patience).outcome == UrlOutcome::failed);
}

TEST_CASE("no more is taken than may come, whatever the server says of it") {
  WebServer web;
  web.paths["/honest"] = says(ok(std::string(101, 'a'), 101));
  web.paths["/liar"] = says("HTTP/1.0 200 OK\r\n\r\n" + std::string(101, 'a'));
  web.paths["/fits"] = says(ok(std::string(100, 'a'), 100));
  web.paths["/endless"] = [](WebServer& at, int connection) {
    WebServer::say(connection, "HTTP/1.1 200 OK\r\n\r\n");
    while (!at.ended() && WebServer::say(connection, std::string(4096, 'a'))) {
    }
  };
  web.paths["/headers"] = [](WebServer& at, int connection) {
    WebServer::say(connection, "HTTP/1.1 200 OK\r\n");
    while (!at.ended() && WebServer::say(connection, "X-More: " + std::string(1000, 'a') + "\r\n")) {
    }
  };
  web.start();
  CHECK(fetch({web.url("/honest"), 100}).outcome == UrlOutcome::too_large);
  CHECK(fetch({web.url("/liar"), 100}).outcome == UrlOutcome::too_large);
  CHECK(fetch({web.url("/fits"), 100}).outcome == UrlOutcome::found);
  CHECK(fetch({web.url("/endless"), max_body_bytes}).outcome == UrlOutcome::too_large);
  CHECK(fetch({web.url("/headers"), 100}).outcome != UrlOutcome::found);
}

TEST_CASE("a server that hangs, or says one byte after the other, costs no more than the time there is") {
  WebServer web;
  web.paths["/hang"] = [](WebServer& at, int connection) { at.hang(connection); };
  web.paths["/slow"] = [](WebServer& at, int connection) {
    WebServer::say(connection, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
    pollfd there{connection, POLLIN, 0};
    while (!at.ended() && WebServer::say(connection, "a") && ::poll(&there, 1, 50) == 0) {
    }
  };
  web.start();
  const auto began = std::chrono::steady_clock::now();
  CHECK(fetch({web.url("/hang"), 100}, short_patience).outcome == UrlOutcome::timed_out);
  CHECK(fetch({web.url("/slow"), 100}, short_patience).outcome == UrlOutcome::timed_out);
  CHECK(std::chrono::steady_clock::now() - began < 5s);
}

TEST_CASE("other schemes, other texts and nobody there are failures; the environment's proxy is not asked") {
  WebServer web, proxy;
  web.paths["/there"] = says(ok("x", 1));
  web.start();
  proxy.start();
  for (const char* const url :
       {"https://127.0.0.1/", "file:///etc/hostname", "ftp://127.0.0.1/", "gopher://h/", "", "x"})
    CHECK(fetch({url, 100}).outcome == UrlOutcome::failed);
  CHECK(fetch({"http://127.0.0.1:1/", 100}).outcome == UrlOutcome::failed);
  REQUIRE(::setenv("http_proxy", proxy.url("").c_str(), 1) == 0);
  CHECK(fetch({web.url("/there"), 100}).outcome == UrlOutcome::found);
  ::unsetenv("http_proxy");
  CHECK(proxy.requests == 0);
}

}  // namespace postern::resolver
