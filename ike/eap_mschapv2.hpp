// EAP-MSCHAPv2 (draft-kamath-pppext-eap-mschapv2-02; the arithmetic is in ike/mschapv2.hpp). Both ends prove that they
// know the password, and both get a key. A password is tried once: no retry, no change of it.
//
//   server                      peer
//   Challenge          ------->
//                      <-------  Response
//   Success (S=...)    ------->                   or Failure (E=691)
//                      <-------  Success                     Failure
#pragma once

#include "ike/eap_method.hpp"
#include "ike/mschapv2.hpp"

namespace postern::ike {

class EapMschapv2Server {
 public:
  static constexpr EapType type = EapType::mschapv2;
  [[nodiscard]] EapMethodStep begin(const EapServerContext& context, std::uint8_t identifier);
  [[nodiscard]] EapMethodStep take(const EapServerContext& context, const EapPacket& response);
  [[nodiscard]] Secret key() const { return key_; }
  [[nodiscard]] std::string user(const EapServerContext&) const { return user_; }
  // The peer has been told, and may leave without another word of EAP.
  [[nodiscard]] const EapFailure* refused() const { return awaits_ == Awaits::failure ? &failure_ : nullptr; }

 private:
  enum class Awaits : std::uint8_t { response, success, failure };
  [[nodiscard]] EapMethodStep judge(const EapServerContext& context, Bytes data);
  [[nodiscard]] EapMethodStep refuse(EapFault fault);
  Awaits awaits_ = Awaits::response;
  std::uint8_t chap_id_ = 0;
  MschapChallenge challenge_{};
  std::string user_;
  Secret key_;
  EapFailure failure_;
};

class EapMschapv2Peer {
 public:
  static constexpr EapType type = EapType::mschapv2;
  [[nodiscard]] EapMethodStep take(const EapPeerContext& context, const EapPacket& request);
  [[nodiscard]] bool may_succeed() const { return awaits_ == Awaits::nothing; }
  [[nodiscard]] Secret key() const { return key_; }

 private:
  enum class Awaits : std::uint8_t { challenge, outcome, nothing, end };
  [[nodiscard]] EapMethodStep answer(const EapPeerContext& context, Bytes data);
  [[nodiscard]] EapMethodStep judge(Bytes message);
  Awaits awaits_ = Awaits::challenge;
  std::string expected_;  // of the server
  Secret key_;
};

}  // namespace postern::ike
