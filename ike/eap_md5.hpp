// EAP-MD5 (RFC 3748 §5.4): CHAP (RFC 1994) in EAP. It makes no key and authenticates the peer alone.
#pragma once

#include "ike/eap_method.hpp"

namespace postern::ike {

class EapMd5Server {
 public:
  static constexpr EapType type = EapType::md5;
  [[nodiscard]] EapMethodStep begin(const EapServerContext& context, std::uint8_t identifier);
  [[nodiscard]] EapMethodStep take(const EapServerContext& context, const EapPacket& response);
  [[nodiscard]] Secret key() const { return {}; }
  [[nodiscard]] std::string user(const EapServerContext& context) const { return context.user.value_or(""); }

 private:
  std::uint8_t identifier_ = 0;
  Octets challenge_;
};

class EapMd5Peer {
 public:
  static constexpr EapType type = EapType::md5;
  [[nodiscard]] EapMethodStep take(const EapPeerContext& context, const EapPacket& request);
  // It answers; whether that was right, the server's Success alone says.
  [[nodiscard]] bool may_succeed() const { return answered_; }
  [[nodiscard]] Secret key() const { return {}; }

 private:
  bool answered_ = false;
};

}  // namespace postern::ike
