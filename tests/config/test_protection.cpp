// AH, AH with ESP, and modes of manual entries: MAN-06, MAN-09, TS-29, TS-33, TS-34, TS-57. Each bad row beside a good.
#include "crypto/ah.hpp"
#include "tests/config/good_document.hpp"

namespace postern::config {
namespace {

using nlohmann::json;

const std::string entry = "/crypto_maps/0/entries/0";
const std::string set_path = "/ipsec/transform_sets/1";

json ah_key(unsigned spi, std::size_t bytes) { return {{"spi", spi}, {"key", std::string(2 * bytes, 'c')}}; }

// Entry 0 has a set of these words, and keys for what they are.
json with(json words, std::size_t ah_bytes, json mode = "tunnel") {
  auto document = good();
  bool esp = false;
  for (const json& word : words) esp = esp || word.get<std::string>().starts_with("esp-");
  document["ipsec"]["transform_sets"].push_back(
      {{"name", "T2"}, {"transforms", std::move(words)}, {"mode", std::move(mode)}});
  json& made = document["crypto_maps"][0]["entries"][0];
  made["transform_set"] = "T2";
  for (const char* const direction : {"inbound", "outbound"}) {
    json& keys = made["session_key"][direction];
    if (ah_bytes != 0) keys["ah"] = ah_key(keys["esp"]["spi"], ah_bytes);
    if (!esp) keys.erase("esp");
  }
  return document;
}

json between_hosts(json document) {
  document["acls"][0]["rules"][0]["source"] = "host 192.0.2.1";
  document["acls"][0]["rules"][0]["destination"] = "host 192.0.2.2";
  return document;
}

}  // namespace

TEST_CASE("MAN-06: AH alone, keys of each authenticator's length") {
  struct {
    const char* word;
    std::size_t bytes;
    crypto::Integrity integrity;
  } const rows[] = {{"ah-sha-hmac", 20, crypto::Integrity::hmac_sha1_96},
                    {"ah-sha256-hmac", 32, crypto::Integrity::hmac_sha256_128},
                    {"ah-sha384-hmac", 48, crypto::Integrity::hmac_sha384_192},
                    {"ah-sha512-hmac", 64, crypto::Integrity::hmac_sha512_256},
                    {"ah-md5-hmac", 16, crypto::Integrity::hmac_md5_96},
                    {"ah-aes-cmac", 16, crypto::Integrity::aes_cmac_96},
                    {"ah-aes-xcbc-mac", 16, crypto::Integrity::aes_xcbc_96}};
  for (const auto& row : rows) {
    CAPTURE(row.word);
    const auto loaded = load(with({row.word}, row.bytes));
    if (!loaded) FAIL(to_text(loaded.error()));
    const TransformSet& set = loaded->document.transform_sets[1];
    CHECK(set.ah == row.integrity);
    CHECK(set.has_ah());
    CHECK_FALSE(set.has_esp());
    CHECK(set.transforms == std::vector<std::string>{row.word});
    const ManualKeys& keys = loaded->document.crypto_maps[0].entries[0].keys;
    CHECK(keys.ah_inbound.spi == 4097);
    CHECK(keys.ah_outbound.integrity_key.size() == row.bytes);
    CHECK(keys.inbound.spi == 0);
    check_refused(with({row.word}, row.bytes - 1), entry + "/session_key/inbound/ah/key", "hex digits");
  }
}

TEST_CASE("MAN-06, MAN-09: both directions, and the keys of what the set names, no others") {
  check_accepted(with({"ah-sha256-hmac", "esp-aes", "esp-sha256-hmac"}, 32));
  check_accepted(with({"esp-aes", "ah-sha256-hmac", "esp-sha256-hmac"}, 32));
  auto document = with({"ah-sha256-hmac"}, 32);
  document["crypto_maps"][0]["entries"][0]["session_key"]["outbound"] = {{"esp", json::object()}};
  check_refused(document, entry + "/session_key/outbound/esp/spi", "");
  check_refused(with({"ah-sha256-hmac", "esp-aes", "esp-sha256-hmac"}, 0), entry + "/session_key/inbound/ah",
                "is missing");
  check_refused(with({"esp-aes", "esp-sha256-hmac"}, 32), entry + "/session_key/inbound/ah", "has no AH");
  auto both = with({"ah-sha256-hmac"}, 32);
  both["crypto_maps"][0]["entries"][0]["session_key"]["inbound"]["esp"] = keys(4097, 4098)["inbound"]["esp"];
  check_refused(both, entry + "/session_key/inbound/esp", "has no ESP");
  check_refused(with({"ah-sha256-hmac", "ah-sha-hmac"}, 32), set_path + "/transforms/1", "second AH");
  check_refused(with({"ah-null"}, 32), set_path + "/transforms/0", "not a known transform");
  auto reserved = with({"ah-sha256-hmac"}, 32);
  reserved["crypto_maps"][0]["entries"][0]["session_key"]["inbound"]["ah"]["spi"] = 255;
  check_refused(reserved, entry + "/session_key/inbound/ah/spi", "256");
}

TEST_CASE("TS-31: a weak AH is warned of") {
  const auto loaded = load(with({"ah-sha-hmac"}, 20));
  if (!loaded) FAIL(to_text(loaded.error()));
  CHECK(at_path(loaded->warnings, set_path + "/transforms/0", Severity::warning) != nullptr);
  check_accepted(with({"ah-sha512-hmac"}, 64));
}

TEST_CASE("TS-32: compression is a transform of its own class, and LZS is refused with the reason") {
  const auto loaded = load(with({"ah-sha256-hmac", "esp-aes", "esp-sha256-hmac", "comp-deflate"}, 32));
  if (!loaded) FAIL(to_text(loaded.error()));
  CHECK(loaded->document.transform_sets[1].compression);
  CHECK(loaded->document.transform_sets[1].transforms.back() == "comp-deflate");
  CHECK_FALSE(loaded->document.transform_sets[0].compression);
  const auto* const warning = at_path(loaded->warnings, set_path + "/transforms/3", Severity::warning);
  REQUIRE(warning != nullptr);
  CHECK(warning->message.find("length") != std::string::npos);
  check_accepted(with({"ah-sha256-hmac", "comp-deflate"}, 32));
  check_refused(with({"comp-deflate"}, 32), set_path + "/transforms", "protects nothing");
  check_refused(with({"ah-sha256-hmac", "comp-deflate", "comp-deflate"}, 32), set_path + "/transforms/2",
                "second compression");
  check_refused(with({"ah-sha256-hmac", "comp-lzs"}, 32), set_path + "/transforms/1", "comp-deflate");
}

TEST_CASE("TS-32: the CPI of manual keys") {
  auto document = with({"ah-sha256-hmac", "comp-deflate"}, 32);
  auto& keys = document["crypto_maps"][0]["entries"][0]["session_key"];
  CHECK(load(document)->document.crypto_maps[0].entries[0].keys.cpi_inbound == 2);
  keys["inbound"]["comp"] = {{"cpi", 256}};
  keys["outbound"]["comp"] = {{"cpi", 61439}};
  const auto loaded = load(document);
  if (!loaded) FAIL(to_text(loaded.error()));
  CHECK(loaded->document.crypto_maps[0].entries[0].keys.cpi_inbound == 256);
  CHECK(loaded->document.crypto_maps[0].entries[0].keys.cpi_outbound == 61439);
  for (const int wrong : {0, 1, 3, 63, 64, 255, 61440, 65536}) {
    keys["inbound"]["comp"]["cpi"] = wrong;
    check_refused(document, entry + "/session_key/inbound/comp/cpi", "61439");
  }
  auto without = with({"ah-sha256-hmac"}, 32);
  without["crypto_maps"][0]["entries"][0]["session_key"]["inbound"]["comp"] = {{"cpi", 300}};
  check_refused(without, entry + "/session_key/inbound/comp", "no compression");
}

TEST_CASE("TS-57: AH and ESP of one SPI do not clash, two of one protocol do") {
  auto document = with({"ah-sha256-hmac", "esp-aes", "esp-sha256-hmac"}, 32);
  check_accepted(document);
  document["tunnels"][0]["protection"]["session_key"]["inbound"]["esp"]["spi"] = 4097;
  check_refused(document, "/tunnels/0/protection/session_key/inbound/esp/spi", "used twice");
}

TEST_CASE("AH is not for NAT") {
  auto document = with({"ah-sha256-hmac"}, 32);
  document["crypto_maps"][0]["entries"][0]["udp_encapsulation"] = json::object();
  check_refused(document, entry + "/udp_encapsulation", "NAT");
}

TEST_CASE("TS-34: transport require") {
  check_refused(with({"ah-sha256-hmac"}, 32, "transport require"), entry + "/transform_set", "requires transport");
  const auto loaded = load(between_hosts(with({"ah-sha256-hmac"}, 32, "transport require")));
  if (!loaded) FAIL(to_text(loaded.error()));
  CHECK(loaded->document.transform_sets[1].transport_mode);
  CHECK(loaded->document.transform_sets[1].mode_required);
  const auto silent = load(with({"ah-sha256-hmac"}, 32, "transport"));
  if (!silent) FAIL(to_text(silent.error()));
  CHECK(at_path(silent->warnings, entry + "/transform_set", Severity::warning) != nullptr);
  check_refused(with({"ah-sha256-hmac"}, 32, "tunnel require"), set_path + "/mode", "transport require");
}

}  // namespace postern::config
