// postern-ike's side of a node: adopt or start it, give it what it may have, replace it when it dies.
#include <algorithm>
#include <fstream>
#include <string>

#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/log.hpp"
#include "ike/policy_link.hpp"
#include "loader/node.hpp"
#include "loader/sockets.hpp"

namespace postern::loader {

namespace {

constexpr std::chrono::seconds tell_again{1};

// Greater than every one before, also than those of a posternd before this one.
std::uint64_t next_generation(std::uint64_t last) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::max(last + 1,
                  static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count()));
}

// What tokens of crash detection rest on (ike/crash_token.hpp): the machine's id, which systemd wants to be kept from
// the network, and never used but through a hash; beside the node's name, because nodes of one machine are strangers.
Secret node_key(const std::string& name) {
  std::ifstream file("/etc/machine-id");
  std::string id;
  if (!std::getline(file, id) || id.empty()) return {};
  return Secret::copy_of(as_bytes(id + " " + name));
}

}  // namespace

void Node::bring_ike() {
  const MakeBroker make_broker = [this](Fd socket) { return broker_for_ike(std::move(socket)); };
  ike_ = adopt_ike(state_.ike, paths_.file("ike.sock"), make_broker);
  if (!ike_) {
    auto started = start_ike(paths_.name, paths_.file("ike.sock"), make_broker);
    if (started) ike_ = std::move(*started);
    if (!started) spdlog::error("{}", started.error().message());
  }
  ike_started_ = Clock::now();
  if (!ike_) {
    loop_->after(ike_pace_.after_crash(ike_started_, Clock::now()) + std::chrono::seconds(1), [this] { bring_ike(); });
    return;
  }
  ike_->also = [this] { return worker_ ? worker_->link.fd() : -1; };
  ike_->serve_also = [this] { on_worker_message(); };
  state_.ike = ike_->process.id;
  save_state();
  if (const auto watched = watch_ike(); !watched) spdlog::error("{}", watched.error().message());
  tell_ike();
}

// What IKE may have: its two ports, in the front-door VRFs that the document's interfaces are in, while something is to
// be negotiated (IKE-01); and its channel to the worker.
BrokerGrant Node::grant_for_ike() const {
  BrokerGrant grant{"postern-ike", {}, {}, false, false, {}, true, true, true, true};
  if (!plan_.negotiates) return grant;
  grant.udp_ports = {500, 4500};
  grant.vrfs = {0};
  for (const config::Vrf& vrf : document_.vrfs) grant.vrfs.push_back(vrf.table);
  return grant;
}

std::unique_ptr<Broker> Node::broker_for_ike(Fd socket) {
  const auto refuse = [](auto&&...) -> Result<Fd> { return fail("broker: not granted", EPERM); };
  BrokerOpeners openers{
      [this](std::uint32_t vrf, Family family, std::uint16_t port) { return open_for_ike(vrf, family, port); },
      refuse,
      refuse,
      refuse,
      [this] { return worker_channel_for_ike(); },
      [this] { return pki_channel_for_ike(); },
      [this] { return resolver_channel_for_ike(); },
      [this](const std::string& name, Family family, const std::optional<IpAddress>& address) {
        return lend_address(name, family, address);
      }};
  return std::make_unique<Broker>(std::move(socket), grant_for_ike(), std::move(openers));
}

Result<void> Node::watch_ike() {
  POSTERN_CHECK(loop_->watch(ike_->broker->fd(), EPOLLIN, [this](std::uint32_t) {
    if (const auto served = ike_->broker->serve(); !served) {
      spdlog::warn("{}", served.error().message());
      loop_->forget(ike_->broker->fd());
    }
  }));
  return loop_->watch(ike_->process.pidfd.get(), EPOLLIN, [this](std::uint32_t) { ike_lost(); });
}

void Node::ike_lost() {
  loop_->forget(ike_->process.pidfd.get());
  loop_->forget(ike_->broker->fd());
  spdlog::error("postern-ike {} ended ({})", ike_->process.id.pid, reap(ike_->process));
  ike_.reset();
  told_generation_ = 0;
  loop_->after(ike_pace_.after_crash(ike_started_, Clock::now()), [this] { bring_ike(); });
}

// --- policy

void Node::set_policy(ike::Policy policy) {
  policy.node_key = node_key(paths_.name);
  if (policy_ && same_policy(*policy_, policy)) return;
  policy.generation = next_generation(policy_ ? policy_->generation : 0);
  policy_ = std::move(policy);
}

// What it has not heard of yet; tried again until it answers.
void Node::tell_ike() {
  if (!ike_ || !policy_) return;
  ike_->broker->set_grant(grant_for_ike());
  if (told_generation_ == policy_->generation) return;
  const auto told = hand_policy_over();
  if (told) return;
  spdlog::error("postern-ike has not taken its policy: {}", told.error().message());
  loop_->after(tell_again, [this] { tell_ike(); });
}

Result<void> Node::hand_policy_over() {
  POSTERN_TRY(files, ike::encode_policy(*policy_));
  const int descriptors[] = {files.document.get(), files.secrets.get()};
  const auto answer = ike_->ask({{"command", ike::policy_command}}, descriptors, slow_answer);
  if (const auto wiped = ike::wipe_secrets(files.secrets); !wiped) spdlog::warn("{}", wiped.error().message());
  if (!answer) return std::unexpected(answer.error());
  if (answer->value("ok", false) != true)
    return fail(answer->value("error", nlohmann::json::object()).value("message", std::string("refused")));
  told_generation_ = policy_->generation;
  spdlog::info("postern-ike has policy {}: {} connections", told_generation_, policy_->connections.size());
  return {};
}

// --- addresses that peers lend to tunnels (config: negotiated_addresses)

// What the document still allows it to have.
std::vector<Prefix> Node::lent_addresses(const config::Tunnel& tunnel) const {
  std::vector<Prefix> out;
  const auto lent = state_.lent.find(tunnel.device());
  if (lent == state_.lent.end()) return out;
  for (const std::string& text : lent->second)
    if (const auto one = Prefix::parse(text); one && config::may_be_lent(tunnel, one->address)) out.push_back(*one);
  return out;
}

// The kernel drops a device's IPv4 routes with its last address: those of a tunnel that waits for one are wanted.
Result<void> Node::keep_routes(const config::Tunnel& tunnel) {
  for (const PlannedTunnel& planned : plan_tunnels(document_, facts_))
    for (const Prefix& route : planned.routes)
      if (planned.name == tunnel.device())
        POSTERN_CHECK(devices_->ensure_route(planned.name, route, planned.table, state_.made));
  return {};
}

// postern-ike has checked it against the same list; but it is postern-ike that reads what peers send.
Result<void> Node::lend_address(const std::string& name, Family family, const std::optional<IpAddress>& address) {
  const auto tunnel = std::ranges::find(document_.tunnels, name, &config::Tunnel::device);
  if (tunnel == document_.tunnels.end() || tunnel->negotiated_addresses.empty())
    return fail("broker: no tunnel that is lent addresses", EPERM);
  if (address && !config::may_be_lent(*tunnel, *address)) return fail("broker: not an address for " + name, EPERM);
  std::vector<std::string>& lent = state_.lent[name];
  std::erase_if(lent, [&](const std::string& text) {
    const auto one = Prefix::parse(text);
    return !one || one->address.family() == family;
  });
  if (address) lent.push_back(Prefix::host(*address).text());
  std::vector<Prefix> wanted = lent_addresses(*tunnel);
  for (const Prefix& one : wanted) POSTERN_CHECK(devices_->ensure_address(name, one, state_.made));
  wanted.insert(wanted.end(), tunnel->addresses.begin(), tunnel->addresses.end());
  POSTERN_CHECK(devices_->keep_only_addresses(name, wanted, state_.made));
  POSTERN_CHECK(keep_routes(*tunnel));
  if (lent.empty()) state_.lent.erase(name);
  spdlog::info("{}: {}", name, address ? "the peer lends us " + address->text() : "what the peer had lent is gone");
  save_state();
  return {};
}

// --- descriptors

Result<Fd> Node::worker_channel_for_ike() {
  if (!worker_) return fail("broker: no worker runs", EAGAIN);
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return fail_errno("broker: socketpair");
  const Fd for_worker(ends[0]);
  Fd for_ike(ends[1]);
  POSTERN_CHECK(worker_->link.add_client(for_worker.get()));
  return for_ike;
}

Result<Fd> Node::open_for_ike(std::uint32_t vrf, Family family, std::uint16_t port) {
  UdpSpec spec{family, port, {}, port == 4500 ? UdpTaker::ike : UdpTaker::all};
  for (const config::Vrf& known : document_.vrfs)
    if (known.table == vrf) spec.scope.vrf_device = known.name;
  return open_udp(spec);
}

}  // namespace postern::loader
