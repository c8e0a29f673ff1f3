// The ipsec-mb backend of EspEngine: AES and HMAC over many packets at once. Room-private; packet_cipher.hpp has the
// contract.
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
  [[nodiscard]] std::string name() const;

 private:
  struct State;
  explicit IpsecMbEngine(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Writes the schedules of `key`, which is without salt; leaves them zero where ipsec-mb does not run. Any thread.
void expand_for_ipsec_mb(Cipher cipher, Bytes key, IpsecMbSchedule& out);

}  // namespace postern::crypto
