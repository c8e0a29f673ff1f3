// Document to JSON and back, and the differ.
#include "config/render.hpp"
#include "tests/config/good_document.hpp"

namespace postern::config {
namespace {

using nlohmann::json;

// The rendered document with the keys of `original` where the masks are.
json with_keys(json rendered, const json& original) {
  for (std::size_t i = 0; i < rendered["crypto_maps"].size(); ++i)
    for (std::size_t j = 0; j < rendered["crypto_maps"][i]["entries"].size(); ++j)
      rendered["crypto_maps"][i]["entries"][j]["session_key"] = original["crypto_maps"][i]["entries"][j]["session_key"];
  for (std::size_t i = 0; i < rendered["tunnels"].size(); ++i)
    rendered["tunnels"][i]["protection"]["session_key"] = original["tunnels"][i]["protection"]["session_key"];
  return rendered;
}

std::vector<std::string> changes(const json& before, const json& after) {
  std::vector<std::string> out;
  const auto a = load(before), b = load(after);
  if (!a) FAIL(to_text(a.error()));
  if (!b) FAIL(to_text(b.error()));
  for (const Change& change : diff(a->document, b->document)) out.push_back(change.text());
  CHECK(equal(a->document, b->document) == out.empty());
  return out;
}

}  // namespace

TEST_CASE("render: what is rendered is the same document again") {
  auto rich = good();
  rich["system"] = {{"hostname", "edge-1"}, {"log_level", "debug"}};
  rich["dataplane"] = {
      {"plain_side", "af_xdp"}, {"xdp_mode", "native"}, {"on_stop", "release"}, {"workers", 3}, {"crypto", "openssl"}};
  rich["vrfs"] = {{{"name", "blue"}, {"table", 100}}};
  rich["ipsec"]["global"] = {{"df_bit", "set"},   {"ecn", "discard"},      {"dscp", 46},
                             {"tcp_mss", "auto"}, {"path_mtu_aging", 300}, {"fragmentation", "after-encryption"}};
  rich["ipsec"]["profiles"][0]["tcp_mss"] = 1300;
  rich["crypto_maps"][0]["entries"][0]["dscp"] = "copy";
  rich["crypto_maps"][0]["entries"][0]["tcp_mss"] = "off";
  rich["acls"].push_back(json::parse(R"({"name": "MIX", "rules": [
    {"action": "deny", "protocol": "tcp", "source": "any", "destination": "host 10.9.0.1", "destination_ports": "neq 22"},
    {"action": "permit", "protocol": "udp", "source": "10.1.0.1 0.0.255.254", "destination": "10.0.0.0 0.255.255.255", "source_ports": "eq 5 9", "destination_ports": "lt 9"},
    {"action": "permit", "protocol": 47, "source": "any", "destination": "any"}]})"));
  rich["tunnels"][0]["udp_encapsulation"] = {{"remote_port", 4501}};
  rich["tunnels"][0]["vrf"] = "blue";
  rich["tunnels"][0]["df_bit"] = "clear";
  rich["tunnels"][0]["mtu"] = 1300;
  for (const json& document : {good(), rich}) {
    const auto first = load(document);
    if (!first) FAIL(to_text(first.error()));
    const auto second = load(with_keys(render(first->document), document));
    if (!second) FAIL(to_text(second.error()));
    CHECK(diff(first->document, second->document).empty());
    CHECK(render(first->document) == render(second->document));
  }
}

TEST_CASE("render: tunnel modes come back as they were written") {
  struct Row {
    const char* mode;
    bool v6;
  };
  for (const Row& row : {Row{"ipsec ipv4", false},
                         {"ipsec ipv6", true},
                         {"ipsec ipv4 v6-overlay", false},
                         {"ipsec ipv6 v4-overlay", true},
                         {"ipsec dual-overlay", false},
                         {"ipsec dual-overlay", true}}) {
    auto document = good_with("/tunnels/0/mode", row.mode);
    document["tunnels"][0].erase("addresses");
    document["tunnels"][0].erase("routes");
    if (row.v6) document["tunnels"][0]["destination"] = "2001:db8:ff::2";
    const auto loaded = load(document);
    if (!loaded) FAIL(to_text(loaded.error()));
    CHECK(render(loaded->document)["tunnels"][0]["mode"] == row.mode);
    CHECK((loaded->document.tunnels[0].transport == Family::v6) == row.v6);
  }
}

TEST_CASE("diff: by object, and silent about order and spelling") {
  const json before = good();
  CHECK(changes(before, before).empty());

  auto after = before;
  after["acls"][0]["rules"][0]["destination"] = "10.7.0.0/16";
  CHECK(changes(before, after) == std::vector<std::string>{"changed acls 101"});

  after = before;
  after["acls"][0]["rules"][0]["destination"] = "10.2.0.0 0.0.255.255";
  after["acls"][0]["rules"][0]["sequence"] = 10;
  std::swap(after["acls"][0], after["acls"][1]);
  CHECK(changes(before, after).empty());

  after = before;
  json entry = after["crypto_maps"][0]["entries"][0];
  entry["sequence"] = 20;
  entry["session_key"] = keys(7001, 7002);
  after["crypto_maps"][0]["entries"].push_back(entry);
  after.erase("tunnels");
  after["dataplane"]["workers"] = 2;
  CHECK(changes(before, after) ==
        std::vector<std::string>{"changed dataplane", "added crypto_maps M1 20", "removed tunnels Tunnel0"});

  after = before;
  after["crypto_maps"][0]["entries"][0]["session_key"]["outbound"]["esp"]["spi"] = 9000;
  CHECK(changes(before, after) == std::vector<std::string>{"changed crypto_maps M1 10"});
  CHECK(to_json(diff(load(before)->document, load(after)->document)).dump() ==
        R"([{"applies":"at the next clear crypto sa","change":"changed","name":"M1 10","section":"crypto_maps"}])");
}

TEST_CASE("diff: when a change counts") {
  const auto when = [](const json& before, const json& after) {
    const auto all = diff(load(before)->document, load(after)->document);
    REQUIRE(all.size() == 1);
    return all[0].applies;
  };
  const json before = good();
  auto after = before;
  after["acls"][0]["rules"][0]["destination"] = "10.7.0.0/16";
  CHECK(when(before, after) == Applies::at_once);
  after = before;
  after["dataplane"]["workers"] = 2;
  CHECK(when(before, after) == Applies::at_once);
  after = before;
  after["dataplane"]["ring_entries"] = 1024;
  CHECK(when(before, after) == Applies::next_start);
  after = before;
  after["dataplane"]["replay_window"] = 128;
  CHECK(when(before, after) == Applies::next_negotiation);
  after = before;
  after["tunnels"][0]["routes"] = {"10.77.0.0/16"};
  CHECK(when(before, after) == Applies::at_once);
}

}  // namespace postern::config
