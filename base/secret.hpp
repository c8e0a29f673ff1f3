// Key bytes: in locked memory that no core dump holds, wiped when they go.
#pragma once

#include <cstddef>
#include <span>

#include "base/bytes.hpp"
#include "base/result.hpp"

namespace postern {

// Overwrites memory in a way the compiler keeps, and the vector registers, where copying left parts of it.
void wipe(MutableBytes bytes);

// Equal in a time that depends on the sizes alone.
[[nodiscard]] bool equal_in_constant_time(Bytes a, Bytes b);

// Owned key bytes. Lives on pages of its own arena: mlock'ed, MADV_DONTDUMP, MADV_WIPEONFORK; wiped on destruction.
// Never printed: no operator<<, no formatter. Thread-safe to create and destroy.
class Secret {
 public:
  Secret() = default;
  explicit Secret(std::size_t size);
  [[nodiscard]] static Secret copy_of(Bytes bytes);
  Secret(Secret&&) noexcept;
  Secret& operator=(Secret&&) noexcept;
  Secret(const Secret& other) : Secret(copy_of(other.bytes())) {}
  Secret& operator=(const Secret& other) { return *this = copy_of(other.bytes()); }
  ~Secret();

  [[nodiscard]] Bytes bytes() const { return {data_, size_}; }
  [[nodiscard]] MutableBytes mutable_bytes() { return {data_, size_}; }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] bool operator==(const Secret& other) const { return equal_in_constant_time(bytes(), other.bytes()); }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// Maps `size` bytes of locked, undumped, wiped-on-fork memory (rounded up to pages). For tables of expanded keys.
// Unlocked where RLIMIT_MEMLOCK forbids it: `locked` tells, and the caller logs it once.
struct LockedPages {
  std::byte* data = nullptr;
  std::size_t size = 0;
  bool locked = false;
};
[[nodiscard]] Result<LockedPages> allocate_locked(std::size_t size);
void free_locked(const LockedPages& pages);

}  // namespace postern
