// Owned descriptors and mappings: acquired in order, released by scope.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

#include "base/result.hpp"

namespace postern {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~Fd() { reset(); }

  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] explicit operator bool() const { return fd_ >= 0; }
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }
  void reset() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_ = -1;
};

// A mapping of `size` bytes; unmaps exactly what was mapped.
class Mapping {
 public:
  Mapping() = default;
  [[nodiscard]] static Result<Mapping> map(std::size_t size, int protection, int flags, int fd, off_t offset,
                                           const char* what) {
    void* const at = ::mmap(nullptr, size, protection, flags, fd, offset);
    if (at == MAP_FAILED) return fail_errno(std::string("mmap ") + what);
    return Mapping(at, size);
  }
  Mapping(Mapping&& other) noexcept : at_(std::exchange(other.at_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(at_, other.at_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Mapping() {
    if (at_ != nullptr) ::munmap(at_, size_);
  }

  [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(at_); }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::span<std::byte> bytes() const { return {data(), size_}; }
  template <class T>
  [[nodiscard]] T* as(std::size_t offset = 0) const {
    return reinterpret_cast<T*>(data() + offset);
  }

 private:
  Mapping(void* at, std::size_t size) : at_(at), size_(size) {}
  void* at_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace postern
