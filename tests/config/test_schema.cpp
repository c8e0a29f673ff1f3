// The second gate, and what the schema promises about itself.
#include <functional>

#include "tests/config/good_document.hpp"

namespace postern::config {
namespace {

using nlohmann::json;

void walk(const json& node, const std::string& path,
          const std::function<void(const json&, const std::string&)>& visit) {
  visit(node, path);
  if (node.is_structured())
    for (const auto& [name, member] : node.items()) walk(member, path + "/" + name, visit);
}

}  // namespace

TEST_CASE("schema: no object takes unknown keys and every property is described") {
  const json schema = json::parse(schema_text());
  std::size_t objects = 0, properties = 0;
  walk(schema, "", [&](const json& node, const std::string& path) {
    if (!node.is_object() || !node.contains("properties") || !node["properties"].is_object() ||
        path.ends_with("/properties"))
      return;
    CAPTURE(path);
    ++objects;
    CHECK(node.value("additionalProperties", true) == false);
    for (const auto& [name, property] : node["properties"].items()) {
      CAPTURE(name);
      ++properties;
      CHECK(property.contains("description"));
    }
  });
  CHECK(objects > 15);
  CHECK(properties > 60);
}

TEST_CASE("schema, MAN-04, MAN-05: refusals by path, with what is allowed") {
  struct Row {
    const char* pointer;
    json value;
    const char* path;
    const char* words;
  };
  const Row rows[] = {
      {"/colour", "red", "/colour", "acls"},
      {"/crypto_maps/0/entries/0/priority", 1, "/crypto_maps/0/entries/0/priority", "unknown key"},
      {"/version", 2, "/version", "1"},
      {"/version", "1", "/version", "integer"},
      {"/version", 1.5, "/version", "fraction"},
      {"/acls", json::object(), "/acls", "is an object"},
      {"/acls/0/name", "a b", "/acls/0/name", "may not stand"},
      {"/acls/0/name", "", "/acls/0/name", "1 to 63"},
      {"/acls/0/rules/0/action", "allow", "/acls/0/rules/0/action", "\"permit\", \"deny\""},
      {"/crypto_maps/0/entries/0/type", "ipsec-auto", "/crypto_maps/0/entries/0/type",
       "\"ipsec-isakmp\", \"ipsec-manual\""},
      {"/crypto_maps/0/entries/0/sequence", 0, "/crypto_maps/0/entries/0/sequence", "1 to 65535"},
      {"/crypto_maps/0/entries/0/peer", json::array({"192.0.2.2", "192.0.2.3"}), "/crypto_maps/0/entries/0/peer",
       "exactly one peer"},
      {"/crypto_maps/0/entries/0/transform_set", json::array({"T1", "T2"}), "/crypto_maps/0/entries/0/transform_set",
       "exactly one transform set"},
      {"/crypto_maps/0/entries/0/session_key/inbound/esp/spi", 255,
       "/crypto_maps/0/entries/0/session_key/inbound/esp/spi", "256 to 4294967295"},
      {"/crypto_maps/0/entries/0/session_key/outbound/esp/spi", 4294967296,
       "/crypto_maps/0/entries/0/session_key/outbound/esp/spi", "256 to"},
      {"/crypto_maps/0/entries/0/session_key/inbound/esp/cipher", 5,
       "/crypto_maps/0/entries/0/session_key/inbound/esp/cipher", "string or object"},
      {"/crypto_maps/0/entries/0/session_key/inbound/esp/cipher", json{{"path", "/x"}},
       "/crypto_maps/0/entries/0/session_key/inbound/esp/cipher/file", "missing"},
      {"/dataplane/replay_window", 31, "/dataplane/replay_window", "32 to 4096"},
      {"/dataplane/replay_window", 4097, "/dataplane/replay_window", "32 to 4096"},
      {"/dataplane/plain_side", "kernel", "/dataplane/plain_side", "\"af_xdp\""},
      {"/tunnels/0/mode", "gre ip", "/tunnels/0/mode", "\"ipsec dual-overlay\""},
      {"/interfaces/0/name", "a-name-of-16-let", "/interfaces/0/name", "1 to 15"},
      {"/interfaces/0/name", "a/b", "/interfaces/0/name", "may not stand"},
      {"/interfaces/0/inside", "yes", "/interfaces/0/inside", "boolean"},
      {"/ipsec/profiles/0/transform_sets", json::array({"a", "b", "c", "d", "e", "f", "g"}),
       "/ipsec/profiles/0/transform_sets", "1 to 6"},
  };
  for (const Row& row : rows) check_refused(good_with(row.pointer, row.value), row.path, row.words);
  check_accepted(good());
}

TEST_CASE("schema: every missing key is named, all at once") {
  auto document = good();
  document["crypto_maps"][0]["entries"][0].erase("type");
  document["crypto_maps"][0]["entries"][0]["session_key"].erase("outbound");
  document["tunnels"][0].erase("mode");
  document.erase("version");
  const auto problems = problems_of(document);
  CHECK(at_path(problems, "/crypto_maps/0/entries/0/type") != nullptr);
  CHECK(at_path(problems, "/crypto_maps/0/entries/0/session_key/outbound") != nullptr);
  CHECK(at_path(problems, "/tunnels/0/mode") != nullptr);
  CHECK(at_path(problems, "/version") != nullptr);
  CHECK(problems.size() == 4);
}

TEST_CASE("schema: what is no object at the top") {
  for (const json& document : {json::array(), json(), json(1), json("text")})
    CHECK(at_path(problems_of(document), "") != nullptr);
}

TEST_CASE("schema: hundreds of problems are cut, and said so") {
  json document = {{"version", 1}};
  for (int i = 0; i < 500; ++i) document["key" + std::to_string(i)] = i;
  const auto problems = problems_of(document);
  CHECK(problems.size() == 201);
  CHECK(problems.back().message == "300 more problems are not listed");
}

}  // namespace postern::config
