// The parts of convert(): one function a section. All may assume that the schema holds.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "config/gates.hpp"
#include "config/values.hpp"

namespace postern::config {

struct Conversion {
  const LoadOptions& options;
  Report& report;

  // The value, or T{} with its error reported at `path`.
  template <class T>
  T keep(Value<T> value, const std::string& path, std::string_view shown = {}) {
    if (value) return std::move(*value);
    const std::string prefix = shown.empty() ? "" : quoted(path, shown) + " ";
    report.error(path, prefix + value.error().message, value.error().allowed);
    return T{};
  }
};

[[nodiscard]] std::vector<Acl> convert_acls(const nlohmann::json& acls, Conversion& conversion);
[[nodiscard]] std::vector<TransformSet> convert_transform_sets(const nlohmann::json& sets, Conversion& conversion);
[[nodiscard]] std::vector<IpsecProfile> convert_profiles(const nlohmann::json& profiles, const Encapsulation& inherited,
                                                         Conversion& conversion);
[[nodiscard]] Pki convert_pki(const nlohmann::json& pki, Conversion& conversion);
[[nodiscard]] Ikev2 convert_ikev2(const nlohmann::json& ikev2, Conversion& conversion);
[[nodiscard]] SecurityAssociation convert_security_association(const nlohmann::json& object);
// A group on offer by its number, or its error.
[[nodiscard]] std::optional<crypto::DhGroup> convert_group(std::uint32_t number, const std::string& path,
                                                           Report& report);
[[nodiscard]] std::optional<crypto::DhGroup> convert_pfs(const nlohmann::json& object, const std::string& path,
                                                         Conversion& conversion);
[[nodiscard]] std::vector<DynamicMap> convert_dynamic_maps(const nlohmann::json& maps, const Encapsulation& inherited,
                                                           Conversion& conversion);
[[nodiscard]] std::vector<CryptoMap> convert_crypto_maps(const nlohmann::json& maps, const Document& around,
                                                         Conversion& conversion);
[[nodiscard]] std::vector<Tunnel> convert_tunnels(const nlohmann::json& tunnels, const Document& around,
                                                  Conversion& conversion);

// Text, 0x and hex digits, or {"file"}; empty where files are not read.
[[nodiscard]] Secret convert_pre_shared_key(const nlohmann::json& value, const std::string& path,
                                            Conversion& conversion);
// convert_eap.cpp: one side's "authentication" of method eap, and the users.
[[nodiscard]] EapLocal convert_eap_local(const nlohmann::json& side, const std::string& path, Conversion& conversion);
[[nodiscard]] EapRemote convert_eap_remote(const nlohmann::json& side, const std::string& path, Conversion& conversion);
[[nodiscard]] std::vector<EapUser> convert_eap_users(const nlohmann::json& ikev2, Conversion& conversion);

// What `object` says of it; the rest is inherited.
[[nodiscard]] Encapsulation convert_encapsulation(const nlohmann::json& object, Encapsulation inherited);
// The array under `key`, or an empty one.
[[nodiscard]] const nlohmann::json& list_of(const nlohmann::json& object, const char* key);

}  // namespace postern::config
