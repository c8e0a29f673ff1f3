// What postern-ike tells about itself, in the shape of the control protocol (loader/control_server.hpp). Pure: from
// plain values to JSON; the layouts are the command line's.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "ike/diagnose.hpp"
#include "ike/manager.hpp"
#include "ike/sockets.hpp"

namespace postern::ike {

struct DaemonFacts {
  int pid = 0;
  std::uint64_t uptime_s = 0;
  bool broker_connected = false, worker_connected = false, debug = false;
  std::uint64_t requests = 0;
  std::size_t survivors = 0;
  std::vector<UdpSockets::Row> sockets;
  SocketCounters counters;
};

// All that an answer is made of. Borrowed.
struct ShowInput {
  DaemonFacts facts;
  Time now;
  const Policy* policy = nullptr;
  std::vector<Manager::Row> rows;
  std::set<std::string> negotiating;
  const Diagnosis* diagnosis = nullptr;
  std::map<std::uint32_t, IpAddress> current_peers{};  // of flows with several
  std::vector<Manager::NameRow> names{};
};

[[nodiscard]] nlohmann::json success(nlohmann::json data);
[[nodiscard]] nlohmann::json failure(const std::string& message, int exit);

// The answer to one "show ..." command, or nothing when it is none of these:
//   show ike                       show crypto ikev2 proposal | policy | profile   args: name
//   show crypto ikev2 sa           show crypto ikev2 session                       args: detail (the renderer's), peer
//   show crypto ikev2 diagnose     args: peer
//   show crypto isakmp sa | peers  show crypto session   (for posternd, which adds the flows)
[[nodiscard]] std::optional<nlohmann::json> show(std::string_view command, const nlohmann::json& args,
                                                 const ShowInput& input);

// show_policy.cpp
[[nodiscard]] nlohmann::json proposals_json(const Policy& policy, const std::string& name);
[[nodiscard]] nlohmann::json policies_json(const Policy& policy, const std::string& name);
[[nodiscard]] nlohmann::json profiles_json(const Policy& policy, const std::string& name);
// show_sessions.cpp: SO-10, SO-11; and what `show crypto session` needs (SO-03, SO-05)
[[nodiscard]] nlohmann::json sessions_json(const ShowInput& input, const std::optional<IpAddress>& peer);
[[nodiscard]] nlohmann::json crypto_session_json(const ShowInput& input);

}  // namespace postern::ike
