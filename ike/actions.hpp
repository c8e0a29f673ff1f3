// What a session asks of its surroundings, in order: the daemon does each before the next, so that an SA is installed
// before the answer that lets the peer use it leaves. And what it tells: events, with peer, SPIs and connection on
// each.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/clock.hpp"
#include "ike/gateway_identity.hpp"
#include "ike/keys.hpp"
#include "ike/policy.hpp"
#include "pki/questions.hpp"

namespace postern::ike {

class Session;

inline constexpr std::uint16_t ike_port = 500, nat_port = 4500;

struct Endpoint {
  IpAddress address;
  std::uint16_t port = ike_port;
  bool operator==(const Endpoint&) const = default;
};

// An IKE message without non-ESP marker; the daemon puts one in front when it leaves from port 4500. The path is a
// local address and port in a front-door VRF.
struct SendDatagram {
  Endpoint local, remote;
  std::uint32_t fvrf = 0;
  Octets bytes;
};
// RFC 3948 §2.3: the one byte 0xff.
struct SendKeepalive {
  Endpoint local, remote;
  std::uint32_t fvrf = 0;
};

// Names a child SA in this process for good.
enum class ChildId : std::uint64_t {};

struct ChildSaKeys {
  Secret inbound_cipher, inbound_integrity, outbound_cipher, outbound_integrity;
};
// Both SAs of a child; `outbound_now`: bind the flow to it at once, else SwitchOutbound follows (RFC 7296 §2.8: the
// responder of a rekey waits until the peer uses the new one, or deletes the old).
struct InstallChild {
  ChildId id{};
  std::shared_ptr<const Connection> connection;
  ChildPolicy policy;  // what it was made by
  EspSuite suite;
  std::uint32_t spi_in = 0, spi_out = 0;
  std::vector<Selector> local, remote;  // narrowed
  Endpoint local_endpoint, remote_endpoint;
  bool udp_encapsulation = false;
  bool follow_peer = false;  // the data plane tells when authentic packets come from elsewhere (RFC 7296 §2.23)
  bool outbound_now = true;
  // The peer does not have our answer yet: where another child serves the flow, that one goes on until the peer uses
  // this one or the other goes (RFC 7296 §2.8.3).
  bool answered = false;
  bool tfc_padding = true;  // the peer takes it (RFC 7296 §1.3.1)
  ChildSaKeys keys;
  bool transport = false;  // mode
  // IPComp (RFC 7296 §2.22): both, or neither, which is 0.
  std::uint16_t cpi_in = 0, cpi_out = 0;
};
// The inbound half of a child that we ask the peer for: it may send before we have its answer (RFC 7296 §2.8).
struct ExpectChild {
  std::uint32_t fvrf = 0;
  std::uint32_t spi_in = 0;
  Endpoint local_endpoint;
  bool udp_encapsulation = false;
  bool ah = false;  // AH is what we offer, else ESP
};
struct SwitchOutbound {
  ChildId id{};
};
struct RemoveChild {
  ChildId id{};
};
// NAT (RFC 7296 §2.23) or MOBIKE (RFC 4555 §3.5) moved an end: the child's SAs go on, between these.
struct MoveChild {
  ChildId id{};
  Endpoint local_endpoint, remote_endpoint;
  bool udp_encapsulation = false;
};
// The successor of a rekeyed IKE SA, with its children; the daemon adds it to its table. The old one is closing.
struct AddSession {
  std::unique_ptr<Session> session;
};

enum class EventKind : std::uint8_t {
  ike_up,
  ike_rekeyed,
  ike_down,
  child_up,
  child_rekeyed,
  child_down,
  attempt_failed,  // with `failure`
  peer_silent,     // liveness gave up
  nat_detected,
  peer_moved,
  we_moved,         // to another address of ours (RFC 4555)
  redirected,       // to another gateway, or a peer by us
  name_resolved,    // a peer's name has another address than before
  message_ignored,  // rate-limited by the daemon
  retransmitted,
  trace,  // debug: one message sent or received
};

// Why an attempt failed, for `show crypto ikev2 diagnose`.
enum class FailureKind : std::uint8_t {
  no_answer,              // nothing came back to IKE_SA_INIT
  no_answer_after_float,  // IKE_SA_INIT went well, IKE_AUTH on port 4500 is not answered
  no_common_ike_proposal,
  no_common_child_proposal,
  wrong_key,       // the peer's AUTH does not verify, or it refused ours
  certificate,     // the peer's certificate is not one that we trust, or not the peer's
  credential,      // we cannot sign: no certificate, no key, or postern-pki is not there
  wrong_password,  // EAP: its password, or ours, is not the one that the other end knows
  unknown_user,    // EAP: nobody of that name
  eap_method,      // EAP: no method in common
  wrong_identity,  // its identity is not one that the profile matches
  selectors,       // TS_UNACCEPTABLE
  pairs_required,  // SINGLE_PAIR_REQUIRED: the peer has SAs of single pairs of addresses alone
  no_connection,   // nothing is configured between these addresses
  invalid_syntax,
  refused,         // any other error notify
  install_failed,  // the data plane refused the SA
  replaced,        // by a newer SA of the same peer, or the policy is gone
  unresolved,      // the peer's name has no address
  redirect_loop,   // gateways send us to each other
};
struct Failure {
  FailureKind kind{};
  std::string summary;                     // "no common IKE proposal"
  std::string offered, accepted, differs;  // what the peer offered, what we accept, the first difference
  std::string remedy;                      // what to change
  bool by_peer = false;                    // the peer told us so
};

struct Event {
  EventKind kind{};
  std::string connection, child;
  Endpoint local, remote;
  std::string remote_name;  // of a peer that the document names
  std::uint64_t spi_i = 0, spi_r = 0;
  std::uint32_t spi_in = 0, spi_out = 0;
  bool initiator = false;
  std::string text;  // for a person; no key
  std::optional<Failure> failure;
};

// RFC 7296 §2.4: the peer says that it has no other IKE SA with us: those between the same two identities are dead.
struct InitialContact {
  std::shared_ptr<const Connection> connection;
  Identity remote;
  std::string eap_identity;  // empty: no EAP
};

// A question to postern-pki; its answer comes back by Session::on_pki_answer() with the same ticket.
struct AskPki {
  std::uint64_t ticket = 0;
  pki::Question question;
};

// What a peer sends the hash and URL of (RFC 7296 §3.6). The bodies come back by Session::on_certificates(), in order
// and with the same ticket; whether they are what was meant is not judged.
struct CertificateUrl {
  std::string url;  // base/http_url.hpp
  Octets hash;      // SHA-1
  std::size_t max_bytes = 0;
};
struct FetchCertificates {
  std::uint64_t ticket = 0;
  std::vector<CertificateUrl> urls;
};
using FetchedCertificates = std::vector<Result<Octets>>;

// RFC 7296 §2.8.3: fresh keys do not make this IKE SA live longer, its certificates end. Another one is to be set up
// beside it, with its children, and this one to be closed once that stands. Comes again until then.
struct Reauthenticate {};

// What a peer has lent us for this interface is another now, or none: Session::assigned() says it.
struct Reassigned {
  std::string interface;
};

// RFC 7296 §2.9: of what the child was to cover the peer took only this, and says that it takes more of it, in SAs of
// their own (ADDITIONAL_TS_POSSIBLE).
struct PartlyCovered {
  std::string child;
  std::vector<Selector> local, remote;                  // asked for
  std::vector<Selector> covered_local, covered_remote;  // taken
};

// RFC 5685: the gateway sends us to another one. In IKE_SA_INIT and IKE_AUTH the session ends by itself; else it stays
// until the other one has taken its place.
struct Redirected {
  GatewayIdentity to;
  ExchangeType during{};
  std::vector<std::string> wanted_children;  // that were to be set up
};

// The session may be destroyed after this; its children were removed by RemoveChild or moved to a successor.
struct Closed {
  bool retry = false;  // the attempt failed for a reason that may pass: try again by the back-off
  std::vector<std::string>
      wanted_children;  // that still have to be set up (a peer that vanished; names of ChildPolicy)
};

using Action = std::variant<SendDatagram, SendKeepalive, ExpectChild, InstallChild, SwitchOutbound, RemoveChild,
                            MoveChild, AddSession, InitialContact, AskPki, FetchCertificates, Reauthenticate,
                            Reassigned, PartlyCovered, Redirected, Event, Closed>;
using Actions = std::vector<Action>;

}  // namespace postern::ike
