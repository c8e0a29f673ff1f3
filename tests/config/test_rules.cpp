// The fourth gate: MAN-01..14, TS-05, TS-06, TS-08, TS-13..28, TS-31, TS-35, TS-38, SV-06. Each bad row
// beside a good.
#include <ctime>

#include "config/render.hpp"
#include "crypto/transforms.hpp"
#include "maps/abi.h"
#include "tests/config/good_document.hpp"

namespace postern::config {
namespace {

using nlohmann::json;

const std::string entry = "/crypto_maps/0/entries/0";
const std::string esp = entry + "/session_key/inbound/esp";

json rule(const char* action, const char* source, const char* destination) {
  return {{"action", action}, {"protocol", "ip"}, {"source", source}, {"destination", destination}};
}

json with_set(json transforms, json mode = "tunnel") {
  auto document = good();
  document["ipsec"]["transform_sets"].push_back(
      {{"name", "T2"}, {"transforms", std::move(transforms)}, {"mode", std::move(mode)}});
  document["crypto_maps"][0]["entries"][0]["transform_set"] = "T2";
  return document;
}

// Every key of entry 0 with so many bytes; no key for 0.
json with_key_bytes(json document, std::size_t cipher, std::size_t authenticator) {
  for (const char* const direction : {"inbound", "outbound"}) {
    json& sa = document["crypto_maps"][0]["entries"][0]["session_key"][direction]["esp"];
    sa["cipher"] = std::string(cipher * 2, 'a');
    if (cipher == 0) sa.erase("cipher");
    sa["authenticator"] = std::string(authenticator * 2, 'b');
    if (authenticator == 0) sa.erase("authenticator");
  }
  return document;
}

}  // namespace

TEST_CASE("MAN-01, MAN-02: manual entries for both families load") {
  const auto loaded = load(good());
  if (!loaded) FAIL(to_text(loaded.error()));
  CHECK(loaded->document.crypto_maps[0].family == Family::v4);
  CHECK(loaded->document.crypto_maps[1].family == Family::v6);
  CHECK(loaded->document.crypto_maps[0].entries[0].keys.inbound.spi == 4097);
  CHECK(loaded->document.crypto_maps[0].entries[0].keys.inbound.cipher_key.size() == 16);
}

TEST_CASE("MAN-03: exactly one permit rule, any number of denies") {
  auto document = good();
  document["acls"][0]["rules"].push_back(rule("permit", "10.1.0.0/16", "10.7.0.0/16"));
  check_refused(document, entry + "/match_address", "2 permit rules");
  document["acls"][0]["rules"] = json::array({rule("deny", "10.1.0.0/16", "10.2.0.0/16")});
  check_refused(document, entry + "/match_address", "0 permit rules");
  document["acls"][0]["rules"] =
      json::array({rule("deny", "host 10.1.0.9", "any"), rule("permit", "10.1.0.0/16", "10.2.0.0/16")});
  check_accepted(document);
}

TEST_CASE("MAN-07: key lengths by algorithm") {
  struct Row {
    json transforms;
    std::size_t cipher, authenticator;
  };
  const Row rows[] = {{{"esp-aes", "esp-sha256-hmac"}, 16, 32},  {{"esp-aes 128", "esp-sha-hmac"}, 16, 20},
                      {{"esp-aes 192", "esp-sha-hmac"}, 24, 20}, {{"esp-aes 256", "esp-sha256-hmac"}, 32, 32},
                      {{"esp-aes", "esp-sha384-hmac"}, 16, 48},  {{"esp-256-aes", "esp-sha512-hmac"}, 32, 64},
                      {{"esp-des", "esp-md5-hmac"}, 8, 16},      {{"esp-3des", "esp-sha-hmac"}, 24, 20},
                      {{"esp-3des", "esp-aes-cmac"}, 24, 16},    {{"esp-aes", "esp-aes-xcbc-mac"}, 16, 16}};
  for (const Row& row : rows) {
    CAPTURE(row.transforms.dump());
    const auto document = with_set(row.transforms);
    check_accepted(with_key_bytes(document, row.cipher, row.authenticator));
    for (const std::size_t wrong : {row.cipher - 1, row.cipher + 1, row.cipher + 8, row.cipher * 2})
      check_refused(with_key_bytes(document, wrong, row.authenticator), esp + "/cipher",
                    std::to_string(row.cipher) + " bytes");
    for (const std::size_t wrong : {row.authenticator - 1, row.authenticator + 1, std::size_t{15}})
      check_refused(with_key_bytes(document, row.cipher, wrong), esp + "/authenticator",
                    std::to_string(row.authenticator) + " bytes");
  }
}

TEST_CASE("MAN-07: digits that are none") {
  check_refused(good_with(esp + "/cipher", std::string(31, '0')), esp + "/cipher", "odd number");
  check_refused(good_with(esp + "/cipher", std::string(30, '0') + "0g"), esp + "/cipher", "character 32");
  check_refused(good_with(esp + "/cipher", "0x" + std::string(30, '0')), esp + "/cipher", "character 2");
  check_refused(good_with(esp + "/cipher", "********"), esp + "/cipher", "masked");
  check_accepted(good_with(esp + "/cipher", "00112233445566778899AABBCCDDEEFF"));
}

TEST_CASE("MAN-07, TS-25: esp-null has no cipher key, and everything else has one") {
  const auto null = with_set({"esp-null", "esp-sha256-hmac"});
  check_accepted(with_key_bytes(null, 0, 32));
  check_refused(with_key_bytes(null, 16, 32), esp + "/cipher", "leave the key out");
  check_refused(with_key_bytes(null, 0, 20), esp + "/authenticator", "32 bytes");
  check_refused(with_key_bytes(good(), 0, 32), esp + "/cipher", "is missing");
}

TEST_CASE("MAN-08: an authenticator key goes with an authenticator") {
  check_refused(with_key_bytes(good(), 16, 0), esp + "/authenticator", "is missing");
  check_refused(with_key_bytes(good(), 16, 0), entry + "/session_key/outbound/esp/authenticator", "is missing");
  check_accepted(with_key_bytes(good(), 16, 32));
}

TEST_CASE("MAN-13: an AEAD or AES-CTR with manual keys is refused for its nonce, and is fine where nothing uses it") {
  for (const crypto::NamedTransform& word : crypto::named_transforms()) {
    if (!crypto::iv_must_not_repeat(word.cipher)) continue;
    json set = json::array({std::string(word.name)});
    if (!crypto::is_aead(word.cipher)) set.push_back("esp-sha256-hmac");
    check_refused(with_set(set), entry + "/transform_set", "nonce reuse");
  }
  auto tunnel = good();
  tunnel["ipsec"]["transform_sets"][0]["transforms"] = {"esp-gcm"};
  check_refused(tunnel, "/tunnels/0/protection/profile", "nonce reuse");
  auto unused = good();
  unused["ipsec"]["transform_sets"].push_back({{"name", "G"}, {"transforms", {"esp-gcm 256"}}});
  check_accepted(unused);
}

TEST_CASE("TS-13..28: transforms") {
  struct Row {
    json transforms;
    const char* path;
    const char* words;
  };
  const Row bad[] = {
      {{"esp-aes", "esp-aes 256", "esp-sha-hmac"}, "/1", "second cipher"},
      {{"esp-aes", "esp-sha-hmac", "esp-sha256-hmac"}, "/2", "second authenticator"},
      {{"esp-gcm", "esp-sha256-hmac"}, "", "authenticates by itself"},
      {{"esp-chacha20-poly1305", "esp-sha512-hmac"}, "", "esp-chacha20-poly1305 authenticates by itself"},
      {{"esp-aes", "esp-chacha20-poly1305"}, "/1", "second cipher"},
      {{"esp-aes", "esp-sha384-hmac", "esp-sha512-hmac"}, "/2", "second authenticator"},
      {{"esp-chacha20-poly1305 256"}, "/0", "not a known transform"},
      {{"esp-sha256-hmac"}, "", "without a cipher"},
      {{"esp-aes"}, "", "without an authenticator"},
      {{"esp-aes 512", "esp-sha-hmac"}, "/0", "not a known transform"},
      {{"esp-blowfish", "esp-sha-hmac"}, "/0", "esp-aes 256"},
      {{"esp-seal", "esp-sha-hmac"}, "/0", "vendor"},
      {{"esp-rfc1829"}, "/0", "RFC 1829"},
      {{"esp-3des"}, "", "without an authenticator"},
      {{"esp-aes-ctr 256"}, "", "without an authenticator"},
      {{"esp-null"}, "", "protects nothing"},
      {{"esp-null", "esp-aes", "esp-sha256-hmac"}, "/1", "second cipher"},
      {{"esp-gmac 128", "esp-sha256-hmac"}, "", "esp-gmac authenticates by itself"},
      {{"esp-aes-ccm-8 256", "esp-aes-cmac"}, "", "esp-aes-ccm-8 256 authenticates by itself"},
      {{"esp-des 56", "esp-sha-hmac"}, "/0", "not a known transform"},
      {{"esp-null 128", "esp-sha-hmac"}, "/0", "not a known transform"},
  };
  for (const Row& row : bad) {
    CAPTURE(row.transforms.dump());
    check_refused(with_set(row.transforms), std::string("/ipsec/transform_sets/1/transforms") + row.path, row.words);
  }
  auto document = good();
  document["ipsec"]["transform_sets"][0]["transforms"] = {"esp-sha256-hmac", "esp-aes 128"};  // any order
  check_accepted(document);
  const auto loaded = load(document);
  CHECK(loaded->document.transform_sets[0].transforms == std::vector<std::string>{"esp-sha256-hmac", "esp-aes"});
  CHECK(loaded->document.transform_sets[0].transform ==
        crypto::Transform{crypto::Cipher::aes_cbc, 128, crypto::Integrity::hmac_sha256_128});
}

TEST_CASE("TS-18, TS-24: every word of the table of algorithms makes a transform set, and is shown by its name") {
  for (const crypto::NamedTransform& word : crypto::named_transforms()) {
    for (const std::string_view spelling : {word.name, word.alias}) {
      if (spelling.empty()) continue;
      CAPTURE(spelling);
      json set = json::array({std::string(spelling)});
      if (word.cipher == crypto::Cipher::none)
        set.push_back("esp-aes");
      else if (!crypto::is_aead(word.cipher))
        set.push_back("esp-sha256-hmac");
      auto document = good();
      document["ipsec"]["transform_sets"].push_back({{"name", "W"}, {"transforms", set}});
      const auto loaded = load(document);
      if (!loaded) FAIL(to_text(loaded.error()));
      const TransformSet& got = *find_named(loaded->document.transform_sets, "W");
      CHECK(got.transforms.front() == word.name);
      CHECK(crypto::sizes_of(got.transform));
      CHECK(loaded->warnings.size() == (word.weak ? 1 : 0));
    }
  }
}

TEST_CASE("TS-31: a weak algorithm works and is warned of once, with its path") {
  const auto loaded = load(with_key_bytes(with_set({"esp-aes", "esp-sha-hmac"}), 16, 20));
  if (!loaded) FAIL(to_text(loaded.error()));
  REQUIRE(loaded->warnings.size() == 1);
  CHECK(loaded->warnings[0].path == "/ipsec/transform_sets/1/transforms/1");
  CHECK(loaded->warnings[0].text().starts_with("%Warning: "));
  CHECK(loaded->warnings[0].message.find("esp-sha-hmac is weak") != std::string::npos);
  CHECK(load(good())->warnings.empty());
  const auto warning = [](const char* word) {
    const auto weak =
        load(with_key_bytes(with_set({word, "esp-sha256-hmac"}), crypto::find_transform(word)->sizes.key_bytes, 32));
    if (!weak) FAIL(to_text(weak.error()));
    REQUIRE(weak->warnings.size() == 1);
    CHECK(weak->warnings[0].path == "/ipsec/transform_sets/1/transforms/0");
    return weak->warnings[0].message;
  };
  CHECK(warning("esp-des").find("56 bits") != std::string::npos);
  CHECK(warning("esp-3des").find("112 bits") != std::string::npos);
  CHECK(warning("esp-null").find("esp-null does not encrypt") != std::string::npos);
}

TEST_CASE("TS-35, TS-38: profiles") {
  auto document = good();
  document["ipsec"]["transform_sets"].push_back({{"name", "T2"}, {"transforms", {"esp-aes 256", "esp-sha256-hmac"}}});
  document["ipsec"]["profiles"].push_back({{"name", "P2"}, {"transform_sets", {"T2", "T1", "T2"}}});
  const auto loaded = load(document);
  if (!loaded) FAIL(to_text(loaded.error()));
  CHECK(at_path(loaded->warnings, "/ipsec/profiles/1/transform_sets/2", Severity::warning) != nullptr);
  document["tunnels"][0]["protection"]["profile"] = "P2";
  check_refused(document, "/tunnels/0/protection/profile", "exactly one transform set");
  // "default" is esp-aes esp-sha-hmac: 20 bytes of authenticator key.
  document = good();
  document["ipsec"]["profiles"][0].erase("transform_sets");
  check_refused(document, "/tunnels/0/protection/session_key/inbound/esp/authenticator", "20 bytes");
  for (const char* const direction : {"inbound", "outbound"})
    document["tunnels"][0]["protection"]["session_key"][direction]["esp"]["authenticator"] = std::string(40, 'c');
  const auto by_default = load(document);
  if (!by_default) FAIL(to_text(by_default.error()));
  CHECK(by_default->document.profiles[0].transform_sets == std::vector<std::string>{"default"});
  CHECK(find_named(by_default->document.transform_sets, "default") != nullptr);
}

TEST_CASE("SV-06, R-21: transport mode") {
  auto document = good();
  document["ipsec"]["transform_sets"][0]["mode"] = "transport";
  check_refused(document, "/tunnels/0/protection/profile", "transport mode");
  document.erase("tunnels");
  const auto loaded = load(document);  // subnet to subnet: taken as tunnel
  if (!loaded) FAIL(to_text(loaded.error()));
  CHECK(at_path(loaded->warnings, entry + "/transform_set", Severity::warning) != nullptr);
  document["acls"][0]["rules"][0]["source"] = "host 192.0.2.1";
  document["acls"][0]["rules"][0]["destination"] = "host 192.0.2.2";
  document["crypto_maps"].erase(1);
  document["interfaces"][0].erase("ipv6_crypto_map");
  check_accepted(document);
}

TEST_CASE("TS-05: rules are in order of sequence, and a sequence stands once") {
  auto document = good();
  json first = rule("deny", "host 10.1.0.9", "any"), second = rule("permit", "10.1.0.0/16", "10.2.0.0/16");
  first["sequence"] = 20;
  second["sequence"] = 10;
  document["acls"][0]["rules"] = json::array({first, second});
  const auto loaded = load(document);
  if (!loaded) FAIL(to_text(loaded.error()));
  CHECK(loaded->document.acls[0].rules[0].action == Action::permit);
  CHECK(loaded->document.acls[0].rules[1].sequence == 20);
  document["acls"][0]["rules"][0]["sequence"] = 10;
  check_refused(document, "/acls/0/rules/1/sequence", "twice");
  document["acls"][0]["rules"][0].erase("sequence");
  document["acls"][0]["rules"][1].erase("sequence");
  CHECK(load(document)->document.acls[0].rules[1].sequence == 20);
}

TEST_CASE("TS-04: what a rule may say beyond its 5-tuple, and where it may not") {
  const auto with = [](const char* protocol, json options) {
    auto document = good();
    json one = rule("permit", "10.1.0.0/16", "10.2.0.0/16");
    one["protocol"] = protocol;
    one.update(options);
    document["acls"][0]["rules"] = json::array({one});
    document["time_ranges"] = {
        {{"name", "WORK"}, {"periodic", {{{"days", {"weekdays"}}, {"start", "08:00"}, {"end", "18:00"}}}}}};
    return document;
  };
  const auto options = [&](const char* protocol, json given) {
    const auto loaded = load(with(protocol, std::move(given)));
    if (!loaded) FAIL(to_text(loaded.error()));
    return loaded->document.acls[0].rules[0].options;
  };
  CHECK(options("ip", {{"dscp", "ef"}}).traffic_class().value == 46 << 2);
  CHECK(options("ip", {{"dscp", 10}}).traffic_class().mask == 0xfc);
  CHECK(options("ip", {{"precedence", "critical"}, {"tos", "min-delay"}}).traffic_class().value == 0xb0);
  CHECK(options("icmp", {{"icmp_type", "port-unreachable"}}).icmp_code == 3);
  CHECK(options("icmp", {{"icmp_type", 8}, {"icmp_code", 2}}).icmp_type == 8);
  CHECK(options("tcp", {{"established", true}}).established);
  CHECK(options("tcp", {{"tcp_flags", {{"set", {"syn"}}, {"clear", {"ack"}}}}}).tcp_flags == TcpFlags{true, 2, 16});
  CHECK(options("ip", {{"time_range", "WORK"}, {"log", true}, {"log_tag", "T"}}).log_tag == "T");

  struct Row {
    const char* protocol;
    json options;
    const char* key;
  };
  const Row rows[] = {{"ip", {{"icmp_type", 8}}, "icmp_type"},
                      {"icmp", {{"icmp_type", "echo-request"}}, "icmp_type"},
                      {"icmp", {{"icmp_type", "net-unreachable"}, {"icmp_code", 0}}, "icmp_code"},
                      {"icmp", {{"icmp_code", 0}}, "icmp_code"},
                      {"icmp", {{"icmp_type", 8}, {"fragments", true}}, "icmp_type"},
                      {"ip", {{"dscp", 64}}, "dscp"},
                      {"ip", {{"dscp", "loud"}}, "dscp"},
                      {"ip", {{"dscp", 1}, {"precedence", 1}}, "precedence"},
                      {"ip", {{"tos", 16}}, "tos"},
                      {"udp", {{"established", true}}, "established"},
                      {"tcp", {{"established", true}, {"tcp_flags", {{"set", {"syn"}}}}}, "established"},
                      {"tcp", {{"tcp_flags", json::object()}}, "tcp_flags"},
                      {"tcp", {{"tcp_flags", {{"set", {"syn"}}, {"clear", {"syn"}}}}}, "tcp_flags"},
                      {"ip", {{"time_range", "NEVER"}}, "time_range"},
                      {"ip", {{"log_tag", "T"}}, "log_tag"}};
  for (const Row& row : rows) {
    CAPTURE(row.options.dump());
    check_refused(with(row.protocol, row.options), std::string("/acls/0/rules/0/") + row.key, "");
  }
  auto v6 = good();
  v6["acls"][1]["rules"][0]["dscp"] = "af11";
  check_accepted(v6);
  v6["acls"][1]["rules"][0]["tos"] = 1;
  CHECK_FALSE(load(v6));
}

TEST_CASE("TS-04: time ranges hold when they say so") {
  const auto range = [](json given) {
    auto document = good();
    given["name"] = "R";
    document["time_ranges"] = json::array({given});
    return load(document);
  };
  const auto at_local = [](int day, int hour, int minute) {
    tm when{};
    when.tm_year = 126, when.tm_mon = 10, when.tm_mday = day, when.tm_hour = hour, when.tm_min = minute,
    when.tm_isdst = -1;
    return static_cast<std::int64_t>(::mktime(&when));
  };
  const auto holds_at = [&](const json& given, std::int64_t when) {
    const auto loaded = range(given);
    if (!loaded) FAIL(to_text(loaded.error()));
    return holds(loaded->document.time_ranges[0], when);
  };
  const json absolute = {{"start", "2026-11-02T08:00"}, {"end", "2026-11-03T09:30:30"}};
  CHECK_FALSE(holds_at(absolute, at_local(2, 7, 59)));
  CHECK(holds_at(absolute, at_local(2, 8, 0)));
  CHECK(holds_at(absolute, at_local(3, 9, 30)));
  CHECK_FALSE(holds_at(absolute, at_local(3, 9, 31)));
  const json work = {{"periodic",
                      {{{"days", {"weekdays"}}, {"start", "08:00"}, {"end", "18:00"}},
                       {{"days", {"saturday"}}, {"start", "23:00"}, {"end", "24:00"}}}}};
  CHECK(holds_at(work, at_local(2, 8, 0)));  // a Monday
  CHECK_FALSE(holds_at(work, at_local(2, 18, 0)));
  CHECK_FALSE(holds_at(work, at_local(1, 12, 0)));  // a Sunday
  CHECK(holds_at(work, at_local(7, 23, 59)));       // a Saturday
  CHECK(holds_at(json::object(), 0));
  CHECK_FALSE(range({{"start", "2026-02-30T08:00"}}));
  CHECK_FALSE(range({{"start", "2026-11-02T08:00"}, {"end", "2026-11-02T08:00"}}));
  CHECK_FALSE(range({{"start", "tomorrow"}}));
  CHECK_FALSE(range({{"periodic", {{{"days", {"daily"}}, {"start", "18:00"}, {"end", "08:00"}}}}}));
  CHECK_FALSE(range({{"periodic", {{{"days", {"someday"}}, {"start", "08:00"}, {"end", "18:00"}}}}}));
  const auto back = range(work);
  REQUIRE(back);
  CHECK(range(render(back->document)["time_ranges"][0])->document.time_ranges == back->document.time_ranges);
}

TEST_CASE("TS-06: a discontiguous wildcard mask is refused where the list is bound, with the rule's path") {
  auto document = good();
  document["acls"][0]["rules"][0]["source"] = "10.1.0.1 0.0.255.254";
  check_refused(document, "/acls/0/rules/0/source", "discontiguous");
  document = good();
  document["acls"][0]["rules"][0]["destination"] = "10.2.0.0";
  document["acls"][0]["rules"][0]["destination_wildcard"] = "0.255.0.255";
  check_refused(document, "/acls/0/rules/0/destination", "discontiguous");
  document = good();
  document["acls"].push_back({{"name", "FREE"}, {"rules", {rule("permit", "10.1.0.1 0.0.255.254", "any")}}});
  check_accepted(document);
}

TEST_CASE("TS-08: any to any is accepted with a warning") {
  auto document = good();
  document["acls"][0]["rules"][0] = rule("permit", "any", "any");
  const auto loaded = load(document);
  if (!loaded) FAIL(to_text(loaded.error()));
  CHECK(at_path(loaded->warnings, "/acls/0/rules/0", Severity::warning) != nullptr);
}

TEST_CASE("names: what is referred to must exist, and what exists is named once") {
  struct Row {
    const char* pointer;
    const char* words;
  };
  const Row rows[] = {{"/crypto_maps/0/entries/0/match_address", "101, SIX"},
                      {"/crypto_maps/0/entries/0/transform_set", "T1"},
                      {"/ipsec/profiles/0/transform_sets/0", "T1"},
                      {"/interfaces/0/crypto_map", "M1, M6"},
                      {"/interfaces/0/ipv6_crypto_map", "M1, M6"},
                      {"/interfaces/0/vrf", "none is defined"},
                      {"/tunnels/0/protection/profile", "P1"},
                      {"/tunnels/0/vrf", "none is defined"}};
  for (const Row& row : rows) check_refused(good_with(row.pointer, "nobody"), row.pointer, row.words);
  struct Twice {
    const char* list;
    const char* path;
  };
  const Twice twice[] = {{"/acls", "/acls/2/name"},
                         {"/ipsec/transform_sets", "/ipsec/transform_sets/1/name"},
                         {"/ipsec/profiles", "/ipsec/profiles/1/name"},
                         {"/crypto_maps", "/crypto_maps/2/name"},
                         {"/crypto_maps/0/entries", "/crypto_maps/0/entries/1/sequence"},
                         {"/interfaces", "/interfaces/2/name"},
                         {"/tunnels", "/tunnels/1/number"}};
  for (const Twice& row : twice) {
    auto document = good();
    json& list = document[json::json_pointer(row.list)];
    list.push_back(json(list[0]));
    check_refused(document, row.path, "given twice");
  }
}

TEST_CASE("SPIs: one inbound SA an SPI and local address, one outbound an SPI and peer") {
  auto document = good();
  document["tunnels"][0]["protection"]["session_key"]["inbound"]["esp"]["spi"] = 4097;
  check_refused(document, "/tunnels/0/protection/session_key/inbound/esp/spi", "SPI 4097 is used twice at 192.0.2.1");
  document = good();
  document["tunnels"][0]["protection"]["session_key"]["outbound"]["esp"]["spi"] = 4098;
  check_refused(document, "/tunnels/0/protection/session_key/outbound/esp/spi", "towards 192.0.2.2");
  // TS-57: the same SPI at another local address, or towards another peer, is another SA.
  document = good();
  document["crypto_maps"][1]["entries"][0]["session_key"]["inbound"]["esp"]["spi"] = 4097;
  document["crypto_maps"][1]["entries"][0]["session_key"]["outbound"]["esp"]["spi"] = 4098;
  check_accepted(document);
  // A map on two interfaces is two sets of SAs.
  document = good();
  document["interfaces"].push_back({{"name", "out1"}, {"addresses", {"198.51.100.1/24"}}, {"crypto_map", "M1"}});
  check_accepted(document);
}

TEST_CASE("dataplane: numbers that hang together") {
  check_refused(good_with("/dataplane/ring_entries", 1000), "/dataplane/ring_entries", "512 or 1024");
  check_refused(good_with("/dataplane/umem_frames", 4095), "/dataplane/umem_frames", "4096 or more");
  check_accepted(good_with("/dataplane/umem_frames", 4096));
  auto many = good();
  many["dataplane"]["sa_capacity"] = 16;
  check_accepted(many);
  for (int i = 1; i < 8; ++i) {
    json tunnel = many["tunnels"][0];
    tunnel["number"] = i;
    tunnel.erase("addresses");
    tunnel["protection"]["session_key"] = keys(5000U + static_cast<unsigned>(i), 6000U + static_cast<unsigned>(i));
    many["tunnels"].push_back(tunnel);
  }
  check_refused(many, "/dataplane/sa_capacity", "20 or more");
  const auto warned = load([] {
    auto document = good_with("/dataplane/plain_side", "af_xdp");
    document["interfaces"][1]["inside"] = false;
    return document;
  }());
  CHECK(at_path(warned->warnings, "/dataplane/plain_side", Severity::warning) != nullptr);
}

TEST_CASE("a crypto map holds as many rules as the classifier") {
  CHECK(max_map_rules == POSTERN_MAX_ACES);
  auto document = good();
  json& rules = document["acls"][0]["rules"];
  for (std::size_t i = 1; i < max_map_rules; ++i) {
    const std::string host = "host 10." + std::to_string(3 + i / 65536) + "." + std::to_string(i / 256 % 256) + "." +
                             std::to_string(i % 256);
    rules.insert(rules.begin(), rule("deny", host.c_str(), "any"));
  }
  check_accepted(document);
  document["acls"].push_back({{"name", "102"}, {"rules", {rule("permit", "10.1.0.0/16", "10.9.0.0/16")}}});
  json entry_20 = document["crypto_maps"][0]["entries"][0];
  entry_20["sequence"] = 20;
  entry_20["match_address"] = "102";
  entry_20["session_key"] = keys(7001, 7002);
  document["crypto_maps"][0]["entries"].push_back(entry_20);
  check_refused(document, "/crypto_maps/0/entries", "4097 rules");
}

TEST_CASE("problems of one document are reported together") {
  auto document = good();
  document["crypto_maps"][0]["entries"][0]["peer"] = "not an address";
  document["crypto_maps"][0]["entries"][0]["match_address"] = "nobody";
  document["tunnels"][0]["destination"] = "192.0.2.1";
  document["acls"][1]["rules"][0]["source"] = "2001:db8:1::1/64";
  const auto problems = problems_of(document);
  CHECK(problems.size() == 4);
  CHECK(at_path(problems, entry + "/peer") != nullptr);
  CHECK(at_path(problems, entry + "/match_address") != nullptr);
  CHECK(at_path(problems, "/tunnels/0/destination") != nullptr);
  CHECK(at_path(problems, "/acls/1/rules/0/source") != nullptr);
}

}  // namespace postern::config
