// What an IKE SA keeps: what it is waiting for, what it is to do, its children, and its states. Plain values, private
// to the session's files (session_core.hpp).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "crypto/dh.hpp"
#include "ike/mobility.hpp"
#include "ike/reassembly.hpp"
#include "ike/session.hpp"

namespace postern::ike {

struct SessionCore;

inline constexpr std::size_t nonce_bytes = 32;       // RFC 7296 §2.10: at least half the PRF's key
inline constexpr std::uint32_t max_init_rounds = 6;  // COOKIE and INVALID_KE_PAYLOAD answers of one attempt
inline constexpr std::uint32_t max_ke_rounds = 3;    // INVALID_KE_PAYLOAD answers to one CREATE_CHILD_SA

// A child SA that we negotiate: what we said, until the answer.
struct ChildAttempt {
  ChildPolicy policy;
  std::uint32_t spi_in = 0;
  Octets nonce;  // empty: IKE_AUTH, whose child uses the nonces of IKE_SA_INIT
  std::optional<crypto::DhExchange> dh;
  SaPayload offer;
  std::vector<Selector> local, remote;
  bool transport = false;    // USE_TRANSPORT_MODE is asked for
  std::uint16_t cpi_in = 0;  // IPCOMP_SUPPORTED is said; 0: it is not
  std::optional<ChildId> replaces;
  std::uint32_t rounds = 0;  // INVALID_KE_PAYLOAD answers
  // RFC 7296 §2.8.1: the peer rekeyed the same child meanwhile and made this one; the lowest of its two nonces.
  std::optional<ChildId> rival;
  Octets rival_nonce;
};

struct IkeAttempt {
  std::uint64_t spi = 0;
  Octets nonce;
  std::optional<crypto::DhExchange> dh;
  SaPayload offer;
  std::uint32_t rounds = 0;
  std::shared_ptr<SessionCore> rival;  // §2.8.2
  Octets rival_nonce;
  bool forgotten = false;  // §2.25.2: the peer closed the IKE SA meanwhile
};

// What an outstanding request of ours is about, once the IKE SA is established.
struct Nothing {};
struct DeletingChild {
  ChildId id{};
};
struct DeletingIke {};
struct Probing {};
struct Redirecting {};
using Pending = std::variant<Nothing, ChildAttempt, IkeAttempt, DeletingChild, DeletingIke, Probing, Updating,
                             CheckingRoute, Announcing, Redirecting>;

// One message: a datagram, or its fragments in order (RFC 7383).
using Datagrams = std::vector<Octets>;

struct Outstanding {
  std::uint32_t message_id = 0;
  Datagrams datagrams;
  Time next_retransmit;
  Duration wait{};
  std::uint32_t left = 0;
  std::uint32_t sent = 1;  // times, on the path that the IKE SA has now
  bool doubles = true;
  Pending about;        // what the answer is for
  Reassembly response;  // fragments of it
};

// A request that was answered. It stays as long as the peer may retransmit it: for as many as our window is wide.
struct AnsweredRequest {
  std::uint32_t message_id = 0;
  Octets request;  // of fragments the first
  Datagrams response;
};
// A request of our window that came before its turn (RFC 7296 §2.3). Its integrity has been checked.
struct EarlyRequest {
  Octets datagram;
  Endpoint local, remote;
};

enum class TaskKind : std::uint8_t {
  make_child,
  rekey_child,
  delete_child,
  rekey_ike,
  delete_ike,
  expire_ike,  // the same, for its own life or message ids are over: a successor goes on
  probe,
  tell_token,
  update_addresses,
  check_route,
  announce_addresses,
  redirect
};
struct Task {
  TaskKind kind{};
  std::string name;  // make_child
  ChildId id{};      // rekey_child, delete_child
  Time not_before;
};

struct Child {
  ChildId id{};
  ChildPolicy policy;
  EspSuite suite;
  std::uint32_t spi_in = 0, spi_out = 0;
  std::vector<Selector> local, remote;
  bool transport = false;
  std::uint16_t cpi_in = 0, cpi_out = 0;
  Time born, rekey_at, die_at;
  bool outbound = true;                // the flow is bound to it
  bool replaced = false;               // the peer rekeyed it, and will delete it
  bool closing = false;                // our DELETE for it is queued or out
  bool rekey_tried = false;            // we asked for a successor
  std::optional<ChildId> predecessor;  // that we switch from once the peer uses this one
  std::optional<Time> remove_at;       // superseded and deleted with the peer: inbound lingers until then
};

struct InitSent {
  crypto::DhExchange dh;
  Octets nonce, cookie;
  SaPayload offer;
  Octets request;  // as last sent: what AUTH signs
  std::uint32_t rounds = 0;
};
struct InitAnswered {
  Octets request, response, nonce_i, nonce_r;
  Time deadline;
};
struct AuthSent {
  Octets request, response, nonce_i, nonce_r;
  std::optional<ChildAttempt> child;
  Octets no_ppk_auth;  // RFC 8784: our AUTH without the PPK, for a peer that does not know it
};
struct Made {};
struct Established {
  Time since, rekey_at, die_at;
};
struct Closing {
  Time deadline;
};
struct Gone {};
using State = std::variant<Made, InitSent, InitAnswered, AuthSent, Established, Closing, Gone>;

// RFC 5685, over rekeys of the IKE SA.
struct RedirectState {
  bool client = false;                  // we began the first IKE SA, and have said that we go where we are sent
  bool gateway = false;                 // the peer did
  std::optional<GatewayIdentity> from;  // who sent the client here
  std::optional<GatewayIdentity> to;    // gateway: where the client is to go,
  std::optional<Time> leave_by;         // and has left by then
};

}  // namespace postern::ike
