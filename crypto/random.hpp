// Random bytes, by OpenSSL's generator: seeded once per thread, no system call per draw.
#pragma once

#include <array>
#include <cstddef>

#include "base/bytes.hpp"
#include "base/result.hpp"

namespace postern::crypto {

// Unpredictable bytes. Error: the generator could not be seeded.
[[nodiscard]] Result<void> random_bytes(MutableBytes out);

// CBC IVs (RFC 3602 §3: random, unpredictable), drawn from the generator in large blocks. One thread.
class IvPool {
 public:
  static constexpr std::size_t iv_bytes = 16;
  static constexpr std::size_t capacity = 512;

  // Makes sure that `count` (at most capacity) IVs can be taken. On error none may be.
  [[nodiscard]] Result<void> reserve(std::size_t count);
  // The next reserved IV; each is given out once.
  [[nodiscard]] const std::byte* take() { return bytes_.data() + iv_bytes * next_++; }

 private:
  std::array<std::byte, iv_bytes * capacity> bytes_{};
  std::size_t next_ = capacity;
};

}  // namespace postern::crypto
