// The ipsec-mb backend of EspEngine: ciphers and authenticators over many packets at once. Room-private;
// packet_cipher.hpp has the contract.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "crypto/expanded_key.hpp"

namespace postern::crypto {

class IpsecMbEngine {
 public:
  // Error: built without ipsec-mb, a CPU without AES instructions, or the library's self-test failed.
  [[nodiscard]] static Result<IpsecMbEngine> create();
  IpsecMbEngine(IpsecMbEngine&&) noexcept;
  IpsecMbEngine& operator=(IpsecMbEngine&&) noexcept;
  ~IpsecMbEngine();

  void seal(std::span<EspJob> jobs);
  void open(std::span<EspJob> jobs);
  void authenticate(std::span<MacJob> jobs);
  [[nodiscard]] std::string name() const;

 private:
  struct State;
  explicit IpsecMbEngine(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace postern::crypto
