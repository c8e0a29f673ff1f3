// EAP in the "ikev2" section: methods by name, the passwords of both ends.
#include <algorithm>
#include <array>

#include "config/convert.hpp"

namespace postern::config {
namespace {

using nlohmann::json;

constexpr std::array<std::pair<const char*, EapMethodWord>, 3> eap_method_words = {{
    {"mschapv2", EapMethodWord::mschapv2},
    {"md5", EapMethodWord::md5},
    {"tls", EapMethodWord::tls},
}};
constexpr const char* allowed_methods = "mschapv2, tls, md5";

const json& eap_of(const json& side) {
  static const json none = json::object();
  const auto found = side.find("eap");
  return found == side.end() ? none : *found;
}

std::vector<EapMethodWord> convert_methods(const json& eap, const std::string& path, Conversion& conversion) {
  if (!eap.contains("methods")) return {EapMethodWord::mschapv2};
  std::vector<EapMethodWord> out;
  std::size_t index = 0;
  for (const json& one : eap["methods"]) {
    const std::string here = at("{}/eap/methods/{}", path, index++), said = one;
    const auto* const known =
        std::ranges::find_if(eap_method_words, [&](const auto& row) { return said == row.first; });
    if (known == eap_method_words.end())
      conversion.report.error(here, quoted(here, said) + " is not an EAP method that we have", allowed_methods);
    else if (std::ranges::find(out, known->second) != out.end())
      conversion.report.warning(here, "is in the list already");
    else
      out.push_back(known->second);
  }
  return out;
}

void refuse_members(const json& eap, const std::string& path, std::initializer_list<const char*> of_other_side,
                    Conversion& conversion) {
  for (const char* const name : of_other_side)
    if (eap.contains(name))
      conversion.report.error(at("{}/eap/{}", path, name), "belongs to the other side", "authentication.local, remote");
}

}  // namespace

const char* word(EapMethodWord method) {
  for (const auto& [name, one] : eap_method_words)
    if (one == method) return name;
  return "";
}

EapLocal convert_eap_local(const json& side, const std::string& path, Conversion& conversion) {
  const json& eap = eap_of(side);
  refuse_members(eap, path, {"query_identity"}, conversion);
  EapLocal out{convert_methods(eap, path, conversion), eap.value("identity", std::string()), {}};
  if (eap.contains("password"))
    out.password = convert_pre_shared_key(eap["password"], path + "/eap/password", conversion);
  return out;
}

EapRemote convert_eap_remote(const json& side, const std::string& path, Conversion& conversion) {
  const json& eap = eap_of(side);
  refuse_members(eap, path, {"identity", "password"}, conversion);
  return {convert_methods(eap, path, conversion), eap.value("query_identity", false)};
}

std::vector<EapUser> convert_eap_users(const json& ikev2, Conversion& conversion) {
  std::vector<EapUser> out;
  for (const json& one : list_of(ikev2, "eap_users")) {
    const std::string path = at("/ikev2/eap_users/{}/password", out.size());
    out.push_back({one["name"].get<std::string>(), convert_pre_shared_key(one["password"], path, conversion)});
  }
  return out;
}

}  // namespace postern::config
