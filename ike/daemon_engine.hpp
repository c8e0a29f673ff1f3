// What postern-ike does, apart from its control socket: the manager, tied to UDP sockets, to the worker's channel and
// to the log. The daemon's loop calls it when a descriptor is ready or a time has come.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>

#include "base/clock.hpp"
#include "ike/broker_client.hpp"
#include "ike/diagnose.hpp"
#include "ike/events.hpp"
#include "ike/manager.hpp"
#include "ike/pki_door.hpp"
#include "ike/policy_link.hpp"
#include "ike/resolver_door.hpp"
#include "ike/sa_door.hpp"
#include "ike/sa_installer.hpp"
#include "ike/sockets.hpp"

namespace postern::ike {

class Engine final : public Effects {
 public:
  // `watch`: a descriptor that on_ready() shall be called for. Closed descriptors leave an epoll set by themselves.
  using Watch = std::function<void(int fd)>;
  explicit Engine(Watch watch);
  ~Engine() override;

  // A new posternd: its broker is asked for what is missing, at the next on_time().
  void adopt(Fd broker, Time now);
  [[nodiscard]] bool has_broker() const { return static_cast<bool>(broker_); }

  // Error: a document that cannot be read; the policy in force stays.
  [[nodiscard]] Result<std::uint64_t> take_policy(const PolicyFiles& files, Time now);

  [[nodiscard]] bool on_ready(int fd, Time now);  // false: none of ours
  void on_time(Time now);
  [[nodiscard]] std::optional<Time> next_time() const;
  // Peers are told that every IKE SA ends.
  void say_goodbye(Time now) { manager_.shut_down(now); }

  [[nodiscard]] Manager& manager() { return manager_; }
  [[nodiscard]] const Manager& manager() const { return manager_; }
  [[nodiscard]] const Diagnosis& diagnosis() const { return diagnosis_; }
  [[nodiscard]] const UdpSockets& sockets() const { return sockets_; }
  [[nodiscard]] const SaInstaller& installer() const { return installer_; }
  [[nodiscard]] EventLog& events() { return events_; }
  [[nodiscard]] const EventLog& events() const { return events_; }
  [[nodiscard]] bool has_pki() const { return pki_.connected(); }
  [[nodiscard]] bool has_worker() const { return door_.connected(); }

  // Effects
  void send(const SendDatagram& datagram) override { sockets_.send(datagram); }
  void send(const SendKeepalive& keepalive) override { sockets_.send(keepalive); }
  [[nodiscard]] Result<void> install(const InstallChild& child) override;
  void expect(const ExpectChild& child) override { installer_.expect(child); }
  void switch_outbound(ChildId id) override { installer_.switch_outbound(id); }
  [[nodiscard]] Result<void> move(const MoveChild& child) override { return installer_.move(child); }
  void remove(ChildId id) override { installer_.remove(id, Clock::now()); }
  void tell(const Event& event) override;
  void ask(std::uint64_t session, const AskPki& question) override { pki_.ask(session, question); }
  void assign(const std::string& interface, const std::vector<IpAddress>& addresses) override;
  void resolve(const PeerName& name) override { resolver_.ask(name); }
  void fetch(const CertificateFetches::Fetch& what) override { resolver_.fetch(what); }

 private:
  void tell_addresses(const std::string& interface, const std::vector<IpAddress>& addresses);
  void open_sockets(Time now);
  void take_socket(const UdpSockets::Row& row, Result<Fd> socket);
  void connect_worker(Time now);
  void take_channel(Result<Fd> channel);
  void connect_pki(Time now);
  void on_pki(Time now);
  void connect_resolver(Time now);
  void on_resolver(Time now);
  void reconcile(Time now);
  void worker_lost(const std::string& why, Time now);
  void on_worker(Time now);
  void on_worker_message(const ChannelMessage& message, Time now);
  void poll_counters(Time now);

  Watch watch_;
  BrokerClient broker_;
  UdpSockets sockets_;
  ChannelDoor door_;
  SaInstaller installer_{door_};
  PkiDoor pki_;
  ResolverDoor resolver_;
  EventLog events_;
  Diagnosis diagnosis_;
  Manager manager_;
  std::map<std::string, std::vector<IpAddress>> assigned_;  // by peers, by interface; posternd has heard of them
  bool has_policy_ = false;
  std::set<UdpSockets::Row> complained_;  // sockets that posternd could not open: said once
  std::optional<Time> next_poll_, next_connect_, next_open_, next_pki_, next_resolver_;
};

}  // namespace postern::ike
