#include "base/secret.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "base/registers.hpp"

namespace postern {
namespace {

constexpr std::size_t chunk_size = 64;
constexpr std::size_t chunks_per_arena = 1024;
constexpr std::size_t largest_secret = std::size_t{16} << 20;  // a document of 4 MiB, however it is written

// Chunks of 64 bytes on locked arenas. A secret takes a run of neighbouring chunks; arenas are never given back. What
// is larger than an arena, a whole document, has pages of its own and gives them back.
class Arena {
 public:
  static Arena& instance() {
    static Arena* const arena = new Arena;  // never destroyed: secrets of static lifetime may outlive it
    return *arena;
  }

  std::byte* take(std::size_t size) {
    const std::size_t count = (size + chunk_size - 1) / chunk_size;
    if (size > largest_secret) throw std::bad_alloc();
    const std::scoped_lock lock(mutex_);
    if (count > chunks_per_arena) return take_pages(size);
    for (Block& block : blocks_)
      if (std::byte* const at = block.take(count)) return at;
    auto pages = allocate_locked(chunk_size * chunks_per_arena);
    if (!pages) throw std::bad_alloc();
    blocks_.push_back({*pages, {}});
    return blocks_.back().take(count);
  }

  void give_back(std::byte* at, std::size_t size) {
    const std::scoped_lock lock(mutex_);
    const auto alone = std::ranges::find(large_, at, &LockedPages::data);
    if (alone != large_.end()) {
      free_locked(*alone);
      large_.erase(alone);
      return;
    }
    for (Block& block : blocks_) {
      if (at < block.pages.data || at >= block.pages.data + block.pages.size) continue;
      const auto first = static_cast<std::size_t>(at - block.pages.data) / chunk_size;
      std::fill_n(block.used.begin() + static_cast<std::ptrdiff_t>(first), (size + chunk_size - 1) / chunk_size, false);
      return;
    }
  }

 private:
  struct Block {
    LockedPages pages;
    std::array<bool, chunks_per_arena> used{};

    std::byte* take(std::size_t count) {
      const auto run = std::search_n(used.begin(), used.end(), static_cast<int>(count), false);
      if (run == used.end()) return nullptr;
      std::fill_n(run, count, true);
      return pages.data + static_cast<std::size_t>(run - used.begin()) * chunk_size;
    }
  };

  std::byte* take_pages(std::size_t size) {
    large_.reserve(large_.size() + 1);
    const auto pages = allocate_locked(size);
    if (!pages) throw std::bad_alloc();
    large_.push_back(*pages);
    return pages->data;
  }

  std::mutex mutex_;
  std::vector<Block> blocks_;
  std::vector<LockedPages> large_;
};

}  // namespace

void wipe(MutableBytes bytes) {
  if (!bytes.empty()) explicit_bzero(bytes.data(), bytes.size());
  clear_vector_registers();  // where memcpy() left parts of it
}

bool equal_in_constant_time(Bytes a, Bytes b) {
  if (a.size() != b.size()) return false;
  std::byte difference{0};
  for (std::size_t i = 0; i < a.size(); ++i) difference |= a[i] ^ b[i];
  return difference == std::byte{0};
}

Result<LockedPages> allocate_locked(std::size_t size) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  size = (size + page - 1) / page * page;
  void* const at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) return fail_errno("mmap locked memory");
  LockedPages pages{static_cast<std::byte*>(at), size, ::mlock(at, size) == 0};
  ::madvise(at, size, MADV_DONTDUMP);
  ::madvise(at, size, MADV_WIPEONFORK);
  return pages;
}

void free_locked(const LockedPages& pages) {
  if (pages.data == nullptr) return;
  wipe({pages.data, pages.size});
  ::munmap(pages.data, pages.size);
}

Secret::Secret(std::size_t size) : data_(size == 0 ? nullptr : Arena::instance().take(size)), size_(size) {}

Secret Secret::copy_of(Bytes bytes) {
  Secret out(bytes.size());
  std::ranges::copy(bytes, out.data_);
  return out;
}

Secret::Secret(Secret&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Secret& Secret::operator=(Secret&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Secret::~Secret() {
  if (data_ == nullptr) return;
  wipe({data_, size_});
  Arena::instance().give_back(data_, size_);
}

}  // namespace postern
