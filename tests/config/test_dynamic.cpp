// Dynamic maps: DM-01 to DM-09, DM-14, DM-15.
#include "config/render.hpp"
#include "tests/config/ikev2_document.hpp"

namespace postern::config {
namespace {

const std::string map_entry = "/crypto_maps/0/entries/1";
const std::string first_template = "/dynamic_maps/0/entries/0";

// The negotiated document with a dynamic map behind its entry.
json dynamic() {
  auto document = ike();
  document["dynamic_maps"] = json::parse(
      R"([{"name": "D1", "entries": [{"sequence": 10, "match_address": "101", "transform_sets": ["T1"], "ikev2_profile": "PR"}]}])");
  document["crypto_maps"][0]["entries"].push_back({{"sequence", 1000}, {"type", "ipsec-isakmp"}, {"dynamic", "D1"}});
  return document;
}

json dynamic_with(const std::string& pointer, json value) {
  auto document = dynamic();
  document[json::json_pointer(pointer)] = std::move(value);
  return document;
}

json dynamic_without(const std::string& key) {
  auto document = dynamic();
  document.at(json::json_pointer(first_template)).erase(key);
  return document;
}

}  // namespace

TEST_CASE("DM-01: templates are ordered by sequence, and numbered once") {
  auto three = dynamic();
  const json one = three["dynamic_maps"][0]["entries"][0];
  for (const unsigned sequence : {5U, 20U}) {
    three["dynamic_maps"][0]["entries"].push_back(one);
    three["dynamic_maps"][0]["entries"].back()["sequence"] = sequence;
  }
  const DynamicMap made = loaded(three).dynamic_maps[0];
  CHECK(made.limit == 1000);
  REQUIRE(made.entries.size() == 3);
  CHECK(made.entries[0].sequence == 5);
  CHECK(made.entries[2].sequence == 20);
  three["dynamic_maps"][0]["entries"][2]["sequence"] = 10;
  check_refused(three, "/dynamic_maps/0/entries/2/sequence", "given twice");
}

TEST_CASE("DM-02: a template needs its transform sets and nothing else") {
  auto bare = dynamic();
  bare["dynamic_maps"][0]["entries"][0] = {{"sequence", 10}, {"transform_sets", {"T1"}}};
  check_accepted(bare);
  check_refused(dynamic_without("transform_sets"), first_template + "/transform_sets", "");
  check_refused(dynamic_with(first_template + "/transform_sets", json::array()), first_template + "/transform_sets",
                "1 to 6");
  check_refused(dynamic_with(first_template + "/transform_sets", {"NO"}), first_template + "/transform_sets/0",
                "does not exist");
  check_refused(dynamic_with(first_template + "/ikev2_profile", "NO"), first_template + "/ikev2_profile",
                "does not exist");
  check_refused(dynamic_with(first_template + "/peer", "192.0.2.9"), first_template + "/peer", "");
}

TEST_CASE("DM-03, DM-15: a dynamic map stands alone in its entry, and last") {
  check_refused(dynamic_with(map_entry + "/dynamic", "NO"), map_entry + "/dynamic", "does not exist");
  check_refused(dynamic_with(map_entry + "/peer", "192.0.2.9"), map_entry + "/peer", "says everything");
  check_refused(dynamic_with(map_entry + "/type", "ipsec-manual"), map_entry + "/dynamic", "no negotiation");
  for (const bool on : {true, false})
    for (const std::string& where : {map_entry, first_template, entry})
      check_refused(dynamic_with(where + "/discover", on), where + "/discover",
                    "needs a match address and peers that answer its probes");
  check_warned(dynamic_with(map_entry + "/sequence", 5), map_entry + "/sequence", "not the last");
  CHECK(loaded(dynamic()).crypto_maps[0].entries[1].dynamic == "D1");
}

TEST_CASE("DM-04, DM-05, DM-08: a list that is not there, is empty, or is about everything") {
  check_warned(dynamic_without("match_address"), first_template, "every proposal");
  check_warned(dynamic_with(first_template + "/match_address", "NO"), first_template + "/match_address",
               "every packet is dropped");
  auto empty = dynamic_with(first_template + "/match_address", "E");
  empty["acls"].push_back({{"name", "E"}, {"family", "ipv4"}, {"rules", json::array()}});
  check_warned(empty, first_template + "/match_address", "permits nothing");
  auto any = dynamic_with(first_template + "/match_address", "ANY");
  any["acls"].push_back(json::parse(
      R"({"name": "ANY", "rules": [{"action": "permit", "protocol": "ip", "source": "any", "destination": "any"}]})"));
  const std::string rule = "/acls/" + std::to_string(any["acls"].size() - 1) + "/rules/0";
  check_warned(any, rule, "any to any");
}

TEST_CASE("DM-09, DM-14: peers and lists are of the map's family") {
  check_accepted(dynamic_with(first_template + "/peers", {"192.0.2.7", "192.0.2.8"}));
  check_refused(dynamic_with(first_template + "/peers", {"0.0.0.0"}), first_template + "/peers/0",
                "not a host's address");
  check_refused(dynamic_with(first_template + "/peers", {"2001:db8::7"}), first_template + "/peers/0", "family");
  check_refused(dynamic_with("/dynamic_maps/0/limit", 0), "/dynamic_maps/0/limit", "1 to 2000");
}

TEST_CASE("a document with dynamic maps is rendered as it was read") {
  const Document document = loaded(dynamic());
  const auto rendered = render(document);
  CHECK(rendered["dynamic_maps"][0]["entries"][0]["match_address"] == "101");
  CHECK(rendered["crypto_maps"][0]["entries"][1] ==
        json{{"sequence", 1000}, {"type", "ipsec-isakmp"}, {"dynamic", "D1"}});
}

}  // namespace postern::config
