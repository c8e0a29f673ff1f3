// The "pki" section and what profiles say of it: accepted once, refused at each place with its path.
#include "config/render.hpp"
#include "ikev2_document.hpp"
#include "pki_files.hpp"
#include "tests/pki/certificates.hpp"

namespace postern::config {
namespace {

using nlohmann::json;

json with_pki(const PkiFiles& files) {
  json document = ike();
  document["pki"] = {
      {"trustpoints",
       {{{"name", "Corp"},
         {"ca_certificates", {files.put("ca.pem", pki::test::root_pem, 0644)}},
         {"certificate", files.put("own.pem", pki::test::ecdsa256_pem, 0644)},
         {"key", {{"file", files.put("own.key", pki::test::ecdsa256_key, 0600)}}}}}},
      {"certificate_maps",
       {{{"name", "GW"}, {"rules", {{{"field", "issuer-name"}, {"operator", "co"}, {"value", "root"}}}}}}}};
  json& profile = document["ikev2"]["profiles"][0];
  profile["authentication"] = {{"local", {{"method", "ecdsa-sig"}}}, {"remote", {{"method", "signature"}}}};
  profile["pki_trustpoints"] = {"CORP"};  // IKE-40: without regard to case
  profile["match"]["certificate"] = {"GW"};
  return document;
}

json changed(json document, const std::string& pointer, json value) {
  document[json::json_pointer(pointer)] = std::move(value);
  return document;
}

}  // namespace

TEST_CASE("pki: trustpoints, certificate maps, and a profile that uses them") {
  const PkiFiles files;
  const json document = with_pki(files);
  const auto loaded = load(document);
  REQUIRE(loaded);
  const Ikev2Profile& profile = loaded->document.ikev2.profiles[0];
  CHECK(profile.local_method == AuthMethodWord::ecdsa_sig);
  CHECK(profile.sign_trustpoint == "CORP");
  CHECK(profile.verify_trustpoints == std::vector<std::string>{"CORP"});
  CHECK(find_trustpoint(loaded->document.pki, "corp")->name == "Corp");
  CHECK(profile.other_sign_trustpoints.empty());
  // What is rendered is a document that says the same.
  json rendered = render(loaded->document);
  rendered["ikev2"]["keyrings"] = document["ikev2"]["keyrings"];  // keys are masked
  rendered["crypto_maps"][1] = document["crypto_maps"][1];
  const auto again = load(rendered);
  REQUIRE(again);
  CHECK(again->document.pki == loaded->document.pki);
  CHECK(again->document.ikev2.profiles[0] == profile);
  const auto changes =
      diff(loaded->document, load(changed(document, "/pki/certificate_maps/0/sequence", 20))->document);
  CHECK(changes.size() == 2);
}

TEST_CASE("pki: a second trustpoint signs where it says so, and needs a certificate for it") {
  const PkiFiles files;
  json document = with_pki(files);
  json second = document["pki"]["trustpoints"][0];
  second["name"] = "Second";
  document["pki"]["trustpoints"].push_back(second);
  const auto with = [&](json use) {
    return changed(document, "/ikev2/profiles/0/pki_trustpoints", json::array({"CORP", std::move(use)}));
  };
  for (const auto& [use, others, verifies] :
       {std::tuple{json("SECOND"), 0U, 2U}, std::tuple{json({{"name", "SECOND"}, {"use", "sign"}}), 1U, 1U},
        std::tuple{json({{"name", "SECOND"}, {"use", "both"}}), 1U, 2U},
        std::tuple{json({{"name", "SECOND"}, {"use", "verify"}}), 0U, 2U}}) {
    const auto loaded = load(with(use));
    REQUIRE(loaded);
    const Ikev2Profile& profile = loaded->document.ikev2.profiles[0];
    CHECK(profile.other_sign_trustpoints.size() == others);
    CHECK(profile.verify_trustpoints.size() == verifies);
    json rendered = render(loaded->document);
    rendered["ikev2"]["keyrings"] = document["ikev2"]["keyrings"];
    rendered["crypto_maps"][1] = document["crypto_maps"][1];
    CHECK(load(rendered)->document.ikev2.profiles[0] == profile);
  }
  document["pki"]["trustpoints"][1].erase("key");
  document["pki"]["trustpoints"][1].erase("certificate");
  check_accepted(with("SECOND"));
  check_refused(with({{"name", "SECOND"}, {"use", "sign"}}), "/ikev2/profiles/0/pki_trustpoints",
                "trustpoint Second has no certificate to sign with");
}

TEST_CASE("pki: what is wrong is refused where it stands") {
  const PkiFiles files;
  const json document = with_pki(files);
  const std::string trustpoint = "/pki/trustpoints/0", profile = "/ikev2/profiles/0";
  const auto refuse = [&](const std::string& pointer, json value, const std::string& path, const char* words) {
    check_refused(changed(document, pointer, std::move(value)), path, words);
  };
  refuse(trustpoint + "/key/file", files.put("open.key", pki::test::ecdsa256_key, 0640), trustpoint + "/key/file",
         "0640");
  refuse(trustpoint + "/key/file", "relative.key", trustpoint + "/key/file", "absolute");
  refuse(trustpoint + "/certificate", files.directory + "/none.pem", trustpoint + "/certificate", "cannot be opened");
  refuse(trustpoint + "/ca_certificates/0", files.put("no.pem", "no certificate", 0644),
         trustpoint + "/ca_certificates/0", "holds no PEM certificate");
  refuse(trustpoint + "/enrollment", "scep", trustpoint + "/enrollment", "unknown key");
  refuse(profile + "/pki_trustpoints", json::array({"NONE"}), profile + "/pki_trustpoints", "NONE");
  refuse(profile + "/match/certificate", json::array({"NONE"}), profile + "/match/certificate", "NONE");
  refuse(profile + "/authentication/local/key", "a key", profile + "/authentication/local/key", "trustpoint");
  refuse("/pki/certificate_maps/0/rules/0/operator", "like", "/pki/certificate_maps/0/rules/0/operator", "eq");

  json without = document;
  without["pki"]["trustpoints"][0].erase("key");
  check_refused(without, trustpoint, "no key");
  without["pki"]["trustpoints"][0].erase("certificate");
  check_refused(without, profile + "/pki_trustpoints", "no certificate to sign with");
  without = document;
  without["pki"]["trustpoints"][0].erase("ca_certificates");
  check_refused(without, profile + "/authentication/remote", "no trustpoint of the profile has a CA");
  without = document;
  without["ikev2"]["profiles"][0].erase("pki_trustpoints");
  check_refused(without, profile + "/authentication/local", "names no trustpoint");
  without = document;
  without["ikev2"]["profiles"][0]["match"] = json::object();
  check_refused(without, profile + "/match", "matches nobody");

  json twice = document;
  twice["pki"]["trustpoints"].push_back(twice["pki"]["trustpoints"][0]);
  twice["pki"]["trustpoints"][1]["name"] = "corp";
  check_refused(twice, "/pki/trustpoints/1/name", "given twice");
  twice = document;
  twice["pki"]["certificate_maps"].push_back(twice["pki"]["certificate_maps"][0]);
  check_refused(twice, "/pki/certificate_maps/1/sequence", "given twice");

  check_refused(changed(ike(), profile + "/identity_local", "dn"), profile + "/identity_local", "none is used");
  check_refused(changed(ike(), profile + "/match/certificate", json::array({"GW"})), profile + "/match/certificate",
                "by certificate");
  check_warned(changed(document, profile + "/sha1_signatures", true), profile + "/sha1_signatures", "SHA-1");
}

TEST_CASE("pki: where peers find our certificate, or its bundle") {
  const PkiFiles files;
  const json document = with_pki(files);
  const std::string trustpoint = "/pki/trustpoints/0";
  const json with_url = changed(document, trustpoint + "/certificate_url", "http://pki.example.org/own.der");
  const auto loaded = load(with_url);
  REQUIRE(loaded);
  CHECK(loaded->document.pki.trustpoints[0].certificate_url == "http://pki.example.org/own.der");
  CHECK(render(loaded->document)["pki"]["trustpoints"][0]["certificate_url"] == "http://pki.example.org/own.der");
  CHECK(diff(load(document)->document, loaded->document).size() == 1);
  const auto bundle = load(changed(document, trustpoint + "/bundle_url", "http://h:8080/b"));
  REQUIRE(bundle);
  CHECK(bundle->document.pki.trustpoints[0].bundle_url == "http://h:8080/b");
  CHECK(render(bundle->document)["pki"]["trustpoints"][0]["bundle_url"] == "http://h:8080/b");
  for (const std::string key : {"certificate_url", "bundle_url"}) {
    const std::string path = trustpoint + "/" + key;
    for (const char* const bad : {"https://pki.example.org/x", "http://pki.example.org", "http://user:pw@h/x",
                                  "http://h/a b", "ftp://h/xx", "/etc/postern/own.der"})
      check_refused(changed(document, path, bad), path, "no URL that peers fetch");
    check_refused(changed(document, path, "http://h/a\tb"), path, "control characters");
    check_refused(changed(document, path, 7), path, "string");
    json without = changed(document, path, "http://h/x");
    for (const char* const part : {"certificate", "key"}) without["pki"]["trustpoints"][0].erase(part);
    check_refused(without, path, "a certificate is that is not there");
  }
  check_refused(changed(with_url, trustpoint + "/bundle_url", "http://h/x"), trustpoint + "/bundle_url",
                "beside certificate_url");
}

}  // namespace postern::config
