// Key text passes through buffers that are not ours: the JSON lexer, the validator, socket buffers. So in every process
// that links this room, heap memory is overwritten when it is freed. None of them is on the packets' path.
#include "config/wiped_heap.hpp"

#include <cstddef>
#include <cstdlib>
#include <new>

#include <malloc.h>
#include <string.h>

namespace postern::config {

// Named by load.cpp, so that the linker takes this object with its operators whenever documents are read.
void use_wiped_heap() {}

}  // namespace postern::config

// AddressSanitizer has operators of its own, whose checks are worth more in a test build.
#if defined(__SANITIZE_ADDRESS__)
#define POSTERN_SANITIZED_HEAP
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POSTERN_SANITIZED_HEAP
#endif
#endif

#ifndef POSTERN_SANITIZED_HEAP
namespace {

void* take(std::size_t size, std::size_t alignment) {
  if (size == 0) size = 1;
  for (;;) {
    void* const at = alignment == 0 ? std::malloc(size)
                                    : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
    if (at != nullptr) return at;
    const std::new_handler handler = std::get_new_handler();
    if (handler == nullptr) throw std::bad_alloc();
    handler();
  }
}

void give_back(void* at) noexcept {
  if (at == nullptr) return;
  explicit_bzero(at, malloc_usable_size(at));
  std::free(at);
}

}  // namespace

// [new.delete]: the other forms (array, nothrow) are specified to call these.
void* operator new(std::size_t size) { return take(size, 0); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return take(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* at) noexcept { give_back(at); }
void operator delete(void* at, std::size_t) noexcept { give_back(at); }
void operator delete(void* at, std::align_val_t) noexcept { give_back(at); }
void operator delete(void* at, std::size_t, std::align_val_t) noexcept { give_back(at); }
#endif
