// An IMB_MGR of the ipsec-mb library. Room-private, for the files that use that library.
#pragma once

#define NO_COMPAT_IMB_API_053
#include <cstdint>
#include <string>
#include <utility>

#include <intel-ipsec-mb.h>

#include "base/result.hpp"
#include "base/secret.hpp"

namespace postern::crypto {

// On locked pages: its out-of-order lanes hold round keys and HMAC states while a batch runs. One thread, beyond the
// key schedules, which touch no state of it.
class IpsecMbManager {
 public:
  using Initialise = void (*)(IMB_MGR*);

  // Error: a CPU without AES instructions, or the library's self-test failed.
  [[nodiscard]] static Result<IpsecMbManager> create(Initialise initialise) {
    POSTERN_TRY(pages, allocate_locked(imb_get_mb_mgr_size()));
    IpsecMbManager manager(pages);
    manager.mgr_ = imb_set_pointers_mb_mgr(pages.data, 0, 1);
    if (manager.mgr_ == nullptr) return fail("ipsec-mb: no manager");
    initialise(manager.mgr_);
    if (const int error = imb_get_errno(manager.mgr_); error != 0)
      return fail(std::string("ipsec-mb: ") + imb_get_strerror(error));
    if (!manager.has(IMB_FEATURE_AESNI)) return fail("ipsec-mb: the CPU has no AES instructions");
    if (manager.has(IMB_FEATURE_SELF_TEST) && !manager.has(IMB_FEATURE_SELF_TEST_PASS))
      return fail("ipsec-mb: self-test failed");
    return manager;
  }
  // With the widest kernels that the CPU has.
  [[nodiscard]] static Result<IpsecMbManager> create_best() {
    return create([](IMB_MGR* mgr) { init_mb_mgr_auto(mgr, nullptr); });
  }
  IpsecMbManager(IpsecMbManager&& other) noexcept
      : pages_(std::exchange(other.pages_, {})), mgr_(std::exchange(other.mgr_, nullptr)) {}
  IpsecMbManager& operator=(IpsecMbManager&& other) noexcept {
    std::swap(pages_, other.pages_);
    std::swap(mgr_, other.mgr_);
    return *this;
  }
  ~IpsecMbManager() { free_locked(pages_); }

  [[nodiscard]] IMB_MGR* get() const { return mgr_; }
  [[nodiscard]] bool has(std::uint64_t features) const { return (mgr_->features & features) == features; }

 private:
  explicit IpsecMbManager(const LockedPages& pages) : pages_(pages) {}
  LockedPages pages_;
  IMB_MGR* mgr_ = nullptr;
};

}  // namespace postern::crypto
