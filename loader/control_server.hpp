// control.sock: one line of JSON asks, one line answers, the connection ends. Runs on the loop; never waits for a
// client.
//   {"command": "show crypto map", "args": {...}}
//   {"ok": true, "data": ...}   {"ok": false, "error": {"message": "...", "path": "/acls/0"}, "exit": 1}
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include <nlohmann/json.hpp>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "loader/control_access.hpp"
#include "loader/event_loop.hpp"

namespace postern::loader {

struct ControlReply {
  nlohmann::json line;               // the whole answer
  Fd descriptor;                     // travels with the line (capture); may be empty
  std::function<void()> afterwards;  // once the answer has left: stop, teardown

  [[nodiscard]] static ControlReply success(nlohmann::json data);
  [[nodiscard]] static ControlReply failure(const std::string& message, int exit = 1);
};

class ControlServer {
 public:
  // `args` holds what the client sent and may hold keys: the handler moves it on or drops it.
  using Handler = std::function<ControlReply(const std::string& command, nlohmann::json args)>;
  using PeerOf = std::function<Result<Peer>(int socket)>;

  static constexpr std::size_t max_request_bytes = 8U << 20;
  static constexpr std::size_t max_depth = 32;
  static constexpr std::size_t max_clients = 64;
  static constexpr std::chrono::seconds patience{20};

  // Binds `path`, replacing a socket that a dead posternd left. `peer_of` is the seam for tests.
  [[nodiscard]] static Result<std::unique_ptr<ControlServer>> create(EventLoop& loop, const std::string& path,
                                                                     Handler handler, ControlGroups groups,
                                                                     PeerOf peer_of = loader::peer_of);
  ~ControlServer();

 private:
  struct Client {
    Fd socket;
    Access access = Access::none;
    EventLoop::TimerId timer = 0;
    std::string input;
    std::string output;
    std::size_t sent = 0;
    Fd descriptor;
    std::function<void()> afterwards;
  };
  ControlServer(EventLoop& loop, Fd listener, std::string path, Handler handler, ControlGroups groups, PeerOf peer_of);
  void accept_clients();
  void on_client(int fd, std::uint32_t events);
  void read_request(Client& client);
  void answer(Client& client, std::string_view line);
  void start_reply(Client& client, ControlReply reply);
  void write_reply(Client& client);
  void drop(int fd);

  EventLoop& loop_;
  Fd listener_;
  std::string path_;
  Handler handler_;
  ControlGroups groups_;
  PeerOf peer_of_;
  std::unordered_map<int, std::unique_ptr<Client>> clients_;
};

// A bound, listening Unix socket at `path` with `mode`; a stale socket file there is replaced. For worker.sock too.
[[nodiscard]] Result<Fd> listen_at(const std::string& path, int type, unsigned mode);
// Connected; an error when nobody listens.
[[nodiscard]] Result<Fd> connect_to(const std::string& path, int type);

}  // namespace postern::loader
