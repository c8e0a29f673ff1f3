// The data of every `show`: NodeView to JSON in the shape the command line renders and `--json` prints. Pure; any
// thread.
#pragma once

#include <string_view>

#include <nlohmann/json.hpp>

#include "base/result.hpp"
#include "loader/node_view.hpp"

namespace postern::loader {

// `command` in full words ("show crypto map"), `args` an object. Error: unknown command or argument, unknown name or
// number.
//   show access-lists          args: name
//   show crypto map            args: tag, interface       show crypto ipsec sa    args: interface, map, peer
//   show crypto session        args: interface            show dataplane          args: none
//   show interface tunnel      args: number               config show             args: none
//   show crypto ipsec transform-set    args: tag       show crypto dynamic-map    args: tag
[[nodiscard]] Result<nlohmann::json> show(std::string_view command, const nlohmann::json& args, const NodeView& view);

// One builder a command, for tests and for posternd's other users.
[[nodiscard]] Result<nlohmann::json> show_access_lists(const nlohmann::json& args, const NodeView& view);
[[nodiscard]] Result<nlohmann::json> show_crypto_map(const nlohmann::json& args, const NodeView& view);
[[nodiscard]] Result<nlohmann::json> show_crypto_dynamic_map(const nlohmann::json& args, const NodeView& view);
[[nodiscard]] Result<nlohmann::json> show_crypto_ipsec_sa(const nlohmann::json& args, const NodeView& view);
[[nodiscard]] Result<nlohmann::json> show_crypto_ipsec_transform_set(const nlohmann::json& args, const NodeView& view);
[[nodiscard]] Result<nlohmann::json> show_crypto_session(const nlohmann::json& args, const NodeView& view);
[[nodiscard]] Result<nlohmann::json> show_interface_tunnel(const nlohmann::json& args, const NodeView& view);
[[nodiscard]] Result<nlohmann::json> show_dataplane(const nlohmann::json& args, const NodeView& view);

}  // namespace postern::loader
