// EAP in profiles, both sides of it, and the users.
#include "config/render.hpp"
#include "tests/config/ikev2_document.hpp"
#include "tests/config/pki_files.hpp"
#include "tests/pki/certificates.hpp"

namespace postern::config {
namespace {

const std::string sides = "/ikev2/profiles/0/authentication", users = "/ikev2/eap_users";

// Where users come to; the other is the user's own document.
json server() {
  static const PkiFiles files;
  auto document = ike_without("/ikev2/profiles/0", "keyring");
  document["pki"]["trustpoints"] = {{{"name", "TP"},
                                     {"ca_certificates", {files.put("ca.pem", pki::test::root_pem, 0644)}},
                                     {"certificate", files.put("own.pem", pki::test::ecdsa256_pem, 0644)},
                                     {"key", {{"file", files.put("own.key", pki::test::ecdsa256_key, 0600)}}}}};
  document["ikev2"]["profiles"][0]["pki_trustpoints"] = {"TP"};
  document["ikev2"]["profiles"][0]["authentication"] = json::parse(
      R"({"local": {"method": "signature"}, "remote": {"method": "eap", "eap": {"methods": ["mschapv2", "md5"], "query_identity": true}}})");
  document["ikev2"]["eap_users"] = json::parse(R"([{"name": "alice", "password": "her own password"}])");
  return document;
}
json client() {
  auto document = server();
  document["ikev2"].erase("eap_users");
  document["ikev2"]["profiles"][0]["authentication"] = json::parse(
      R"({"local": {"method": "eap", "eap": {"identity": "alice", "password": "her own password"}}, "remote": {"method": "signature"}})");
  return document;
}
json with(json document, const std::string& pointer, json value) {
  document[json::json_pointer(pointer)] = std::move(value);
  return document;
}
json without(json document, const std::string& parent, const std::string& key) {
  document.at(json::json_pointer(parent)).erase(key);
  return document;
}

}  // namespace

TEST_CASE("EAP at both ends: what the document says is what is there") {
  const Document at_server = loaded(server());
  const Ikev2Profile& one = at_server.ikev2.profiles[0];
  CHECK(one.remote_method == AuthMethodWord::eap);
  CHECK_FALSE(one.eap_local);
  REQUIRE(one.eap_remote);
  CHECK(one.eap_remote->methods == std::vector{EapMethodWord::mschapv2, EapMethodWord::md5});
  CHECK(one.eap_remote->query_identity);
  REQUIRE(at_server.ikev2.eap_users.size() == 1);
  CHECK(at_server.ikev2.eap_users[0].name == "alice");
  CHECK(text_of(at_server.ikev2.eap_users[0].password) == "her own password");
  const Document at_client = loaded(client());
  REQUIRE(at_client.ikev2.profiles[0].eap_local);
  CHECK(at_client.ikev2.profiles[0].eap_local->methods == std::vector{EapMethodWord::mschapv2});
  CHECK(at_client.ikev2.profiles[0].eap_local->identity == "alice");
  CHECK(text_of(at_client.ikev2.profiles[0].eap_local->password) == "her own password");
}

TEST_CASE("EAP: what does not fit") {
  check_refused(with(server(), sides + "/remote/eap/methods", {"gtc"}), sides + "/remote/eap/methods/0", "mschapv2");
  check_refused(with(server(), sides + "/remote/eap/methods", json::array()), sides + "/remote/eap/methods", "1 to 8");
  check_refused(with(server(), sides + "/remote/eap/identity", "x"), sides + "/remote/eap/identity", "other side");
  check_refused(with(server(), sides + "/remote/key", "a key of nobody"), sides + "/remote/key", "of no use");
  check_refused(with(server(), sides + "/local/eap", json::object()), sides + "/local/eap", "of no use");
  auto by_key = with(server(), sides + "/local", json::parse(R"({"method": "pre-share", "key": "a key of the node"})"));
  check_refused(by_key, sides + "/local/method", "RFC 7296 section 2.16");
  check_refused(with(server(), users + "/1", json::parse(R"({"name": "alice", "password": "another"})")),
                users + "/1/name", "given twice");
  check_refused(with(server(), users + "/0/name", ""), users + "/0/name", "1 to 255");
  check_refused(without(server(), users + "/0", "password"), users + "/0/password", "missing");
  check_warned(without(server(), "/ikev2", "eap_users"), sides + "/remote", "no users");
  check_warned(server(), sides + "/remote", "md5");

  check_refused(without(client(), sides + "/local/eap", "identity"), sides + "/local", "without a name");
  check_refused(without(client(), sides + "/local/eap", "password"), sides + "/local", "without a password");
  check_refused(with(client(), sides + "/local/eap/query_identity", true), sides + "/local/eap/query_identity",
                "other side");
  by_key = with(client(), sides + "/remote", json::parse(R"({"method": "pre-share", "key": "a key of the server"})"));
  check_refused(by_key, sides + "/remote/method", "RFC 7296 section 2.16");
}

TEST_CASE("RFC 5998: EAP alone, by methods that prove both ends") {
  auto document = client();
  document["ikev2"]["eap_users"] = server()["ikev2"]["eap_users"];
  document["ikev2"]["profiles"][0].erase("pki_trustpoints");
  document["ikev2"]["profiles"][0]["authentication"]["remote"] = json::parse(R"({"method": "eap"})");
  check_warned(document, sides + "/local", "RFC 5998");
  CHECK(loaded(document).ikev2.profiles[0].eap_remote->methods == std::vector{EapMethodWord::mschapv2});
  check_refused(with(document, sides + "/remote/eap/methods", {"mschapv2", "md5"}), sides + "/remote", "EAP alone");
  check_refused(with(document, sides + "/local/eap/methods", {"md5"}), sides + "/local", "EAP alone");
}

TEST_CASE("EAP-TLS: by certificates of both ends, without passwords and users") {
  const auto by_tls = json::parse(R"(["tls"])");
  auto at_server = without(with(server(), sides + "/remote/eap/methods", by_tls), "/ikev2", "eap_users");
  auto at_client = without(with(client(), sides + "/local/eap/methods", by_tls), sides + "/local/eap", "password");
  CHECK(loaded(at_server).ikev2.profiles[0].eap_remote->methods == std::vector{EapMethodWord::tls});
  CHECK(loaded(at_client).ikev2.profiles[0].eap_local->methods == std::vector{EapMethodWord::tls});
  auto alone = with(at_client, sides + "/remote", json::parse(R"({"method": "eap", "eap": {"methods": ["tls"]}})"));
  CHECK(loaded(alone).ikev2.profiles[0].eap_remote->methods == std::vector{EapMethodWord::tls});
  CHECK(render(loaded(alone))["ikev2"]["profiles"][0]["authentication"]["local"]["eap"].contains("password") == false);

  check_refused(without(alone, "/ikev2/profiles/0", "pki_trustpoints"), sides + "/local", "certificate of our own");
  check_refused(without(alone, "/pki/trustpoints/0", "ca_certificates"), sides + "/remote", "needs a CA");
  check_refused(without(without(at_server, "/pki/trustpoints/0", "certificate"), "/pki/trustpoints/0", "key"),
                sides + "/remote", "certificate of our own");
  check_refused(with(at_client, sides + "/local/eap/methods", {"tls", "mschapv2"}), sides + "/local",
                "without a password");
  check_warned(with(at_server, sides + "/remote/eap/methods", {"tls", "mschapv2"}), sides + "/remote", "no users");
}

TEST_CASE("EAP: shown with its passwords masked, and compared") {
  for (const json& document : {server(), client()}) {
    json again = render(loaded(document));
    const std::string text = again.dump();
    CHECK(text.find("her own password") == std::string::npos);
    if (document["ikev2"].contains("eap_users")) {
      CHECK(again["ikev2"]["eap_users"][0]["password"] == masked_secret);
      again["ikev2"]["eap_users"][0]["password"] = "her own password";
    } else {
      CHECK(again["ikev2"]["profiles"][0]["authentication"]["local"]["eap"]["password"] == masked_secret);
      again["ikev2"]["profiles"][0]["authentication"]["local"]["eap"]["password"] = "her own password";
    }
    again["crypto_maps"] = document["crypto_maps"];  // their keys are masked too
    again["ikev2"]["keyrings"] = document["ikev2"]["keyrings"];
    CHECK(equal(loaded(document), loaded(again)));
  }
  const auto found = diff(loaded(server()), loaded(with(server(), users + "/0/password", "a new password")));
  REQUIRE(found.size() == 1);
  CHECK(found[0].text() == "changed ikev2/eap_users alice");
}

}  // namespace postern::config
