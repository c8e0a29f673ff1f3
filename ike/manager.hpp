// All IKE SAs of the process: finds the session of a datagram, starts and ends sessions as policy, traffic and the
// operator want, and does what they ask for, in order, through Effects. Sans-IO, as a session is: no clock, no socket,
// no random numbers of its own.
//
// manager.cpp             actions, timers, tables           manager_input.cpp    datagrams: to a session, or refused
// manager_connections.cpp what shall be up: policy, triggers, back-off, duplicates
// manager_names.cpp       peers by name: asked for before they are negotiated with
// manager_redirect.cpp  from one gateway to another
// manager_flows.cpp       which of several peers a flow goes to
// manager_moves.cpp       an address of ours that is another now
// manager_derived.cpp     flows of pairs of hosts, and of what a peer takes in SAs of their own alone
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "ike/address_pool.hpp"
#include "ike/certificate_fetches.hpp"
#include "ike/cookie.hpp"
#include "ike/crash_token.hpp"
#include "ike/half_open.hpp"
#include "ike/peer_names.hpp"
#include "ike/policy.hpp"
#include "ike/rate.hpp"
#include "ike/session.hpp"
#include "ike/sockets.hpp"
#include "ike/spi_pool.hpp"

namespace postern::ike {

// What the manager does to the world; the daemon's is over sockets and the worker's channel, a test's is a list.
class Effects {
 public:
  virtual ~Effects() = default;
  virtual void send(const SendDatagram& datagram) = 0;
  virtual void send(const SendKeepalive& keepalive) = 0;
  virtual void expect(const ExpectChild& child) = 0;
  // Both SAs are in the data plane when this returns without an error, and neither is when it returns one.
  [[nodiscard]] virtual Result<void> install(const InstallChild& child) = 0;
  virtual void switch_outbound(ChildId id) = 0;
  // An error: its SAs are of no use any more.
  [[nodiscard]] virtual Result<void> move(const MoveChild& child) = 0;
  virtual void remove(ChildId id) = 0;
  virtual void tell(const Event& event) = 0;
  // The answer comes by Manager::on_pki_answer(), never within this call.
  virtual void ask(std::uint64_t session, const AskPki& question) = 0;
  // These, and no other that a peer has lent, are the interface's from now on; one of a family at most.
  virtual void assign(const std::string& interface, const std::vector<IpAddress>& addresses) = 0;
  // The answers come by Manager::on_name_answer() and on_url_answer(), never within these calls.
  virtual void resolve(const PeerName& name) = 0;
  virtual void fetch(const CertificateFetches::Fetch& what) = 0;
};

struct ManagerLimits {
  std::size_t half_open = 2000;  // responders without a peer that has proved who it is
  // Of one address, or /64 of IPv6: from so many on COOKIE is demanded of it, and so many it may have, of which each
  // port behind it has a share (HalfOpen).
  std::size_t cookie_from_per_address = 8, half_open_per_address = 128;
  std::size_t cookie_from = 100;  // half-open ones from which on COOKIE is demanded
  Duration first_retry = std::chrono::seconds(1), last_retry = std::chrono::seconds(60);
  std::uint32_t retransmits_of_many = 3;                   // to a peer beside which there are others: eight seconds
  Duration duplicate_patience = std::chrono::seconds(10);  // how long two IKE SAs of one connection may live together
  Duration duplicate_pause = std::chrono::seconds(60);     // between two that we close for it
};

class Manager {
 public:
  struct Setup {
    Effects* effects = nullptr;
    std::function<Result<void>(MutableBytes)> random;
    ManagerLimits limits;
    Lifetimes lifetimes;
    // What postern-pki has said of a trustpoint (Surroundings).
    std::function<std::optional<pki::TrustpointFacts>(const std::string&)> trustpoint = {};
  };
  explicit Manager(Setup setup);
  ~Manager();

  // --- what comes in
  void set_policy(std::shared_ptr<const Policy> policy, Time now);
  void on_datagram(const Datagram& datagram, Time now);
  // To Effects::ask(); a session that is gone by now is no fault.
  void on_pki_answer(std::uint64_t session, std::uint64_t ticket, pki::Answer answer, Time now);
  // To Effects::resolve(); a name that the policy has no more is no fault.
  void on_name_answer(const PeerName& name, const resolver::Answer& answer, Time now);
  // To Effects::fetch().
  void on_url_answer(std::uint64_t fetch, resolver::UrlAnswer answer, Time now);
  void on_timer(Time now);
  [[nodiscard]] std::optional<Time> next_timer() const;

  // --- from the data plane. Ids that are not known (any more) are ignored.
  // `hosts`: of the packet that asks, ours first.
  struct HostPair {
    IpAddress local, remote;
  };
  void on_acquire(std::uint32_t flow, Time now, const std::optional<HostPair>& hosts = {});
  void on_soft_expiry(ChildId id, Time now);
  void on_hard_expiry(ChildId id, Time now);
  void on_idle(ChildId id, Time now);
  void on_inbound_traffic(ChildId id, Time now);
  void on_outbound_traffic(ChildId id, Time now);
  void on_peer_moved(ChildId id, const Endpoint& remote, Time now);  // its packets come from there
  void on_child_lost(ChildId id, Time now);                          // its SAs are gone from the data plane
  // SAs of an earlier life serve these flows: negotiate new ones, without waiting for traffic.
  void on_survivors(const std::set<std::uint32_t>& flows, std::span<const std::uint32_t> spis, Time now);

  // --- the operator. A filter's empty fields match everything; interface, map and sequence are those of children.
  struct Filter {
    std::optional<IpAddress> remote;
    std::string remote_name;
    std::string interface, map, connection;
    std::optional<std::uint32_t> sequence, spi;
  };
  struct Count {
    std::uint32_t matched = 0, done = 0;
  };
  Count clear_sessions(const Filter& filter, Time now);
  Count clear_children(const Filter& filter, Time now);
  Count connect(const Filter& filter, Time now);  // done: those that were not up yet
  Count rekey(const Filter& filter, Time now);    // IKE SAs
  // RFC 5685 §5. matched: IKE SAs that stand; done: those whose peer is sent there.
  Count redirect(const Filter& filter, const GatewayIdentity& to, Time now);

  // Every session is closed, the peers are told, once and without waiting for answers.
  void shut_down(Time now);

  struct Row {
    std::uint32_t number = 0;  // session id of `show`
    std::optional<Time> established;
    SessionView session;
  };
  [[nodiscard]] std::vector<Row> rows(Time now) const;
  // Connections that are being negotiated, or wait for their next attempt.
  [[nodiscard]] std::set<std::string> negotiating() const;
  [[nodiscard]] const std::shared_ptr<const Policy>& policy() const { return policy_; }
  [[nodiscard]] std::size_t half_open() const { return half_open_.size(); }
  [[nodiscard]] std::size_t size() const { return sessions_.size(); }
  // CM-05: of flows with several peers, the address of the one that counts now.
  [[nodiscard]] std::map<std::uint32_t, IpAddress> current_peers() const;
  // Connections whose peer has a name.
  struct NameRow {
    std::string connection, name;
    Family family = Family::v4;
    bool dynamic = false;
    std::optional<IpAddress> address;  // nothing: unresolved, `problem` says why
    std::string problem;               // of the last look-up, also where an earlier one's address still counts
  };
  [[nodiscard]] std::vector<NameRow> names() const;
  [[nodiscard]] const TemporaryFlows& temporary_flows() const { return temporary_; }

 private:
  using Key = std::uint64_t;  // a session's own SPI
  struct InitKey {            // what a retransmitted IKE_SA_INIT request is known by
    std::uint64_t spi_i = 0;
    Endpoint remote;
    std::uint32_t fvrf = 0;
    bool operator==(const InitKey&) const = default;
  };
  struct InitKeyHash {
    std::size_t operator()(const InitKey& key) const {
      return std::hash<std::uint64_t>{}(key.spi_i) ^ std::hash<std::uint16_t>{}(key.remote.port);
    }
  };
  struct Entry {
    std::unique_ptr<Session> session;
    std::uint32_t number = 0;
    Time born;
    std::optional<Time> established, timer;
    std::optional<InitKey> init;  // of a responder
    bool half_open = false;
    bool silent = false;          // liveness gave it up
    bool closing = false;         // by us or the peer: it counts for nothing any more
    bool redirected = false;      // it ends because its gateway has sent us elsewhere
    std::optional<Key> replaces;  // an IKE SA with a gateway that we leave
  };
  struct Child {
    Key session = 0;
    std::string connection, name;
  };
  struct Pause {  // of a child that the peer would not make
    std::uint32_t failures = 0;
    Time until{};
  };
  // A connection of the policy, and what we owe it.
  struct Wish {
    std::shared_ptr<const Connection> connection;
    std::set<std::string> children;  // to be set up at the next attempt
    std::uint32_t failures = 0;      // in a row
    Time not_before{};               // no attempt earlier
    std::map<std::string, Pause> refused;
    std::optional<Time> due;  // attempt or review then
    // RFC 7296 §2.9, by the name of the child that was asked for: what asked last; those that the peer makes for pairs
    // of addresses alone; the pieces of those that it makes in several SAs, which are up while that is.
    std::map<std::string, HostPair> asked_by;
    std::set<std::string> by_pairs, pieces;
    bool just_answered = false;  // its peer's name was asked for, for the attempt that is being made
    Time last_duplicate{};
  };
  // RFC 5685, of a connection that has been sent elsewhere lately.
  struct Redirection {
    std::optional<IpAddress> to;   // where it is, or is being set up; nothing: at its own gateway
    GatewayIdentity from;          // who sent it there
    std::vector<Time> times;       // of redirects within the period of §7
    std::optional<PeerName> name;  // of the gateway, while that is being looked up
    std::set<std::string> children;
    std::optional<Key> replaces;
  };
  struct Batch {
    Key key = 0;
    Actions actions;
  };

  // manager.cpp
  Entry& add(std::unique_ptr<Session> session, Time now);
  void begin(std::unique_ptr<Session> session, Actions first, const std::optional<InitKey>& init, Time now);
  void run(Key key, Actions actions, Time now);
  void perform(Key key, Action& action, Time now);
  void do_install(Key key, InstallChild& child, Time now);
  void do_add(AddSession& successor, Time now);
  void do_fetch(Key key, const FetchCertificates& wanted, Time now);
  void give_certificates(Time now);
  void do_closed(Key key, const Closed& closed, Time now);
  void settle(Key key, Time now);
  void arm(Key key, Entry& entry);
  void forget(Key key);
  [[nodiscard]] Entry* find(Key key);
  template <class F>
  void with(Key key, Time now, F&& call);  // call(session) -> Actions
  template <class F>
  void with_child(ChildId id, Time now, F&& call);
  void close(Key key, Time now, bool tell_peer);

  // manager_input.cpp
  void on_init_request(const Datagram& datagram, const Header& header, Time now);
  [[nodiscard]] bool may_begin(const Datagram& datagram, const Header& header, Time now);
  enum class Room : std::uint8_t { there, made, none };  // made: another one gives way
  [[nodiscard]] Room room_for(const Endpoint& remote) const;
  void make_room_for(const Endpoint& remote, Time now);
  void demand_cookie(const Datagram& datagram, const Header& header, Bytes nonce, Time now);
  void refuse_stranger(const Datagram& datagram, const Header& header, Time now);
  void refuse_version(const Datagram& datagram, Time now);
  void answer_unknown_spi(const Datagram& datagram, const Header& header, Time now);
  void show_crash_tokens(const Header& header, Message& answer);
  void answer(const Datagram& datagram, const Message& message);
  void ignored(const Datagram& datagram, std::string why);

  // manager_connections.cpp
  void want(Wish& wish, const std::vector<std::string>& children, Time now, Duration delay);
  void schedule(Wish& wish, Time at);
  void attempt(Wish& wish, Time now);
  void review(Wish& wish, Time now);
  [[nodiscard]] std::set<std::string> live_of(const Wish& wish, Time now) const;
  void close_duplicate(Wish& wish, Time now);
  void reauthenticate(Key key, Time now);
  void reassign(const std::string& interface);
  void begin_attempt(const Wish& wish, std::vector<std::string> children, bool initial_contact, Time now);
  void failed(Wish& wish, Time now);
  void child_failed(const Event& event, Time now);
  [[nodiscard]] Duration back_off(std::uint32_t failures);
  [[nodiscard]] static bool paused(const Wish& wish, const std::string& child, Time now);
  [[nodiscard]] bool alone_with(const Connection& connection, Key self) const;
  void set_up(Wish& wish);
  void policy_changed(const Connection& before, const Connection* after, Time now);
  void template_changed(const Connection& before, const Connection* after, Time now);
  [[nodiscard]] std::vector<std::string> always_up(const Connection& connection) const;

  // manager_flows.cpp
  struct FlowOwner {
    std::string connection, child;
  };
  // The peers that a flow may go to, in order of preference; most have one.
  struct FlowPeers {
    std::vector<FlowOwner> owners;
    std::size_t current = 0;
    std::size_t failures = 0;  // of different peers in a row
    bool default_first = false;
  };
  void flows_changed();
  [[nodiscard]] const FlowOwner* owner_of(std::uint32_t flow) const;
  [[nodiscard]] bool is_current(const std::string& connection, const ChildPolicy& child) const;
  [[nodiscard]] bool has_others(const Connection& connection) const;
  void flow_is_up(const InstallChild& child);
  void try_next_peer(const Connection& connection, const std::vector<std::string>& children, Time now);
  void back_to_default(std::uint32_t flow);

  // manager_derived.cpp
  struct Ends {
    std::vector<Selector> local, remote;
  };
  [[nodiscard]] std::optional<std::string> child_of_hosts(Wish& wish, const ChildPolicy& base, const HostPair& hosts,
                                                          Time now);
  [[nodiscard]] std::optional<std::string> derived_child(Wish& wish, const ChildPolicy& base, Ends ends,
                                                         std::uint32_t limit, Time now);
  void go_by_pairs(Wish& wish, const std::string& child, Time now);
  void cover_rest(Key key, const PartlyCovered& news, Time now);
  [[nodiscard]] std::vector<std::string> missing_pieces(const Wish& wish, const std::set<std::string>& live,
                                                        Time now) const;
  void forget_derived(Wish& wish);
  [[nodiscard]] bool goes_by_pairs(const std::string& connection, const std::string& child) const;
  [[nodiscard]] bool has_live(const Wish& wish, const std::string& child, Time now) const;
  void put_children(Wish& wish, std::vector<ChildPolicy> children);
  void hosts_refused(const Connection& connection, const ChildPolicy& base, std::uint32_t limit);
  [[nodiscard]] std::shared_ptr<const Policy> with_hosts_of(const Policy& before, std::shared_ptr<const Policy> after,
                                                            const std::map<std::string, std::string>& renamed) const;

  // manager_moves.cpp
  [[nodiscard]] static std::map<std::string, std::string> renamed(const Policy& before, const Policy& after);
  void rename(const std::string& from, const std::string& to);
  [[nodiscard]] bool goes_along(Key key, const Connection& before, const Connection& after, Time now);
  void moves_on_time(Time now);

  // manager_names.cpp
  void names_changed(Time now);
  void ask_for(const PeerName& name, Time now);
  [[nodiscard]] std::shared_ptr<const Policy> with_addresses(std::shared_ptr<const Policy> policy) const;
  [[nodiscard]] bool peer_is_known(const Wish& wish, Time now);
  void peer_failed(const Connection& connection, Time now);
  void go_on(Wish& wish, const PeerNames::State& state, bool news, Time now);
  void tell_of_name(const Connection& connection, const IpAddress& address);
  void tell_unresolved(const Connection& connection, const std::string& problem);
  [[nodiscard]] bool ask_about_stranger(const Datagram& datagram, Time now);
  void names_on_time(Time now);
  void tell(const Event& event);

  // manager_redirect.cpp
  void on_redirected(Key key, const Redirected& news, Time now);
  void on_redirect_name(const PeerName& name, const resolver::Answer& answer, Time now);
  void go_to(Wish& wish, const IpAddress& gateway, Time now);
  void give_up_redirect(Wish& wish, Time now);
  void leave_old_gateway(Key key, Entry& entry, Time now);
  void gateway_lost(const Connection& connection);
  void go_home(const std::string& connection);
  void place_connection(const std::string& name);
  void keep_redirect_names();
  void prune_redirections();
  [[nodiscard]] std::shared_ptr<const Policy> with_redirects(std::shared_ptr<const Policy> policy) const;
  [[nodiscard]] std::optional<GatewayIdentity> redirected_from(const Connection& connection) const;
  [[nodiscard]] std::set<IpAddress> own_addresses() const;
  void tell_redirect_failed(const Connection& connection, const Endpoint& remote, Failure failure);
  [[nodiscard]] bool is_full(const Connection& connection) const;
  [[nodiscard]] bool redirect_stranger(const Datagram& datagram, const Header& header, Time now);

  // manager_connections.cpp, further on
  void on_initial_contact(Key key, const InitialContact& contact, Time now);
  [[nodiscard]] Duration jittered(Duration full);
  [[nodiscard]] std::vector<Key> sessions_of(const std::string& connection) const;
  [[nodiscard]] std::vector<Key> established_of(const std::string& connection) const;
  [[nodiscard]] bool matches(const Filter& filter, const Connection& connection) const;
  [[nodiscard]] bool matches(const Filter& filter, const ChildPolicy& child) const;
  [[nodiscard]] std::vector<std::pair<Key, std::shared_ptr<const Connection>>> matching_sessions(
      const Filter& filter) const;
  std::uint32_t delete_children(Key key, const Connection& connection, const Filter& filter, Time now);

  Setup setup_;
  Surroundings surroundings_;
  SpiPool spis_;
  TemporaryFlows temporary_;
  PeerNames names_, redirect_names_;
  CookieJar cookies_;
  AddressPools pools_;
  CertificateFetches fetches_;
  CrashTokens crash_tokens_;
  std::uint64_t next_child_ = 0;
  std::uint32_t next_number_ = 1;

  std::shared_ptr<const Policy> policy_ = std::make_shared<Policy>();
  std::unordered_map<Key, Entry> sessions_;
  std::unordered_map<InitKey, Key, InitKeyHash> inits_;
  HalfOpen half_open_;
  std::unordered_map<ChildId, Child> children_;
  std::map<std::string, Wish> wishes_;               // by connection
  std::map<std::string, Redirection> redirections_;  // the same
  std::unordered_map<std::uint32_t, FlowPeers> flows_;
  std::map<std::string, Time> hosts_since_;  // children of pairs of hosts, by name
  std::set<Key> moving_;                     // to another address of ours,
  std::optional<Time> move_at_;              // then
  std::set<std::string> outlived_;           // connections whose flows SAs of an earlier life serve
  std::set<std::pair<Time, Key>> session_timers_;
  std::set<std::pair<Time, std::string>> wish_timers_;
  std::deque<Batch> batches_;
  bool running_ = false, shutting_down_ = false;
  RateLimit unprotected_answers_{20, std::chrono::milliseconds(50)};  // to strangers: never an amplifier
  RateLimit redirect_answers_{200, std::chrono::milliseconds(5)};     // smaller than what they answer
  RateLimit invalid_requests_{20, std::chrono::milliseconds(50)};     // that are answered and told of,
  Time cookies_until_{};                                              // and beyond which COOKIE is demanded of all
};

template <class F>
void Manager::with(Key key, Time now, F&& call) {
  if (Entry* const entry = find(key)) run(key, call(*entry->session), now);
}

template <class F>
void Manager::with_child(ChildId id, Time now, F&& call) {
  const auto known = children_.find(id);
  if (known != children_.end()) with(known->second.session, now, std::forward<F>(call));
}

}  // namespace postern::ike
