// Data of a reply to text. One renderer a command; the data is what `--json` prints, and no text comes from elsewhere.
// "detail": true in it asks for the long form.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace postern::cli {

[[nodiscard]] std::string render_access_lists(const nlohmann::json& data);
[[nodiscard]] std::string render_crypto_map(const nlohmann::json& data);
[[nodiscard]] std::string render_crypto_dynamic_map(const nlohmann::json& data);
[[nodiscard]] std::string render_crypto_ipsec_sa(const nlohmann::json& data);
[[nodiscard]] std::string render_crypto_ipsec_transform_set(const nlohmann::json& data);
[[nodiscard]] std::string render_crypto_session(const nlohmann::json& data);
[[nodiscard]] std::string render_interface_tunnel(const nlohmann::json& data);
[[nodiscard]] std::string render_dataplane(const nlohmann::json& data);
[[nodiscard]] std::string render_config_show(const nlohmann::json& data);
[[nodiscard]] std::string render_config_diff(const nlohmann::json& data);
[[nodiscard]] std::string render_config_apply(const nlohmann::json& data);
[[nodiscard]] std::string render_config_confirm(const nlohmann::json& data);
[[nodiscard]] std::string render_clear(const nlohmann::json& data);
[[nodiscard]] std::string render_ike(const nlohmann::json& data);
[[nodiscard]] std::string render_isakmp_sas(const nlohmann::json& data);
[[nodiscard]] std::string render_isakmp_peers(const nlohmann::json& data);
[[nodiscard]] std::string render_ikev2_sa(const nlohmann::json& data);
[[nodiscard]] std::string render_ikev2_session(const nlohmann::json& data);
[[nodiscard]] std::string render_ikev2_proposals(const nlohmann::json& data);
[[nodiscard]] std::string render_ikev2_policies(const nlohmann::json& data);
[[nodiscard]] std::string render_ikev2_profiles(const nlohmann::json& data);
[[nodiscard]] std::string render_ikev2_diagnose(const nlohmann::json& data);
[[nodiscard]] std::string render_pki_certificates(const nlohmann::json& data);
[[nodiscard]] std::string render_pki_bundle(const nlohmann::json& data);
[[nodiscard]] std::string render_pki_trustpoints(const nlohmann::json& data);
[[nodiscard]] std::string render_clear_session(const nlohmann::json& data);
[[nodiscard]] std::string render_redirect(const nlohmann::json& data);
[[nodiscard]] std::string render_rekey(const nlohmann::json& data);
[[nodiscard]] std::string render_connect(const nlohmann::json& data);
[[nodiscard]] std::string render_debug(const nlohmann::json& data);

// Parts of an entry that static and dynamic maps have in common: "acl", "lifetime", "transform_sets".
[[nodiscard]] std::string access_list(const nlohmann::json& entry, bool v6);
[[nodiscard]] std::string entry_lifetime(const nlohmann::json& entry);
[[nodiscard]] std::string entry_sets(const nlohmann::json& entry);

// Indented, ASCII, control characters escaped; ends with a newline.
[[nodiscard]] std::string render_json(const nlohmann::json& data);

}  // namespace postern::cli
