// The OpenSSL backend of EspEngine, for CPUs and transforms that ipsec-mb does not serve. Room-private;
// packet_cipher.hpp has the contract.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "crypto/expanded_key.hpp"

namespace postern::crypto {

class OpenSslEngine {
 public:
  [[nodiscard]] static Result<OpenSslEngine> create();
  OpenSslEngine(OpenSslEngine&&) noexcept;
  OpenSslEngine& operator=(OpenSslEngine&&) noexcept;
  ~OpenSslEngine();

  void seal(std::span<EspJob> jobs);
  void open(std::span<EspJob> jobs);
  void authenticate(std::span<MacJob> jobs);
  [[nodiscard]] std::string name() const;

 private:
  struct State;
  explicit OpenSslEngine(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace postern::crypto
