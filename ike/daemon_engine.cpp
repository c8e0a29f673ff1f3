#include "ike/daemon_engine.hpp"

#include <algorithm>
#include <set>

#include "base/log.hpp"
#include "crypto/random.hpp"
#include "ike/earliest.hpp"

namespace postern::ike {
namespace {

constexpr std::chrono::milliseconds reconnect_every{200};
constexpr std::chrono::seconds reopen_every{5};
constexpr std::chrono::milliseconds shortest_poll{250};
constexpr std::chrono::seconds longest_poll{5};
constexpr int poll_cost = 20;  // counters may take one part in so many of our time

double random_share() {
  std::array<std::byte, 4> bytes{};
  if (!crypto::random_bytes(bytes)) return 0.5;
  return static_cast<double>(load_be32(bytes.data())) / 4294967296.0;
}

std::vector<std::uint32_t> tables_of(const Policy& policy) {
  std::set<std::uint32_t> out;
  for (const auto& connection : policy.connections) out.insert(connection->fvrf);
  return {out.begin(), out.end()};
}

bool uses_certificates(const Policy& policy) {
  return std::ranges::any_of(policy.connections, [](const auto& one) {
    return is_signature(one->local_auth) || is_signature(one->remote_auth) || uses_eap_tls(*one);
  });
}

bool needs_resolver(const Policy& policy) {
  return std::ranges::any_of(policy.connections, [](const auto& one) {
    return one->is_named() || one->redirect.follow || !one->options.cert_lookup.empty();
  });
}

}  // namespace

Engine::Engine(Watch watch)
    : watch_(std::move(watch)),
      manager_({this,
                [](MutableBytes out) { return crypto::random_bytes(out); },
                {},
                {},
                [this](const std::string& name) { return pki_.trustpoint(name); }}) {}

Engine::~Engine() = default;

void Engine::adopt(Fd broker, Time now) {
  broker_ = BrokerClient(std::move(broker));
  for (const auto& [interface, addresses] : assigned_) tell_addresses(interface, addresses);
  if (!has_policy_) return;
  next_open_ = now;
  if (!door_.connected()) next_connect_ = now;
  if (uses_certificates(*manager_.policy()) && !pki_.connected()) next_pki_ = now;
  if (needs_resolver(*manager_.policy()) && !resolver_.connected()) next_resolver_ = now;
}

Result<std::uint64_t> Engine::take_policy(const PolicyFiles& files, Time now) {
  POSTERN_TRY(policy, decode_policy(files));
  const std::uint64_t generation = policy.generation;
  if (has_policy_ && manager_.policy()->generation == generation) return generation;
  auto shared = std::make_shared<const Policy>(std::move(policy));
  has_policy_ = true;
  spdlog::info("policy {}: {} connections", generation, shared->connections.size());
  manager_.set_policy(shared, now);
  installer_.set_policy(*shared, now);
  next_open_ = now;
  if (!door_.connected()) next_connect_ = now;
  if (uses_certificates(*shared) && !pki_.connected()) next_pki_ = now;
  if (needs_resolver(*shared) && !resolver_.connected()) next_resolver_ = now;
  return generation;
}

// Asks for what is missing. What posternd does not answer, or refuses, is asked for again.
void Engine::open_sockets(Time now) {
  next_open_.reset();
  const auto missing = sockets_.keep_only(tables_of(*manager_.policy()));
  if (!broker_ || missing.empty()) return;
  next_open_ = now + reopen_every;
  for (const UdpSockets::Row& row : missing) {
    const auto asked = broker_.udp_socket(row.fvrf, row.family, row.port,
                                          [this, row](Result<Fd> socket) { take_socket(row, std::move(socket)); });
    if (!asked) return spdlog::warn("{}", asked.error().message());
  }
}

void Engine::take_socket(const UdpSockets::Row& row, Result<Fd> socket) {
  if (socket) {
    const auto missing = sockets_.keep_only(tables_of(*manager_.policy()));
    if (std::ranges::find(missing, row) == missing.end()) return;
    watch_(socket->get());
    sockets_.add(row, std::move(*socket));
    complained_.erase(row);
    if (missing.size() == 1) next_open_.reset();
  } else if (complained_.insert(row).second) {
    spdlog::warn("no socket for IPv{} port {} in table {}: {}", static_cast<int>(row.family), row.port, row.fvrf,
                 socket.error().message());
  }
}

// --- the worker

void Engine::connect_worker(Time now) {
  next_connect_.reset();
  if (!broker_ || !has_policy_ || door_.connected()) return;
  next_connect_ = now + reconnect_every;
  const auto asked = broker_.worker_channel([this](Result<Fd> channel) { take_channel(std::move(channel)); });
  if (!asked) spdlog::warn("{}", asked.error().message());
}

void Engine::take_channel(Result<Fd> channel) {
  if (!channel) return;  // no worker runs: asked again soon
  // Each channel that is given ends the one before.
  door_.connect(std::move(*channel));
  next_connect_.reset();
  watch_(door_.fd());
  reconcile(Clock::now());
}

void Engine::reconcile(Time now) {
  const auto found = installer_.reconcile(now);
  if (!found) return worker_lost(found.error().message(), now);
  next_poll_ = now + shortest_poll;
  if (!found->lost.empty() || !found->survivor_flows.empty())
    spdlog::info("data plane: {} children lost, {} flows served by SAs of an earlier life", found->lost.size(),
                 found->survivor_flows.size());
  manager_.on_survivors(found->survivor_flows, found->survivor_spis, now);
  for (const ChildId id : found->lost) manager_.on_child_lost(id, now);
}

void Engine::worker_lost(const std::string& why, Time now) {
  spdlog::warn("no channel to the worker: {}", why);
  door_.disconnect();
  next_poll_.reset();
  next_connect_ = now + reconnect_every;
}

void Engine::on_worker(Time now) {
  if (!door_.connected()) return;
  const auto messages = door_.take_events();
  if (!messages) return worker_lost(messages.error().message(), now);
  for (const ChannelMessage& message : *messages) on_worker_message(message, now);
}

void Engine::on_worker_message(const ChannelMessage& message, Time now) {
  if (message.header.type == ChannelType::acquire) {
    Acquire acquire;
    if (!message.read_into(acquire)) return;
    // We think that it has an SA, the worker does not: look what is there.
    if (installer_.serves(acquire.flow)) return reconcile(now);
    manager_.on_acquire(acquire.flow, now, Manager::HostPair{acquire.source, acquire.destination});
  } else if (message.header.type == ChannelType::sa_gone) {
    SaRow row;
    if (!message.read_into(row)) return;
    if (const auto id = installer_.child_of(row)) manager_.on_child_lost(*id, now);
  } else if (message.header.type == ChannelType::sa_expiry) {
    SaExpiry expiry;
    if (!message.read_into(expiry)) return;
    const auto id = installer_.child_of(expiry.sa);
    if (!id) return;
    const bool soft = expiry.kind == SaExpiryKind::soft || expiry.kind == SaExpiryKind::sequence_near_end;
    soft ? manager_.on_soft_expiry(*id, now) : manager_.on_hard_expiry(*id, now);
  } else if (message.header.type == ChannelType::peer_moved) {
    PeerMoved moved;
    if (!message.read_into(moved)) return;
    if (const auto id = installer_.child_of(moved.sa))
      manager_.on_peer_moved(*id, {moved.peer.address, moved.peer.port}, now);
  }
}

void Engine::poll_counters(Time now) {
  if (!door_.connected()) return;
  const auto traffic = installer_.poll(now);
  const Time done = Clock::now();
  if (!traffic) return worker_lost(traffic.error().message(), now);
  next_poll_ = done + std::clamp<Duration>((done - now) * poll_cost, shortest_poll, longest_poll);
  for (const SaInstaller::Traffic& one : *traffic) {
    if (one.inbound) manager_.on_inbound_traffic(one.id, now);
    if (one.outbound) manager_.on_outbound_traffic(one.id, now);
    if (one.idle) manager_.on_idle(one.id, now);
  }
}

// --- addresses that peers lend

void Engine::assign(const std::string& interface, const std::vector<IpAddress>& addresses) {
  assigned_[interface] = addresses;
  tell_addresses(interface, addresses);
  if (addresses.empty()) assigned_.erase(interface);
}

void Engine::tell_addresses(const std::string& interface, const std::vector<IpAddress>& addresses) {
  for (const Family family : {Family::v4, Family::v6}) {
    const auto one = std::ranges::find(addresses, family, [](const IpAddress& a) { return a.family(); });
    const auto address = one == addresses.end() ? std::nullopt : std::optional(*one);
    const auto told = broker_.tunnel_address(interface, family, address, [interface](const Result<Fd>& done) {
      if (!done) spdlog::warn("{}: posternd does not take the peer's address: {}", interface, done.error().message());
    });
    if (!told) spdlog::warn("{}", told.error().message());
  }
}

// --- postern-pki

void Engine::connect_pki(Time now) {
  next_pki_.reset();
  if (!broker_ || pki_.connected()) return;
  next_pki_ = now + reconnect_every;
  const auto asked = broker_.pki_channel([this](Result<Fd> channel) {
    if (!channel) return;  // it does not run: asked again soon
    pki_.connect(std::move(*channel));
    next_pki_.reset();
    watch_(pki_.fd());
  });
  if (!asked) spdlog::warn("{}", asked.error().message());
}

void Engine::on_pki(Time now) {
  if (const auto received = pki_.receive(); !received) {
    spdlog::warn("no channel to postern-pki: {}", received.error().message());
    next_pki_ = now + reconnect_every;
  }
}

// --- postern-resolver

void Engine::connect_resolver(Time now) {
  next_resolver_.reset();
  if (!broker_ || resolver_.connected()) return;
  next_resolver_ = now + reconnect_every;
  const auto asked = broker_.resolver_channel([this](Result<Fd> channel) {
    if (!channel) return;  // it does not run: asked again soon
    resolver_.connect(std::move(*channel));
    next_resolver_.reset();
    watch_(resolver_.fd());
  });
  if (!asked) spdlog::warn("{}", asked.error().message());
}

void Engine::on_resolver(Time now) {
  if (const auto received = resolver_.receive(); !received) {
    spdlog::warn("no channel to postern-resolver: {}", received.error().message());
    next_resolver_ = now + reconnect_every;
  }
}

// --- the loop's side

bool Engine::on_ready(int fd, Time now) {
  if (broker_ && fd == broker_.fd()) {
    if (const auto served = broker_.on_ready(); !served) broker_ = {};
    return true;
  }
  if (door_.connected() && fd == door_.fd()) {
    on_worker(now);
    return true;
  }
  if (pki_.connected() && fd == pki_.fd()) {
    on_pki(now);
    return true;
  }
  if (resolver_.connected() && fd == resolver_.fd()) {
    on_resolver(now);
    return true;
  }
  if (!sockets_.owns(fd)) return false;
  sockets_.receive(fd, [&](const Datagram& datagram) { manager_.on_datagram(datagram, now); });
  return true;
}

void Engine::on_time(Time now) {
  on_worker(now);  // events that came between two answers are with the channel, not in its socket
  if (next_connect_ && now >= *next_connect_) connect_worker(now);
  if (next_open_ && now >= *next_open_) open_sockets(now);
  if (next_poll_ && now >= *next_poll_) poll_counters(now);
  if (next_pki_ && now >= *next_pki_) connect_pki(now);
  if (next_resolver_ && now >= *next_resolver_) connect_resolver(now);
  while (auto answered = pki_.next())
    manager_.on_pki_answer(answered->session, answered->ticket, std::move(answered->answer), now);
  while (const auto answered = resolver_.next()) manager_.on_name_answer(answered->name, answered->answer, now);
  while (auto fetched = resolver_.next_fetched())
    manager_.on_url_answer(fetched->fetch, std::move(fetched->answer), now);
  manager_.on_timer(now);
}

std::optional<Time> Engine::next_time() const {
  if (pki_.has_answers() || resolver_.has_answers()) return Time{};
  return earliest({manager_.next_timer(), next_poll_, next_connect_, next_open_, next_pki_, next_resolver_});
}

// --- effects

Result<void> Engine::install(const InstallChild& child) {
  return installer_.install(child, random_share(), Clock::now());
}

void Engine::tell(const Event& event) {
  events_.take(event, Clock::now());
  diagnosis_.take(event, std::chrono::system_clock::now());
}

}  // namespace postern::ike
