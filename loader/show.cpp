#include "loader/show.hpp"

#include <array>

#include "config/render.hpp"
#include "loader/show_support.hpp"

namespace postern::loader {
namespace {

using nlohmann::json;

Result<json> config_show(const json& args, const NodeView& view) {
  POSTERN_CHECK(only_arguments(args, {}));
  return config::render(view.document);
}

struct Row {
  std::string_view command;
  Result<json> (*build)(const json&, const NodeView&);
};
constexpr std::array rows = {
    Row{"show access-lists", show_access_lists},
    Row{"show crypto map", show_crypto_map},
    Row{"show crypto dynamic-map", show_crypto_dynamic_map},
    Row{"show crypto ipsec sa", show_crypto_ipsec_sa},
    Row{"show crypto ipsec transform-set", show_crypto_ipsec_transform_set},
    Row{"show crypto session", show_crypto_session},
    Row{"show interface tunnel", show_interface_tunnel},
    Row{"show dataplane", show_dataplane},
    Row{"config show", config_show},
};

}  // namespace

Result<json> show(std::string_view command, const json& args, const NodeView& view) {
  for (const Row& row : rows)
    if (row.command == command) return row.build(args, view);
  return fail("unknown command");
}

}  // namespace postern::loader
