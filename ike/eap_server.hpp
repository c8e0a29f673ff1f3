// The authenticator of EAP (RFC 3748): asks who the peer is, agrees with it on a method, runs that. Sans-IO; one for
// each IKE SA, gone with its outcome. Every packet of the peer is answered by exactly one step: IKE's exchanges need
// that, and do the retransmissions.
#pragma once

#include <variant>

#include "ike/eap_md5.hpp"
#include "ike/eap_mschapv2.hpp"
#include "ike/eap_tls.hpp"

namespace postern::ike {

inline constexpr std::size_t max_eap_rounds = 100;  // requests of one conversation

struct EapStep {
  enum class Kind : std::uint8_t { more, done, failed, ask } kind{};
  Octets packet;  // to the other end; done and failed of a server: Success and Failure. Empty: nothing
  EapFailure failure;
  std::optional<pki::TlsQuestion> question = {};  // ask: on_tls() goes on
};

class EapServer {
 public:
  struct Setup {
    std::vector<EapType> methods;  // on offer, in order
    bool query_identity = false;   // else the peer is who IDi says
    EapServerContext context;
  };
  explicit EapServer(Setup setup) : setup_(std::move(setup)) {}

  [[nodiscard]] EapStep start();
  [[nodiscard]] EapStep on_packet(Bytes packet);
  [[nodiscard]] EapStep on_tls(const pki::TlsProgress& progress);
  [[nodiscard]] EapStep fail(EapFault fault, std::string detail);

  // Why the peer will fail, where it has been told so by its method already; else nullptr.
  [[nodiscard]] const EapFailure* refused() const;
  // Once it is done: by what, whom, and the MSK; empty where the method makes none.
  [[nodiscard]] EapType method() const;
  [[nodiscard]] std::string user() const;
  [[nodiscard]] Secret key() const;

 private:
  [[nodiscard]] EapStep take_identity(const EapPacket& response);
  [[nodiscard]] EapStep take_nak(const EapPacket& response);
  [[nodiscard]] EapStep begin_method(const std::optional<Octets>& wanted);
  [[nodiscard]] EapStep step_of(EapMethodStep step);

  Setup setup_;
  std::variant<std::monostate, EapMd5Server, EapMschapv2Server, EapTlsServer> method_;
  std::vector<EapType> refused_;
  std::uint8_t identifier_ = 0;
  std::size_t rounds_ = 0;
  bool method_answered_ = false, over_ = false;
};

}  // namespace postern::ike
