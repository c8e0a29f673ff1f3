// Names of network devices, several in one text with a space between: no device has one in its name.
#pragma once

#include <algorithm>
#include <string_view>
#include <vector>

namespace postern {

[[nodiscard]] inline std::vector<std::string_view> device_names(std::string_view all) {
  std::vector<std::string_view> out;
  for (std::size_t at = 0; at <= all.size();) {
    const std::size_t end = std::min(all.find(' ', at), all.size());
    if (end != at) out.push_back(all.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

[[nodiscard]] inline bool is_among(std::string_view one, std::string_view all) {
  const auto names = device_names(all);
  return std::ranges::find(names, one) != names.end();
}

}  // namespace postern
