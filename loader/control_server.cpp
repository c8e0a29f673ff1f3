#include "loader/control_server.hpp"

#include <algorithm>
#include <cstring>

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/log.hpp"
#include "base/secret.hpp"
#include "base/send_descriptors.hpp"

namespace postern::loader {
namespace {

void wipe_text(std::string& text) {
  wipe(std::as_writable_bytes(std::span(text)));
  text.clear();
}

// Brackets outside of strings; checked before the parser builds anything.
bool too_deep(std::string_view text, std::size_t limit) {
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '{' || c == '[') ++depth;
    if ((c == '}' || c == ']') && depth > 0) --depth;
    if (depth > limit) return true;
  }
  return false;
}

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return fail("socket path too long: " + path, ENAMETOOLONG);
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

}  // namespace

Result<Fd> listen_at(const std::string& path, int type, unsigned mode) {
  POSTERN_TRY(address, address_of(path));
  Fd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return fail_errno("Unix socket");
  ::unlink(path.c_str());
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail_errno("bind " + path);
  if (::chmod(path.c_str(), mode) != 0) return fail_errno("chmod " + path);
  if (::listen(socket.get(), 64) != 0) return fail_errno("listen at " + path);
  return socket;
}

Result<Fd> connect_to(const std::string& path, int type) {
  POSTERN_TRY(address, address_of(path));
  Fd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno("Unix socket");
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail_errno("connect to " + path);
  return socket;
}

ControlReply ControlReply::success(nlohmann::json data) { return {{{"ok", true}, {"data", std::move(data)}}, {}, {}}; }
ControlReply ControlReply::failure(const std::string& message, int exit) {
  return {{{"ok", false}, {"error", {{"message", message}}}, {"exit", exit}}, {}, {}};
}

Result<std::unique_ptr<ControlServer>> ControlServer::create(EventLoop& loop, const std::string& path, Handler handler,
                                                             ControlGroups groups, PeerOf peer_of) {
  // Open to connect for everyone: SO_PEERCRED decides, and the refused one is told so (exit code 4).
  POSTERN_TRY(listener, listen_at(path, SOCK_STREAM, 0666));
  std::unique_ptr<ControlServer> server(
      new ControlServer(loop, std::move(listener), path, std::move(handler), groups, std::move(peer_of)));
  POSTERN_CHECK(
      loop.watch(server->listener_.get(), EPOLLIN, [raw = server.get()](std::uint32_t) { raw->accept_clients(); }));
  return server;
}

ControlServer::ControlServer(EventLoop& loop, Fd listener, std::string path, Handler handler, ControlGroups groups,
                             PeerOf peer_of)
    : loop_(loop),
      listener_(std::move(listener)),
      path_(std::move(path)),
      handler_(std::move(handler)),
      groups_(groups),
      peer_of_(std::move(peer_of)) {}

ControlServer::~ControlServer() {
  while (!clients_.empty()) drop(clients_.begin()->first);
  loop_.forget(listener_.get());
  ::unlink(path_.c_str());
}

void ControlServer::accept_clients() {
  for (;;) {
    Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) return;
    if (clients_.size() >= max_clients) continue;
    const int fd = socket.get();
    auto client = std::make_unique<Client>();
    const auto peer = peer_of_(fd);
    if (peer) client->access = access_of(*peer, groups_);
    client->socket = std::move(socket);
    if (!loop_.watch(fd, EPOLLIN, [this, fd](std::uint32_t events) { on_client(fd, events); })) continue;
    client->timer = loop_.after(patience, [this, fd] { drop(fd); });
    Client& kept = *clients_.emplace(fd, std::move(client)).first->second;
    if (kept.access == Access::none)
      start_reply(kept,
                  ControlReply::failure("not permitted: you are neither root nor in group postern or postern-ro", 4));
  }
}

void ControlServer::drop(int fd) {
  const auto found = clients_.find(fd);
  if (found == clients_.end()) return;
  loop_.cancel(found->second->timer);
  loop_.forget(fd);
  wipe_text(found->second->input);
  const auto kept = std::move(found->second);
  clients_.erase(found);
  if (kept->afterwards) kept->afterwards();
}

void ControlServer::on_client(int fd, std::uint32_t events) {
  const auto found = clients_.find(fd);
  if (found == clients_.end()) return;
  if (!found->second->output.empty()) return write_reply(*found->second);
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) read_request(*found->second);
}

void ControlServer::read_request(Client& client) {
  std::array<char, 65536> chunk;
  const ssize_t got = ::recv(client.socket.get(), chunk.data(), chunk.size(), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return drop(client.socket.get());
  // A string that grows leaves its old bytes behind; they may be keys.
  const auto size = static_cast<std::size_t>(got);
  if (client.input.capacity() < client.input.size() + size) {
    std::string larger;
    larger.reserve(std::max(client.input.capacity() * 2, client.input.size() + size));
    larger = client.input;
    std::swap(larger, client.input);
    wipe_text(larger);
  }
  client.input.append(chunk.data(), size);
  wipe(std::as_writable_bytes(std::span(chunk).first(size)));
  const auto end = client.input.find('\n');
  if (end != std::string::npos) return answer(client, std::string_view(client.input).substr(0, end));
  if (client.input.size() > max_request_bytes)
    start_reply(client, ControlReply::failure("the request is larger than 8 MiB", 2));
}

void ControlServer::answer(Client& client, std::string_view line) {
  if (too_deep(line, max_depth))
    return start_reply(client, ControlReply::failure("the request is nested too deeply", 2));
  auto request = nlohmann::json::parse(line, nullptr, false);
  if (!request.is_object() || !request.contains("command") || !request["command"].is_string())
    return start_reply(client, ControlReply::failure("the request is not {\"command\": ..., \"args\": {...}}", 2));
  const auto command = request["command"].get<std::string>();
  auto args = request.contains("args") ? std::move(request["args"]) : nlohmann::json::object();
  wipe_text(client.input);
  if (!args.is_object()) return start_reply(client, ControlReply::failure("\"args\" is not an object", 2));
  if (!may_say(client.access, command))
    return start_reply(client, ControlReply::failure("not permitted: group postern-ro may only show", 4));
  start_reply(client, handler_(command, std::move(args)));
}

void ControlServer::start_reply(Client& client, ControlReply reply) {
  wipe_text(client.input);
  client.output = reply.line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  client.descriptor = std::move(reply.descriptor);
  client.afterwards = std::move(reply.afterwards);
  const int fd = client.socket.get();
  if (!loop_.watch(fd, EPOLLOUT, [this, fd](std::uint32_t events) { on_client(fd, events); })) return drop(fd);
}

void ControlServer::write_reply(Client& client) {
  const auto left = std::string_view(client.output).substr(client.sent);
  const int descriptor = client.descriptor.get();
  const ssize_t sent =
      send_descriptors(client.socket.get(), std::as_bytes(std::span(left)), {&descriptor, client.descriptor ? 1U : 0U});
  if (sent < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (sent < 0) return drop(client.socket.get());
  client.descriptor.reset();
  client.sent += static_cast<std::size_t>(sent);
  if (client.sent < client.output.size()) return;
  // A refused client may still be sending; closing with unread input would reset the connection under our answer.
  ::shutdown(client.socket.get(), SHUT_WR);
  std::array<char, 65536> rest;
  for (int i = 0; i < 64 && ::recv(client.socket.get(), rest.data(), rest.size(), MSG_DONTWAIT) > 0; ++i) {
  }
  drop(client.socket.get());
}

}  // namespace postern::loader
