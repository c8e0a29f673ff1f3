// A UMEM as the worker sees it: posternd's memfd, mapped, its free frames, and which frames the kernel holds for which
// socket. Owner: one worker thread.
#pragma once

#include <cstdint>
#include <memory>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "worker/pipeline.hpp"
#include "worker/sa_channel.hpp"

namespace postern {

// Who holds a frame: a number for each socket, given out again only when no frame bears it.
using FrameHolder = std::uint16_t;
inline constexpr FrameHolder held_by_worker = 0;

class Umem {
 public:
  // EINVAL: a layout that is not one, or a memfd smaller than it says.
  [[nodiscard]] static Result<std::unique_ptr<Umem>> map(const Fd& memfd, const UmemLayout& layout);

  [[nodiscard]] std::uint32_t id() const { return id_; }
  [[nodiscard]] std::uint32_t frames() const { return frame_count_; }
  [[nodiscard]] FramePool& pool() { return pool_; }
  [[nodiscard]] std::size_t bytes() const { return memory_.size(); }
  [[nodiscard]] std::uint32_t frame_bytes() const { return pool_.frame_bytes(); }

  [[nodiscard]] std::byte* at(std::uint64_t address) const { return memory_.data() + address; }
  [[nodiscard]] std::uint64_t address_of(const void* byte) const {
    return static_cast<std::uint64_t>(static_cast<const std::byte*>(byte) - memory_.data());
  }
  [[nodiscard]] FrameAddress frame_of(std::uint64_t address) const {
    return address & ~std::uint64_t{frame_bytes() - 1};
  }
  [[nodiscard]] bool contains(std::uint64_t address, std::uint32_t size) const {
    return address < memory_.size() && size <= frame_bytes() - (address & (frame_bytes() - 1));
  }

  // Hand-over bookkeeping, so that the frames of a socket that went away can be taken back. A frame that the kernel
  // returns twice, or that was not its own, is ignored: returned() is false.
  void lend(std::uint64_t address, FrameHolder to) { holder_[address >> frame_shift_] = to; }
  [[nodiscard]] bool returned(std::uint64_t address, FrameHolder from) {
    FrameHolder& holder = holder_[address >> frame_shift_];
    if (holder != from) return false;
    holder = held_by_worker;
    return true;
  }
  // Puts every frame that `gone` held into the pool. Only when the kernel has let go of that socket.
  void take_back(FrameHolder gone);

 private:
  Umem(Mapping memory, const UmemLayout& layout);

  Mapping memory_;
  std::uint32_t id_, frame_count_, frame_shift_;
  FramePool pool_;
  std::unique_ptr<FrameHolder[]> holder_;
};

}  // namespace postern
