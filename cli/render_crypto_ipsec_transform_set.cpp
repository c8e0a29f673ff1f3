// show crypto ipsec transform-set (SO-22).
#include <fmt/core.h>

#include "cli/render.hpp"
#include "cli/text.hpp"

namespace postern::cli {
namespace {

using nlohmann::json;

std::string words(const json& object, const char* key, const char* between) {
  std::string out;
  for (const json& one : list(object, key)) out += (out.empty() ? "" : between) + printable(one.get<std::string>());
  return out;
}

}  // namespace

std::string render_crypto_ipsec_transform_set(const json& data) {
  std::string out;
  for (const json& set : list(data, "transform_sets")) {
    const bool tunnel = text(set, "mode") == "tunnel";
    out += fmt::format("Transform set {}: {{ {}  }}\n", text(set, "name"), words(set, "transforms", " "));
    out += fmt::format("   will negotiate = {{ {}, {} }},\n", tunnel ? "Tunnel" : "Transport",
                       flag(set, "required") ? "require" : "");
    if (const std::string weak = words(set, "weak", ", "); !weak.empty()) out += "   weak: " + weak + "\n";
    if (const std::string users = words(set, "used_by", ", "); !users.empty()) out += "   used by: " + users + "\n";
  }
  return out.empty() ? "No transform sets found.\n" : out;
}

}  // namespace postern::cli
