// Drop reasons and verdicts as C++ sees them: the enums of maps/abi.h with their names and texts.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "maps/abi.h"

namespace postern {

enum class Drop : std::uint8_t {
#define POSTERN_ENUM(name, text) name = POSTERN_DROP_##name,
  POSTERN_DROPS(POSTERN_ENUM)
#undef POSTERN_ENUM
};
inline constexpr std::size_t drop_count = POSTERN_DROP_COUNT;

struct NameAndText {
  std::string_view name;
  std::string_view text;
};

inline constexpr std::array<NameAndText, drop_count> drop_texts = {{
#define POSTERN_ROW(name, text) {#name, text},
    POSTERN_DROPS(POSTERN_ROW)
#undef POSTERN_ROW
}};

inline constexpr std::array<NameAndText, POSTERN_VERDICT_COUNT> verdict_texts = {{
#define POSTERN_ROW(name, text) {#name, text},
    POSTERN_VERDICTS(POSTERN_ROW)
#undef POSTERN_ROW
}};

[[nodiscard]] constexpr const NameAndText& describe(Drop reason) {
  return drop_texts[static_cast<std::size_t>(reason)];
}

}  // namespace postern
