// The peer of EAP (RFC 3748): says who it is, takes the first method of the server's that it may, refuses others by
// Nak. Sans-IO; one for each IKE SA.
#pragma once

#include <variant>

#include "ike/eap_server.hpp"

namespace postern::ike {

class EapPeer {
 public:
  struct Setup {
    std::vector<EapType> methods;  // that may be used, in order
    EapPeerContext context;
  };
  explicit EapPeer(Setup setup) : setup_(std::move(setup)) {}

  [[nodiscard]] EapStep on_packet(Bytes packet);
  [[nodiscard]] EapStep on_tls(const pki::TlsProgress& progress);
  [[nodiscard]] EapStep fail(EapFault fault, std::string detail);
  // EAP-TLS: whom the server's certificate must name (RFC 7296 §3.5).
  void expect_server(std::uint8_t identity_type, Octets identity) {
    setup_.context.tls.identity_type = identity_type;
    setup_.context.tls.identity = std::move(identity);
  }

  // Once it is done.
  [[nodiscard]] EapType method() const;
  [[nodiscard]] Secret key() const;
  [[nodiscard]] const std::string& user() const { return setup_.context.user; }

 private:
  [[nodiscard]] EapStep take_request(const EapPacket& request);
  [[nodiscard]] EapStep run_method(const EapPacket& request);
  [[nodiscard]] EapStep step_of(EapMethodStep step);
  [[nodiscard]] EapStep end(EapCode code);
  [[nodiscard]] EapStep respond(EapType type, Octets data);

  Setup setup_;
  std::variant<std::monostate, EapMd5Peer, EapMschapv2Peer, EapTlsPeer> method_;
  std::vector<EapType> refused_;  // that the server proposed, and we did not take
  Octets last_;
  std::uint8_t identifier_ = 0;  // of the request that is being answered
  std::size_t rounds_ = 0;
  bool over_ = false;
};

}  // namespace postern::ike
