// The data of one IKE SA and what its exchanges share. Private to ike/session.cpp and ike/exchange_*.cpp: each exchange
// is one file of functions over it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "crypto/ike_cipher.hpp"
#include "ike/session_state.hpp"

namespace postern::ike {

struct Waiting;
struct SessionCore : std::enable_shared_from_this<SessionCore> {
  SessionCore(Session::Setup with, bool initiates)
      : setup(with), initiator(initiates), began(initiates), local(with.local), remote(with.remote) {}

  Session::Setup setup;
  bool initiator;  // of this IKE SA: flag I, and whose keys are whose
  bool began;      // the first IKE SA of those that were rekeyed into this one: RFC 4555 §2 means its initiator
  Endpoint local, remote;
  std::uint64_t spi_i = 0, spi_r = 0;
  std::shared_ptr<const Connection> connection;
  std::vector<std::string> wanted;  // children to make, by name
  std::optional<Identity> remote_identity;
  std::string local_auth, remote_auth, remote_subject, eap_identity;
  std::shared_ptr<struct EapExchange> eap;  // under way (exchange_eap.cpp)
  std::vector<std::uint16_t> peer_hashes;   // its SIGNATURE_HASH_ALGORITHMS (RFC 7427 §4)
  Octets peer_authorities;                  // of its CERTREQ (RFC 7296 §3.7), pki::authority_bytes each
  bool said_hashes = false;                 // and whether we sent ours
  std::optional<Time> credentials_end;      // of the certificate that ends first (R43-01)
  bool peer_fetches = false;                // HTTP_CERT_LOOKUP_SUPPORTED (§3.10.1)
  std::shared_ptr<Waiting> waiting;         // for an answer of another process (below)
  std::uint64_t next_ticket = 1;

  IkeSuite suite;
  IkeKeys keys;
  std::optional<crypto::IkeCipher> cipher_in, cipher_out;
  bool nat_local = false, nat_remote = false;
  // RFC 8784: both ends said USE_PPK; a PPK is in `keys`; and what they were without it, until the peer has answered.
  bool may_use_ppk = false, uses_ppk = false;
  std::optional<MixedKeys> unmixed;

  std::uint32_t next_request = 0, next_expected = 0;
  // RFC 7296 §2.3, by message id: at most one window of the peer's.
  std::list<Outstanding> outstanding;
  std::deque<ChildAttempt> held;  // to be sent again, by the window's leave
  std::deque<Task> tasks;
  std::deque<AnsweredRequest> answered;  // §2.1: the answer is kept for a retransmitted request
  Octets last_request;                   // that is being answered, and the path that it came by (§2.11)
  Endpoint asked_local, asked_remote;
  std::map<std::uint32_t, EarlyRequest> early;
  Reassembly requests_in;  // fragments

  // What both ends have agreed to beside the keys.
  std::uint16_t fragment_mtu = 0;  // RFC 7383: fragments leave in IP packets of so many bytes; 0: not agreed
  std::uint32_t window_in = 1, window_out = 1;  // §2.3: requests of the peer, and of ours, that may be outstanding
  bool told_window = false;                     // the peer has said SET_WINDOW_SIZE: it takes an interest in ours
  bool mobike = false;                          // RFC 4555: both ends said so
  Mobility mobility;
  bool childless = false;  // RFC 6023: IKE_AUTH is without a child, initiator

  RedirectState redirect;

  Secret peer_token;  // RFC 6290: who shows it has lost this IKE SA

  std::vector<IpAddress> lent;     // to the peer, of our pools: one of each family
  AssignedConfiguration assigned;  // by the peer
  std::list<Child> children;
  Time last_heard, last_sent, oldest_unanswered_traffic;
  bool traffic_unanswered = false;
  bool superseded = false;            // a successor took the children: no task starts here any more
  std::optional<Time> refused_since;  // §2.25: from when on the peer has said TEMPORARY_FAILURE alone

  Actions actions;

  // Session.cpp. The only writer of the state.
  void enter(State next);
  [[nodiscard]] const State& state() const { return state_; }
  template <class T>
  [[nodiscard]] T* in() {
    return std::get_if<T>(&state_);
  }
  // RFC 7296 §2.23: an end that is behind a NAT itself does not let the other's packets move it.
  [[nodiscard]] bool follows_peer() const { return nat_remote && !nat_local; }
  // Where ESP goes: `remote`, but for a new place that the peer has not yet shown to be at (RFC 4555 §3.7).
  [[nodiscard]] Endpoint traffic_remote() const { return mobility.proven.value_or(remote); }
  // RFC 3948: ESP goes in UDP.
  [[nodiscard]] bool encapsulates() const { return nat_local || nat_remote || connection->force_encapsulation; }
  // RFC 4555 §3.8: with MOBIKE it is the original initiator's word that moves it, and ESP, but no other IKE message.
  [[nodiscard]] bool follows_messages() const { return follows_peer() && !mobike; }
  [[nodiscard]] bool established() const { return std::holds_alternative<Established>(state_); }

  // session_core.cpp
  template <class A>
  void emit(A action) {
    actions.emplace_back(std::move(action));
  }
  [[nodiscard]] Event event(EventKind kind, std::string text) const;
  void tell(EventKind kind, std::string text);
  void tell_child(EventKind kind, const Child& child, std::string text);
  void attempt_failed(Failure failure, std::string_view child = {});
  [[nodiscard]] Result<Octets> random(std::size_t bytes) const;
  [[nodiscard]] Result<std::uint64_t> random_spi() const;
  [[nodiscard]] Duration jittered(Duration full, double from, double to) const;
  // When an SA that lives for `whole` is rekeyed (RFC 7296 §2.8): by whoever began it first, so that both ends seldom
  // meet.
  [[nodiscard]] Duration rekey_after(Duration whole, bool we_began) const;
  [[nodiscard]] Result<void> use_keys(const IkeSuite& agreed, IkeKeys derived);

  [[nodiscard]] Header header(ExchangeType exchange, bool response, std::uint32_t id) const;
  [[nodiscard]] Message request(ExchangeType exchange) const;
  void transmit(const Octets& datagram);
  void transmit(const Datagrams& datagrams);
  // Whole, or in fragments where those were agreed on and the path takes no more.
  [[nodiscard]] Result<Datagrams> seal(const Message& message);
  // Seals and sends; waits for the answer by the back-off, or every `every` when that is not zero, `tries` times.
  void send_request(Message message, Time now, Pending about = Nothing{}, Duration every = {}, std::uint32_t tries = 0);
  void send_response(const Message& to, Message message);
  [[nodiscard]] Message answer(const Message& to) const;
  void refuse(const Message& to, NotifyType why, Octets data = {});
  // RFC 7296 §2.2: a message id of ours or of the peer's, `next`, has been used.
  void use_message_id(std::uint32_t& next, Time now);
  void await_answer(std::uint32_t id, Datagrams datagrams, Time now, Pending about = Nothing{}, Duration every = {},
                    std::uint32_t tries = 0);
  // RFC 7296 §2.3: of the peer's window, and within what the document says of ours.
  [[nodiscard]] bool window_open() const;
  // The first that is due and may begin beside what is under way: nothing beside what is about the IKE SA itself, and
  // one thing at a time of each child; and when there is one next.
  [[nodiscard]] std::deque<Task>::iterator next_task(Time now);
  [[nodiscard]] std::optional<Time> next_task_time() const;

  // Ends the session: children go, the daemon is told. `retry`: the reason may pass.
  void close_now(std::string why, bool retry);
  void add_task(Task task);
  void run_tasks(Time now);

  [[nodiscard]] Child* child(ChildId id);
  [[nodiscard]] Child* child_by_spi_out(ProtocolId protocol, std::uint32_t spi);
  [[nodiscard]] bool has_child(std::string_view name) const;
  void remove_child(ChildId id, std::string why);
  // The session that follows on this one makes it.
  void want_again(const std::string& child_name);
  // All of them; their names become wanted, unless `forget`.
  void drop_children(const std::string& why, bool forget);

 private:
  State state_;
};

// What one of our requests under way is about; nullptr: none is that.
template <class T, class Core, class F>
[[nodiscard]] auto underway(Core& core, F fits) {
  using Found = std::conditional_t<std::is_const_v<Core>, const T, T>;
  for (auto& one : core.outstanding)
    if (Found* const what = std::get_if<T>(&one.about); what != nullptr && fits(*what)) return what;
  return static_cast<Found*>(nullptr);
}
template <class T, class Core>
[[nodiscard]] auto underway(Core& core) {
  return underway<T>(core, [](const T&) { return true; });
}
// The same of attempts at children, with those that wait to be sent again.
template <class Core, class F>
[[nodiscard]] auto attempt_of(Core& core, F fits) {
  auto* found = underway<ChildAttempt>(core, fits);
  for (auto& one : core.held)
    if (found == nullptr && fits(one)) found = &one;
  return found;
}

// A question to postern-pki, or certificates to be fetched, that the exchange under way waits for. The state stays as
// it was meanwhile; requests of the peer that come before the answer are passed over, it will send them again.
struct Waiting {
  using ForPki = std::move_only_function<void(SessionCore&, pki::Answer, Time)>;
  using ForCertificates = std::move_only_function<void(SessionCore&, FetchedCertificates, Time)>;
  std::uint64_t ticket = 0;
  Time deadline;
  std::variant<ForPki, ForCertificates> then;
};

[[nodiscard]] Octets octets(Bytes bytes);
// The data of INVALID_KE_PAYLOAD (RFC 7296 §1.2): the group that is wanted.
[[nodiscard]] Octets group_octets(crypto::DhGroup group);
// RFC 7296 §1.2, §1.3: INVALID_KE_PAYLOAD names the group that the peer wants: an exchange of that group, when we
// offered it and have not just tried it. Nothing: no reason to try again, or `rounds`, which this counts, are over.
[[nodiscard]] std::optional<crypto::DhExchange> wanted_exchange(const NotifyPayload& error,
                                                                std::span<const crypto::DhGroup> offered,
                                                                crypto::DhGroup tried, std::uint32_t& rounds,
                                                                std::uint32_t most_rounds);
[[nodiscard]] std::vector<crypto::DhGroup> groups_of(std::span<const IkeProposal> proposals);
// Lines of an offer, for a Failure.
[[nodiscard]] std::string joined(const std::vector<std::string>& lines);

// Our limits on proposals of a rekey: what the connection says now, or what it said when it is gone.
[[nodiscard]] std::shared_ptr<const Connection> current(const SessionCore& core);

// session.cpp. An authentic packet came from there.
void peer_is_at(SessionCore& core, const Endpoint& remote);
// Its SAs are between our ends as they are now.
void move_children(SessionCore& core);

// extensions.cpp: what is told in IKE_SA_INIT (RFC 7383 §2.3; `options` of whoever may be meant) and in IKE_AUTH (RFC
// 7296 §2.3, RFC 4555 §3.1), each by both ends.
void offer_in_init(Message& message, const ProtocolOptions& options);
void note_init_offer(SessionCore& core, const Message& message, const ProtocolOptions& options);
void offer_in_auth(SessionCore& core, Message& message);
void note_auth_offer(SessionCore& core, const Message& message);
// RFC 7296 §2.3: SET_WINDOW_SIZE, ours and the peer's.
void offer_window(const SessionCore& core, Message& message);
void note_window(SessionCore& core, const Message& message);

// configuration.cpp: RFC 7296 §2.19. What the peer asks for in IKE_AUTH, into `reply`; or why it gets no child.
[[nodiscard]] std::optional<NotifyType> configure_peer(SessionCore& core, const Message& request, Message& reply);
void give_addresses_back(SessionCore& core);
// Of a peer that was lent addresses, what is about those.
[[nodiscard]] std::vector<Selector> within_lent(const SessionCore& core, std::span<const Selector> offered);
// The initiator's question, where a tunnel wants an address; what the answer says of it. Error: it is not what we need.
void ask_for_configuration(const SessionCore& core, Message& request);
[[nodiscard]] Result<void, Failure> take_configuration(SessionCore& core, const Message& response);
// The addresses go with the last IKE SA that has them.
void drop_configuration(SessionCore& core);
// In an INFORMATIONAL exchange.
void answer_configuration(const Message& request, Message& reply);

// crash_detection.cpp: RFC 6290. Our token for this IKE SA goes with what authenticates us, or makes its successor.
[[nodiscard]] bool gives_crash_tokens(const SessionCore& core);
void add_crash_token(const SessionCore& core, Message& message);
// The peer's, from a message that is protected: it takes the place of one before (§4.4).
void note_crash_token(SessionCore& core, const Message& message);
void start_tell_token(SessionCore& core, Time now);
// §4.5: an answer that nobody protected. It ends the IKE SA when it shows the peer's token, and else changes nothing.
void on_unprotected_answer(SessionCore& core, Bytes datagram);

// ppk.cpp: RFC 8784. USE_PPK is said by an initiator that has one for its peer, and answered by who has any.
void offer_ppk(const Connection& connection, Message& message);
void answer_ppk(SessionCore& core, const std::vector<std::shared_ptr<const Connection>>& between,
                const Message& request, Message& reply);
// The initiator: whether the peer can. Error: it cannot, and must.
[[nodiscard]] Result<void, Failure> note_ppk(SessionCore& core, const Message& response);
[[nodiscard]] Result<void> mix_in_ppk(SessionCore& core, const Ppk& ppk);
void say_ppk(const SessionCore& core, const AuthSent& state, Message& request);
// Whether the PPK stays in the keys, as the peer's answer has it.
[[nodiscard]] Result<void, Failure> settle_ppk(SessionCore& core, const AuthSent& state, const Message& response);
// The responder, before it looks at AUTH: leaves those of `candidates` that the request may be for, and puts the PPK
// that it names into the keys; or leaves in `request` the AUTH that was made without one. A first request of EAP,
// without AUTH, says nothing yet but that the peer can.
[[nodiscard]] Result<void, Failure> choose_ppk(SessionCore& core,
                                               std::vector<std::shared_ptr<const Connection>>& candidates,
                                               Message& request);

// session_timers.cpp
void run_timers(SessionCore& core, Time now);
// RFC 7296 §2.8: what has expired without a successor takes the IKE SA with it; its flow is wanted again.
void child_is_over(SessionCore& core, ChildId id, Time now);
[[nodiscard]] std::optional<Time> earliest_timer(const SessionCore& core);

// exchange_init.cpp
struct NatSeen {
  bool local = false, remote = false, told = false;
};
// RFC 7296 §2.23, of a message between these ends: our address is not what the peer sees, or its is not what we see.
[[nodiscard]] NatSeen detect_nat(const SessionCore& core, const Message& message, const Endpoint& local,
                                 const Endpoint& remote);
void add_nat_detection(const SessionCore& core, Message& message, const Endpoint& local, const Endpoint& remote,
                       bool forced);
void start_init(SessionCore& core, Time now);
void on_init_request(SessionCore& core, Bytes datagram, Time now);
void on_init_response(SessionCore& core, Bytes datagram, Time now);

// exchange_auth.cpp
void start_auth(SessionCore& core, AuthSent state, Time now);
void on_auth_request(SessionCore& core, const Message& request, Time now);
void on_auth_response(SessionCore& core, const Message& response, Time now);
void established(SessionCore& core, Time now);
// The IKE SA's whole life from now on: what the profile says, and not beyond the certificates it rests on (R43-01).
[[nodiscard]] Duration lifetime_of(const SessionCore& core, Time now);

// exchange_child.cpp
// RFC 7296 §2.25: the peer is busy; "after several minutes" both ends do not know the same, and the IKE SA is closed.
void refused_for_now(SessionCore& core, Time now);
[[nodiscard]] Failure refused_by_peer(const ChildAttempt& attempt, const NotifyPayload& error);
// `first`: within IKE_AUTH, with the nonces of IKE_SA_INIT and without a key exchange of its own (RFC 7296 §1.3.1).
// `group`: none takes the policy's first for PFS.
[[nodiscard]] Result<ChildAttempt> begin_child(SessionCore& core, const ChildPolicy& policy, bool first,
                                               crypto::DhGroup group = crypto::DhGroup::none);
void add_child_payloads(Message& message, const ChildAttempt& attempt);
// RFC 7296 §2.9, §2.17: a request for a child.
struct ChildOffer {
  const SaPayload* sa = nullptr;
  const TsPayload* tsi = nullptr;
  const TsPayload* tsr = nullptr;
  const KePayload* ke = nullptr;
  Bytes nonce_i, nonce_r;
  bool first = false;
  const Child* replaces = nullptr;
  bool tfc_padding = true;  // else the peer said ESP_TFC_PADDING_NOT_SUPPORTED
  bool transport = false;   // USE_TRANSPORT_MODE is asked for
  std::uint16_t cpi = 0;    // the peer's, of IPComp by DEFLATE; 0: it does not say so
};
// RFC 7296 §1.3.1: whether who wrote `message` takes TFC padding. We always do, and say nothing.
[[nodiscard]] bool takes_tfc_padding(const Message& message);
// ike/ipcomp.cpp. RFC 7296 §2.22, §3.10.1: of IPCOMP_SUPPORTED in `message` the CPI for DEFLATE; 0: there is none.
[[nodiscard]] std::uint16_t offered_cpi(const Message& message);
// An answer has one such notify at most; nothing: it is not the one that we can have asked for.
[[nodiscard]] std::optional<std::uint16_t> answered_cpi(const Message& message, bool asked);
void add_cpi(Message& message, std::uint16_t cpi);
// Ours, for the SA of that SPI: a peer that looks for it in a table of its own finds another SA's seldom.
[[nodiscard]] std::uint16_t cpi_of(std::uint32_t spi);

struct ChildRefusal {
  NotifyType notify{};
  Octets data;
  Failure failure;
};
// Answers into `reply` and installs, or says why not.
[[nodiscard]] Result<ChildId, ChildRefusal> accept_child(SessionCore& core, const ChildOffer& offer, Message& reply,
                                                         Time now);
// The initiator's end: the answer's payloads to an installed child, or why not.
struct ChildAnswer {
  const Message* message = nullptr;
  Bytes nonce_i, nonce_r;
  bool first = false;
  bool outbound_now = true;
};
[[nodiscard]] Result<ChildId, Failure> finish_child(SessionCore& core, ChildAttempt& attempt, const ChildAnswer& answer,
                                                    Time now);
void start_make_child(SessionCore& core, const Task& task, Time now);
void start_rekey_child(SessionCore& core, const Task& task, Time now);
void on_create_child_request(SessionCore& core, const Message& request, Time now);
void on_create_child_response(SessionCore& core, const Message& response, Pending about, Time now);
// Attempts that found the window full.
void send_held(SessionCore& core, Time now);

// exchange_rekey_ike.cpp
// The new IKE SA takes over what the old one carried; the old one only closes.
void hand_over(SessionCore& from, SessionCore& to, Time now);
void start_rekey_ike(SessionCore& core, Time now);
void on_rekey_ike_request(SessionCore& core, const Message& request, Time now);
void on_rekey_ike_response(SessionCore& core, IkeAttempt attempt, const Message& response, Time now);

// exchange_informational.cpp
void start_delete_child(SessionCore& core, const Task& task, Time now);
void start_delete_ike(SessionCore& core, Time now);
void start_probe(SessionCore& core, Time now);
void on_informational_request(SessionCore& core, const Message& request, const Endpoint& local, const Endpoint& remote,
                              Time now);
void on_informational_response(SessionCore& core, const Message& response, const Pending& about, Time now);

}  // namespace postern::ike
