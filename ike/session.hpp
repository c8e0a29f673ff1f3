// One IKE SA (RFC 7296), sans-IO: bytes, timers and wishes in, actions out. It never reads a clock, a socket or the
// system's random numbers by itself; two of them in one process are an exchange test.
//
//            initiate()                    IKE_SA_INIT answer              IKE_AUTH answer
//   (made) ------------> InitSent ------------------------> AuthSent ------------------> Established
//   (made) ------------> InitAnswered ----------------------------------------------- -> Established
//            IKE_SA_INIT request                       IKE_AUTH request
//   Established --delete sent, or superseded by a rekey--> Closing --answer or patience--> Closed
//
// session.cpp            life, messages in                   session_timers.cpp         what time does
// exchange_init.cpp      IKE_SA_INIT                         exchange_auth.cpp          IKE_AUTH
// exchange_child.cpp     CREATE_CHILD_SA for children        exchange_rekey_ike.cpp     and for the IKE SA
// exchange_informational.cpp  delete, liveness               child_sa.cpp               a child from both ends
// exchange_eap.cpp       IKE_AUTH by EAP
// authentication.cpp     who the ends are                    certificate_urls.cpp       certificates that are elsewhere
// extensions.cpp         what else both ends agree on        mobike.cpp                 an end that moves
// redirect.cpp           from one gateway to another
// crash_detection.cpp    a peer that lost its IKE SA
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "ike/actions.hpp"
#include "ike/message.hpp"
#include "ike/policy.hpp"
#include "ike/temporary_flows.hpp"

namespace postern::ike {

// What all sessions of a process share. Borrowed by each session; outlives them. One thread.
struct Surroundings {
  // Unpredictable bytes. A test gives its own.
  std::function<Result<void>(MutableBytes)> random;
  // An inbound ESP SPI that is used by nobody of this node, manual SAs included (RFC 4303 §2.1).
  std::function<Result<std::uint32_t>()> allocate_spi;
  std::function<void(std::uint32_t)> free_spi;
  std::function<ChildId()> next_child_id;
  // The connections between two addresses now (ike/policy.hpp): asked by a responder, and at each rekey.
  std::function<std::vector<std::shared_ptr<const Connection>>(std::uint32_t fvrf, const IpAddress& local,
                                                               const IpAddress& remote)>
      connections;
  // What postern-pki has said of a trustpoint; nothing: it has not, or there is none of that name.
  std::function<std::optional<pki::TrustpointFacts>(const std::string&)> trustpoint;
  // The password of a user who comes by EAP; nothing: there is none of that name.
  std::function<std::optional<Secret>(std::string_view name)> eap_user = {};
  TemporaryFlows* flows = nullptr;  // never null where a connection is made of a template, or has per-host children
  // Addresses of pools (ike/address_pool.hpp); each that was lent is taken back once. Left out: none.
  std::function<std::optional<IpAddress>(const Prefix& pool, const std::string& owner,
                                         const std::optional<IpAddress>& wanted)>
      lend_address;
  std::function<void(const IpAddress& address, const std::string& owner)> take_address_back;
  // What another IKE SA of the connection has been lent: asked for again, so that its successor has the same.
  std::function<std::optional<IpAddress>(const std::string& connection, Family family)> held_address;
  // Our token for an IKE SA (ike/crash_token.hpp). Left out: peers get none.
  std::function<std::optional<Octets>(std::uint64_t spi_i, std::uint64_t spi_r)> crash_token;
  // RFC 5685 §6: whether the profile has as many IKE SAs that a peer of it is sent elsewhere. Left out: no.
  std::function<bool(const Connection&)> is_full;
};

enum class SessionPhase : std::uint8_t { made, init_sent, init_answered, auth_sent, established, closing, closed };

// For `show crypto ikev2 sa|session` and for the daemon's tables. Plain values.
struct ChildView {
  ChildId id{};
  std::string name, interface, base;  // ChildPolicy
  std::uint32_t flow = 0, base_flow = 0, spi_in = 0, spi_out = 0;
  std::vector<Selector> local, remote;
  EspSuite suite;
  Duration age{}, lifetime{};  // lifetime: when it will be rekeyed or die, counted from the start
  std::uint64_t lifetime_bytes = 0;
  bool rekeying = false, outbound = true;
  bool transport = false;
  std::uint16_t cpi_in = 0, cpi_out = 0;  // IPComp; 0: none
};
struct SessionView {
  SessionPhase phase{};
  std::string connection, profile;
  bool of_template = false;  // the connection was made of a dynamic map's
  std::uint32_t fvrf = 0;
  bool initiator = false;
  Endpoint local, remote;
  std::uint64_t spi_i = 0, spi_r = 0;
  std::optional<IkeSuite> suite;
  std::optional<Identity> local_identity, remote_identity;
  std::string local_auth, remote_auth;  // how each end authenticated, in words; empty: not yet
  std::string remote_subject;           // of the peer's certificate
  std::string eap_identity;             // of the end that came by EAP
  std::vector<IpAddress> lent;          // to the peer
  AssignedConfiguration assigned;       // by the peer
  std::vector<IpAddress> others;        // of the peer's addresses (RFC 4555 §3.4)
  // RFC 5685: the client goes where it is sent; who sent it here, and where it is to go.
  bool follows_redirects = false;
  std::string redirected_from, redirected_to;
  bool nat_local = false, nat_remote = false, fragmentation = false, mobike = false, ppk = false;
  Duration age{}, lifetime{};
  std::uint32_t next_request = 0, next_expected = 0, window = 1, window_in = 1;
  // Requests of ours without an answer yet, and what waits for the window; of the peer's those that came too early.
  std::uint32_t outstanding = 0, queued = 0, early = 0;
  Dpd dpd;
  std::vector<ChildView> children;
};

struct Lifetimes {  // patience of one session, the same for all; tests shorten nothing: their clock is their own
  Duration first_retransmit = std::chrono::milliseconds(500);
  std::uint32_t retransmits = 6;                         // by doubling: gives up after a minute
  Duration half_open = std::chrono::seconds(30);         // a responder without IKE_AUTH
  Duration eap = std::chrono::seconds(60);               // a responder, for all rounds of EAP
  Duration old_child_linger = std::chrono::seconds(10);  // inbound SA after its successor carries traffic
  Duration closing = std::chrono::seconds(10);
  Duration pki = std::chrono::seconds(20);    // for one answer of postern-pki
  Duration fetch = std::chrono::seconds(15);  // for all certificates of a peer that are at URLs
  // RFC 7296 §2.2: message ids of either end, which do not wrap: before the last the IKE SA is rekeyed, or closed.
  std::uint32_t message_ids = 0xffffffff;
};

class Session {
 public:
  struct Setup {
    Surroundings* surroundings = nullptr;
    Endpoint local, remote;
    std::uint32_t fvrf = 0;
    bool initial_contact = false;  // initiator: nothing of ours is left with this peer (RFC 7296 §2.4)
    Lifetimes lifetimes;
    std::optional<GatewayIdentity> redirected_from = {};  // initiator: who sent us to this peer (RFC 5685 §3)
  };
  // An initiator for `connection`, with the children to make in IKE_AUTH (the first) and after it (the others).
  // `children` are names of its ChildPolicy; none: all of them.
  [[nodiscard]] static std::unique_ptr<Session> initiator(Setup setup, std::shared_ptr<const Connection> connection,
                                                          std::vector<std::string> children);
  // A responder; its IKE_SA_INIT request is the first on_datagram().
  [[nodiscard]] static std::unique_ptr<Session> responder(Setup setup);
  ~Session();

  [[nodiscard]] Actions initiate(Time now);
  // Setup::initial_contact as it is by now; counts until IKE_AUTH is sent.
  void set_initial_contact(bool nothing_left);
  // `bytes` without the non-ESP marker; `local`, `remote`: the path it came by.
  [[nodiscard]] Actions on_datagram(Bytes bytes, const Endpoint& local, const Endpoint& remote, Time now);
  // To an AskPki; one that nobody waits for any more is passed over.
  [[nodiscard]] Actions on_pki_answer(std::uint64_t ticket, pki::Answer answer, Time now);
  // To a FetchCertificates; the same holds.
  [[nodiscard]] Actions on_certificates(std::uint64_t ticket, FetchedCertificates fetched, Time now);
  [[nodiscard]] Actions on_timer(Time now);
  // When on_timer() wants to be called; nothing: never.
  [[nodiscard]] std::optional<Time> next_timer() const;

  // Wishes. Each is done when the request window allows it; without effect while closing.
  [[nodiscard]] Actions want_child(const std::string& name, Time now);  // has no effect when it exists or is on its way
  [[nodiscard]] Actions rekey_child(ChildId id, Time now);              // soft lifetime, sequence nearly exhausted
  [[nodiscard]] Actions delete_child(ChildId id, Time now);
  // Its volume is used up: the data plane drops its packets. Where a rekey is on its way the successor is near.
  [[nodiscard]] Actions on_hard_expiry(ChildId id, Time now);
  [[nodiscard]] Actions rekey(Time now);
  // RFC 5685 §5: the peer is sent to another gateway, where it has said that it would go.
  [[nodiscard]] Actions redirect(const GatewayIdentity& to, Time now);
  [[nodiscard]] Actions close(Time now, bool tell_peer = true);
  // RFC 4555 §3.6. What this connection has of addresses is all that we have; the peer hears of what it does not know.
  [[nodiscard]] Actions have_addresses(const Connection& connection, Time now);
  // RFC 4555 §3.5. Whether it can go on from another address of ours; then follow() says of which connection it is now,
  // one that differs in this address, and move() goes there, with all children, and tells the peer.
  [[nodiscard]] bool can_move() const;
  void follow(std::shared_ptr<const Connection> connection);
  [[nodiscard]] Actions move(Time now);

  // What the data plane says about children: authenticated inbound packets were seen (liveness, and RFC 7296 §2.8: the
  // peer uses the new SA), outbound traffic went out unanswered, installation failed.
  [[nodiscard]] Actions on_inbound_traffic(ChildId id, Time now);
  [[nodiscard]] Actions on_outbound_traffic(ChildId id, Time now);
  [[nodiscard]] Actions on_peer_moved(ChildId id, const Endpoint& remote, Time now);
  [[nodiscard]] Actions on_install_failed(ChildId id, const std::string& why, Time now);

  // Which SPI of the header is ours (responder: from creation on), and the peer's once known.
  [[nodiscard]] std::uint64_t own_spi() const;
  [[nodiscard]] std::uint64_t peer_spi() const;
  [[nodiscard]] SessionPhase phase() const;
  [[nodiscard]] const std::shared_ptr<const Connection>& connection() const;  // null until the responder knows it
  [[nodiscard]] SessionView view(Time now) const;
  [[nodiscard]] const AssignedConfiguration& assigned() const;
  // A peer of ours follows redirects, and came from there; and where we have sent it.
  [[nodiscard]] bool can_redirect() const;
  [[nodiscard]] const std::optional<GatewayIdentity>& redirected_from() const;
  [[nodiscard]] const std::optional<GatewayIdentity>& redirected_to() const;

  // Of exchanges alone: the session around a successor's core.
  [[nodiscard]] static std::unique_ptr<Session> of(std::shared_ptr<struct SessionCore> core);

 private:
  explicit Session(std::shared_ptr<struct SessionCore> core);
  std::shared_ptr<struct SessionCore> core_;  // shared with the IKE SA that it succeeds, while both rekey (§2.8.2)
};

}  // namespace postern::ike
