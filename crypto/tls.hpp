// One end of a TLS handshake in memory, for EAP-TLS: 1.2 (RFC 5216) or 1.3 (RFC 9190), records in, records out, a key
// at the end. OpenSSL does it; whether the peer's certificate is good, the caller says. No session is ever resumed. One
// thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/secret.hpp"
#include "crypto/certificate.hpp"
#include "crypto/signature.hpp"

namespace postern::crypto {

struct TlsStep {
  enum class State : std::uint8_t { more, finished, failed } state{};
  std::vector<std::byte> out;  // for the peer, an alert included
  std::string why;             // failed: for a person
  bool by_peer = false;        // failed: by an alert of its
};

// Uses TLS once, for a process that cannot open files later.
[[nodiscard]] Result<void> wake_tls();

class TlsEnd {
 public:
  enum class Newest : std::uint8_t { tls12, tls13 };
  struct Setup {
    bool server = false;
    std::vector<Certificate> own;  // the end's own first
    PrivateKey key;
    std::vector<Certificate> authorities;  // a server names them to the peer
    // Why the peer's certificate, with what it sent beside it, is not believed; nothing: it is.
    std::function<std::optional<std::string>(const Certificate& leaf, const std::vector<Certificate>& others)> judge;
    Newest newest = Newest::tls13;
  };
  [[nodiscard]] static Result<std::unique_ptr<TlsEnd>> create(Setup setup);
  ~TlsEnd();

  // What the peer sent, whole flights; nothing: a client begins.
  [[nodiscard]] TlsStep take(Bytes records);
  // Once it is finished: the MSK of EAP-TLS, 64 bytes (RFC 5216 §2.3, RFC 9190 §2.3).
  [[nodiscard]] Result<Secret> eap_key() const;
  [[nodiscard]] std::string version() const;  // "TLSv1.3"

  struct Inside;

 private:
  explicit TlsEnd(std::unique_ptr<Inside> inside);
  std::unique_ptr<Inside> inside_;
};

}  // namespace postern::crypto
