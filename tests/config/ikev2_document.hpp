// A negotiated document that is right, for the tests of the "ikev2" section: each changes one thing of it.
#pragma once

#include <string>

#include "config/ikev2_lookup.hpp"
#include "tests/config/good_document.hpp"

namespace postern::config {

using nlohmann::json;

inline constexpr const char* psk = "a pre-shared key of the tests";

// The map entry and the tunnel of good(), negotiated.
inline json ike() {
  json document = good();
  document["crypto_maps"][0]["entries"][0] =
      json::parse(R"({"sequence": 10, "type": "ipsec-isakmp", "match_address": "101", "peer": "192.0.2.2",
                      "transform_sets": ["T1"], "ikev2_profile": "PR"})");
  document["tunnels"][0]["protection"].erase("session_key");
  document["ikev2"] = json::parse(R"({
    "proposals": [{"name": "A", "encryption": ["aes-cbc-256", "aes-gcm-128"], "integrity": ["sha256"], "group": [19, 14]}],
    "policies": [{"name": "PO", "proposals": ["A"]}],
    "keyrings": [{"name": "KR", "peers": [{"name": "N2", "address": "192.0.2.2"}]}],
    "profiles": [{"name": "PR", "match": {"identity_remote": [{"address": "192.0.2.2"}]}, "keyring": "KR",
                  "authentication": {"local": {"method": "pre-share"}, "remote": {"method": "pre-share"}}}]})");
  document["ikev2"]["keyrings"][0]["peers"][0]["pre_shared_key"] = psk;
  return document;
}

inline json ike_with(const std::string& pointer, json value) {
  auto document = ike();
  document[json::json_pointer(pointer)] = std::move(value);
  return document;
}
inline json ike_without(const std::string& parent, const std::string& key) {
  auto document = ike();
  document.at(json::json_pointer(parent)).erase(key);
  return document;
}

inline Document loaded(const json& document) {
  auto result = load(document);
  if (!result) FAIL(to_text(result.error()));
  return std::move(result->document);
}

inline void check_warned(const json& document, const std::string& path, const std::string& words) {
  CAPTURE(path);
  const auto result = load(document);
  if (!result) FAIL(to_text(result.error()));
  CAPTURE(to_text(result->warnings));
  const Problem* const found = at_path(result->warnings, path, Severity::warning);
  REQUIRE(found != nullptr);
  CHECK(found->message.find(words) != std::string::npos);
}

inline std::string text_of(const Secret& key) {
  return {reinterpret_cast<const char*>(key.bytes().data()), key.size()};
}

inline const std::string proposal = "/ikev2/proposals/0", peer = "/ikev2/keyrings/0/peers/0",
                         profile = "/ikev2/profiles/0";
inline const std::string entry = "/crypto_maps/0/entries/0";

}  // namespace postern::config
