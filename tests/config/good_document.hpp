// A document that is right, and ways to make it wrong at one place.
#pragma once

#include <string>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "config/load.hpp"

namespace postern::config {

inline constexpr const char* key_a = "00112233445566778899aabbccddeeff";
inline constexpr const char* auth_a = "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf";

inline nlohmann::json keys(unsigned inbound, unsigned outbound) {
  const auto sa = [](unsigned spi) {
    return nlohmann::json{{"esp", {{"spi", spi}, {"cipher", key_a}, {"authenticator", auth_a}}}};
  };
  return {{"inbound", sa(inbound)}, {"outbound", sa(outbound)}};
}

inline nlohmann::json good() {
  auto document = nlohmann::json::parse(R"({
    "version": 1,
    "acls": [{"name": "101", "rules": [{"action": "permit", "protocol": "ip", "source": "10.1.0.0/16", "destination": "10.2.0.0/16"}]},
             {"name": "SIX", "rules": [{"action": "permit", "protocol": "ipv6", "source": "2001:db8:1::/64", "destination": "2001:db8:2::/64"}]}],
    "ipsec": {"transform_sets": [{"name": "T1", "transforms": ["esp-aes", "esp-sha256-hmac"]}], "profiles": [{"name": "P1", "transform_sets": ["T1"]}]},
    "crypto_maps": [{"name": "M1", "entries": [{"sequence": 10, "type": "ipsec-manual", "match_address": "101", "peer": "192.0.2.2", "transform_set": "T1"}]},
                    {"name": "M6", "entries": [{"sequence": 10, "type": "ipsec-manual", "match_address": "SIX", "peer": "2001:db8:ff::2", "transform_set": "T1"}]}],
    "interfaces": [{"name": "out0", "addresses": ["192.0.2.1/24", "2001:db8:ff::1/64"], "crypto_map": "M1", "ipv6_crypto_map": "M6"},
                   {"name": "in0", "addresses": ["10.1.0.1/16"], "inside": true}],
    "tunnels": [{"number": 0, "addresses": ["172.16.0.1/30"], "mode": "ipsec ipv4", "source": "out0", "destination": "192.0.2.2",
                 "protection": {"profile": "P1"}, "routes": ["10.4.0.0/16"]}]
  })");
  document["crypto_maps"][0]["entries"][0]["session_key"] = keys(4097, 4098);
  document["crypto_maps"][1]["entries"][0]["session_key"] = keys(4099, 4100);
  document["tunnels"][0]["protection"]["session_key"] = keys(4101, 4102);
  return document;
}

inline nlohmann::json good_with(const std::string& pointer, nlohmann::json value) {
  auto document = good();
  document[nlohmann::json::json_pointer(pointer)] = std::move(value);
  return document;
}

// The problems of a refused document; none for one that is accepted.
inline Problems problems_of(const nlohmann::json& document) {
  auto loaded = load(document);
  return loaded ? Problems{} : loaded.error();
}

inline const Problem* at_path(const Problems& problems, const std::string& path, Severity severity = Severity::error) {
  for (const Problem& problem : problems)
    if (problem.path == path && problem.severity == severity) return &problem;
  return nullptr;
}

// One row of a table: this document is refused, at this path, with these words in the message or in what is allowed.
inline void check_refused(const nlohmann::json& document, const std::string& path, const std::string& words) {
  CAPTURE(path);
  const auto problems = problems_of(document);
  CAPTURE(to_text(problems));
  const Problem* const found = at_path(problems, path);
  REQUIRE(found != nullptr);
  CHECK((found->message + " | " + found->allowed).find(words) != std::string::npos);
}

inline void check_accepted(const nlohmann::json& document) {
  const auto problems = problems_of(document);
  CAPTURE(to_text(problems));
  CHECK(problems.empty());
}

}  // namespace postern::config
