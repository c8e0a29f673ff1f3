// TS-43: a profile that is labelled suite B is refused with whatever is not of
// it, and each item by itself.
#include "tests/config/ikev2_document.hpp"
#include "tests/config/pki_files.hpp"
#include "tests/pki/certificates.hpp"

namespace postern::config {
namespace {

// A document that keeps the promise: a map entry, a tunnel and a template of
// one labelled profile.
json labelled(const PkiFiles& files) {
  json document = ike();
  document["pki"]["trustpoints"] = {{{"name", "TP"},
                                     {"ca_certificates", {files.put("ca.pem", pki::test::root_pem, 0644)}},
                                     {"certificate", files.put("own.pem", pki::test::ecdsa256_pem, 0644)},
                                     {"key", {{"file", files.put("own.key", pki::test::ecdsa256_key, 0600)}}}}};
  auto& profile = document["ikev2"]["profiles"][0];
  profile.erase("keyring");
  profile["suite_b"] = true;
  profile["pki_trustpoints"] = {"TP"};
  profile["authentication"] = {{"local", {{"method", "ecdsa-sig"}}}, {"remote", {{"method", "ecdsa-sig"}}}};
  document["ikev2"]["proposals"] = json::parse(
      R"([{"name": "A", "encryption": ["aes-cbc-256", "aes-gcm-128"], "integrity": ["sha384", "sha256"],
           "prf": ["sha384", "sha256"], "group": [20, 19]}])");
  document["ipsec"]["transform_sets"].push_back({{"name", "GCM"}, {"transforms", {"esp-gcm 256"}}});
  document["ipsec"]["transform_sets"].push_back({{"name", "GMAC"}, {"transforms", {"esp-gmac"}}});
  document["crypto_maps"][0]["entries"][0]["transform_sets"] = {"GCM", "GMAC"};
  document["crypto_maps"][0]["entries"][0]["pfs"] = "group20";
  document["ipsec"]["profiles"][0]["transform_sets"] = {"GCM"};
  document["dynamic_maps"] = json::parse(
      R"([{"name": "D", "entries": [{"sequence": 10, "transform_sets": ["GCM"], "ikev2_profile": "PR", "pfs": "group19"}]}])");
  return document;
}

struct Flip {
  const char* at;
  json value;
  const char* refused_at;  // nullptr: there
  const char* words;
};

}  // namespace

TEST_CASE("TS-43: each item of suite B, flipped") {
  const PkiFiles files;
  const json good = labelled(files);
  REQUIRE(loaded(good).ikev2.profiles[0].suite_b);
  const char* const sets = "/crypto_maps/0/entries/0/transform_sets";
  const Flip flips[] = {
      {"/ikev2/proposals/0/encryption/0", "3des", nullptr, "3des"},
      {"/ikev2/proposals/0/encryption/0", "aes-ctr-256", nullptr, "aes-ctr-256"},
      {"/ikev2/proposals/0/encryption/1", "chacha20-poly1305", nullptr, "chacha20-poly1305"},
      {"/ikev2/proposals/0/integrity/1", "sha1", nullptr, "sha1"},
      {"/ikev2/proposals/0/integrity/0", "aes-xcbc", nullptr, "aes-xcbc"},
      {"/ikev2/proposals/0/prf/1", "sha1", nullptr, "PRF"},
      {"/ikev2/proposals/0/group/0", 14, nullptr, "group 14"},
      {"/ikev2/proposals/0/group/1", 31, nullptr, "group 31"},
      {"/ikev2/policies/0/proposals/0", "default", "/crypto_maps/0/entries/0", "default"},
      {"/ikev2/policies", json::array(), "/crypto_maps/0/entries/0", "default"},
      {"/ikev2/profiles/0/authentication/local/method", "signature", nullptr, "signature"},
      {"/ikev2/profiles/0/authentication/remote/method", "rsa-sig", nullptr, "rsa-sig"},
      {sets, {"T1"}, nullptr, "T1"},
      {"/crypto_maps/0/entries/0/pfs", "group14", nullptr, "group 14"},
      {"/ipsec/profiles/0/transform_sets", {"T1"}, "/tunnels/0/protection/profile", "T1"},
      {"/ipsec/profiles/0/pfs", "group24", "/tunnels/0/protection/profile", "group 24"},
      {"/dynamic_maps/0/entries/0/transform_sets", {"T1"}, nullptr, "T1"},
      {"/dynamic_maps/0/entries/0/pfs", "group5", nullptr, "group 5"},
  };
  for (const Flip& flip : flips) {
    CAPTURE(flip.at);
    json document = good;
    document[json::json_pointer(flip.at)] = flip.value;
    check_refused(document, flip.refused_at != nullptr ? flip.refused_at : flip.at, flip.words);
    // It is the label that forbids it, and nothing else.
    document["ikev2"]["profiles"][0]["suite_b"] = false;
    check_accepted(document);
  }
  for (const auto& [at, value] : {std::pair<const char*, json>{"/ikev2/proposals/0/group/0", 21},
                                  {"/ikev2/proposals/0/integrity/0", "sha512"},
                                  {"/ikev2/proposals/0/encryption/0", "aes-cbc-192"},
                                  {"/crypto_maps/0/entries/0/pfs", "group21"}}) {
    CAPTURE(at);
    json document = good;
    document[json::json_pointer(at)] = value;
    check_accepted(document);
  }
}

}  // namespace postern::config
