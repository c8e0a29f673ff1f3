#include "maps/bpf_maps.hpp"

namespace postern {

Result<NodeMaps> NodeMaps::open(const std::filesystem::path& pin_dir) {
  NodeMaps maps;
  Result<void> opened;
  for_each_map(maps, [&](const char* name, auto& map) {
    if (!opened) return;
    auto one = std::remove_cvref_t<decltype(map)>::open(pin_dir, name);
    if (one)
      map = std::move(*one);
    else
      opened = std::unexpected(std::move(one.error()));
  });
  if (!opened) return std::unexpected(std::move(opened.error()));
  return maps;
}

}  // namespace postern
