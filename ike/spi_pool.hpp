// Inbound ESP SPIs of this node: random, and none that a manual SA, a negotiated one or a survivor of an earlier life
// has (RFC 4303 §2.1, MAN-14).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <unordered_set>

#include "base/bytes.hpp"
#include "base/net_types.hpp"
#include "base/result.hpp"

namespace postern::ike {

class SpiPool {
 public:
  using Random = std::function<Result<void>(MutableBytes)>;
  explicit SpiPool(Random random) : random_(std::move(random)) {}

  [[nodiscard]] Result<std::uint32_t> allocate() {
    for (int tries = 0; tries < 64; ++tries) {
      std::array<std::byte, 4> bytes;
      POSTERN_CHECK(random_(bytes));
      const std::uint32_t spi = load_be32(bytes.data());
      if (spi < first_usable_spi || manual_.contains(spi) || foreign_.contains(spi)) continue;
      if (used_.insert(spi).second) return spi;
    }
    return fail("no inbound SPI is free");
  }
  void free(std::uint32_t spi) { used_.erase(spi); }

  void set_manual(std::span<const std::uint32_t> spis) { manual_ = {spis.begin(), spis.end()}; }
  // SAs in the data plane that no session of this life made.
  void set_foreign(std::span<const std::uint32_t> spis) { foreign_ = {spis.begin(), spis.end()}; }
  [[nodiscard]] std::size_t in_use() const { return used_.size(); }

 private:
  Random random_;
  std::unordered_set<std::uint32_t> used_, manual_, foreign_;
};

}  // namespace postern::ike
