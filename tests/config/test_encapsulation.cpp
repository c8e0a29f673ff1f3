// How packets are put into their outer header: entry, profile and tunnel against ipsec.global, and what is refused.
#include "tests/config/good_document.hpp"

namespace postern::config {

using nlohmann::json;

namespace {

const Encapsulation everything{DfBit::clear, Ecn::discard, 46, tcp_mss_auto, Fragmentation::after};

json all_of() {
  return {{"df_bit", "clear"},
          {"ecn", "discard"},
          {"dscp", 46},
          {"tcp_mss", "auto"},
          {"fragmentation", "after-encryption"}};
}
json none_of() {
  return {{"df_bit", "copy"},
          {"ecn", "propagate"},
          {"dscp", "copy"},
          {"tcp_mss", "off"},
          {"fragmentation", "before-encryption"}};
}

Document loaded(const json& document) {
  auto out = load(document);
  if (!out) FAIL(to_text(out.error()));
  return std::move(out->document);
}

}  // namespace

TEST_CASE("encapsulation: RFC 4301's defaults without a word") {
  const Document document = loaded(good());
  CHECK(document.ipsec.encapsulation == Encapsulation{});
  CHECK(document.ipsec.path_mtu_aging_s == 600);
  CHECK(document.crypto_maps[0].entries[0].encapsulation == Encapsulation{});
  CHECK(document.tunnels[0].encapsulation == Encapsulation{});
}

TEST_CASE("encapsulation: what an object does not say it inherits; what it says wins") {
  json global = good_with("/ipsec/global", all_of());
  global["ipsec"]["global"]["path_mtu_aging"] = 300;
  const Document inherited = loaded(global);
  CHECK(inherited.ipsec.path_mtu_aging_s == 300);
  CHECK(inherited.crypto_maps[0].entries[0].encapsulation == everything);
  CHECK(inherited.profiles[0].encapsulation == everything);
  CHECK(inherited.tunnels[0].encapsulation == everything);

  json own = global;
  own["crypto_maps"][0]["entries"][0].update(none_of());
  own["ipsec"]["profiles"][0].update(none_of());
  const Document entry = loaded(own);
  CHECK(entry.crypto_maps[0].entries[0].encapsulation == Encapsulation{});
  CHECK(entry.crypto_maps[1].entries[0].encapsulation == everything);  // R43-06: another map is untouched
  CHECK(entry.tunnels[0].encapsulation == Encapsulation{});            // of its profile

  own["tunnels"][0].update(all_of());
  own["tunnels"][0]["tcp_mss"] = 1300;
  Encapsulation wanted = everything;
  wanted.tcp_mss = 1300;
  CHECK(loaded(own).tunnels[0].encapsulation == wanted);

  json one = global;
  one["crypto_maps"][0]["entries"][0]["ecn"] = "propagate";
  wanted = everything;
  wanted.ecn = Ecn::propagate;
  CHECK(loaded(one).crypto_maps[0].entries[0].encapsulation == wanted);
}

TEST_CASE("encapsulation: refusals, each where it stands") {
  struct Row {
    const char* key;
    json value;
    const char* words;
  };
  const Row rows[] = {{"df_bit", "keep", "\"copy\""}, {"ecn", "drop", "\"discard\""},
                      {"dscp", 64, "0 to 63"},        {"dscp", -1, "0 to 63"},
                      {"dscp", "af11", "0 to 63"},    {"tcp_mss", 87, "88"},
                      {"tcp_mss", 65001, "65000"},    {"tcp_mss", "on", "\"auto\""},
                      {"tcp_mss", true, "\"auto\""},  {"fragmentation", "never", "\"after-encryption\""}};
  for (const std::string where : {"/ipsec/global", "/ipsec/profiles/0", "/crypto_maps/0/entries/0", "/tunnels/0"})
    for (const Row& row : rows) {
      json document = good();
      document[json::json_pointer(where)][row.key] = row.value;
      check_refused(document, where + "/" + row.key, row.words);
    }
  check_refused(good_with("/ipsec/global/path_mtu_aging", 299), "/ipsec/global/path_mtu_aging", "300");
  check_refused(good_with("/tunnels/0/path_mtu_aging", 600), "/tunnels/0/path_mtu_aging", "unknown key");
}

}  // namespace postern::config
