// The "ikev2" section and negotiated entries and tunnels: IKE-01, IKE-23..43, TS-59..66, CM-01, CM-03, CM-17, SV-01,
// SV-06, SV-25, SV-29. Each bad row beside a good.
#include <filesystem>
#include <fstream>

#include <sys/stat.h>
#include <unistd.h>

#include "config/ikev2_lookup.hpp"
#include "config/render.hpp"
#include "tests/config/good_document.hpp"

namespace postern::config {
namespace {

using nlohmann::json;

constexpr const char* psk = "a pre-shared key of the tests";

// The map entry and the tunnel of good(), negotiated.
json ike() {
  json document = good();
  document["crypto_maps"][0]["entries"][0] =
      json::parse(R"({"sequence": 10, "type": "ipsec-isakmp", "match_address": "101", "peer": "192.0.2.2",
                      "transform_sets": ["T1"], "ikev2_profile": "PR"})");
  document["tunnels"][0]["protection"].erase("session_key");
  document["ikev2"] = json::parse(R"({
    "proposals": [{"name": "A", "encryption": ["aes-cbc-256", "aes-gcm-128"], "integrity": ["sha256"], "group": [19, 14]}],
    "policies": [{"name": "PO", "proposals": ["A"]}],
    "keyrings": [{"name": "KR", "peers": [{"name": "N2", "address": "192.0.2.2"}]}],
    "profiles": [{"name": "PR", "match": {"identity_remote": [{"address": "192.0.2.2"}]}, "keyring": "KR",
                  "authentication": {"local": {"method": "pre-share"}, "remote": {"method": "pre-share"}}}]})");
  document["ikev2"]["keyrings"][0]["peers"][0]["pre_shared_key"] = psk;
  return document;
}

json ike_with(const std::string& pointer, json value) {
  auto document = ike();
  document[json::json_pointer(pointer)] = std::move(value);
  return document;
}
json ike_without(const std::string& parent, const std::string& key) {
  auto document = ike();
  document.at(json::json_pointer(parent)).erase(key);
  return document;
}

Document loaded(const json& document) {
  auto result = load(document);
  if (!result) FAIL(to_text(result.error()));
  return std::move(result->document);
}

void check_warned(const json& document, const std::string& path, const std::string& words) {
  CAPTURE(path);
  const auto result = load(document);
  if (!result) FAIL(to_text(result.error()));
  CAPTURE(to_text(result->warnings));
  const Problem* const found = at_path(result->warnings, path, Severity::warning);
  REQUIRE(found != nullptr);
  CHECK(found->message.find(words) != std::string::npos);
}

std::string text_of(const Secret& key) { return {reinterpret_cast<const char*>(key.bytes().data()), key.size()}; }

const std::string proposal = "/ikev2/proposals/0", peer = "/ikev2/keyrings/0/peers/0", profile = "/ikev2/profiles/0";
const std::string entry = "/crypto_maps/0/entries/0";

}  // namespace

TEST_CASE("a negotiated document loads as it is, without a warning") {
  const auto result = load(ike());
  if (!result) FAIL(to_text(result.error()));
  CHECK(to_text(result->warnings) == "");
  const Document& d = result->document;
  CHECK(d.crypto_maps[0].entries[0].negotiated);
  CHECK(!d.crypto_maps[1].entries[0].negotiated);
  CHECK(d.tunnels[0].negotiated);
  CHECK(d.ikev2.enabled);
  CHECK(d.ikev2.nat_keepalive_s == 20);
  CHECK(d.ikev2.profiles[0].lifetime_s == 86400);  // IKE-43
  CHECK(d.ikev2.profiles[0].dpd.mode == DpdMode::off);
  CHECK(text_of(d.ikev2.keyrings[0].peers[0].local_key) == psk);
  CHECK(text_of(d.ikev2.keyrings[0].peers[0].remote_key) == psk);
}

TEST_CASE("IKE-24 to IKE-27: every name that is on offer, in order") {
  auto document = ike_with(proposal + "/encryption", {"aes-gcm-256", "aes-cbc-128", "aes-cbc-192", "aes-cbc-256",
                                                      "aes-gcm-128", "aes-gcm-192", "chacha20-poly1305"});
  document["ikev2"]["proposals"][0]["integrity"] = {"sha512", "sha384", "sha256"};
  document["ikev2"]["proposals"][0]["group"] = {31, 14, 15, 16, 19, 20, 21};
  const Ikev2Proposal a = loaded(document).ikev2.proposals[0];
  CHECK(a.encryption.front() == IkeEncryption{crypto::Cipher::aes_gcm_16, 256});
  CHECK(a.encryption.back() == IkeEncryption{crypto::Cipher::chacha20_poly1305, 256});
  CHECK(a.encryption.size() == 7);
  CHECK(a.integrity.front() == crypto::Integrity::hmac_sha512_256);
  CHECK(a.groups.front() == crypto::DhGroup::curve25519);
  CHECK(a.groups.size() == 7);
  // IKE-35
  CHECK(a.prf == std::vector{crypto::Prf::hmac_sha512, crypto::Prf::hmac_sha384, crypto::Prf::hmac_sha256});
  document["ikev2"]["proposals"][0]["prf"] = {"sha384"};
  CHECK(loaded(document).ikev2.proposals[0].prf == std::vector{crypto::Prf::hmac_sha384});
  check_warned(ike_with(proposal + "/integrity", {"sha1"}), proposal + "/integrity/0", "weak");
  check_warned(ike_with(proposal + "/prf", {"sha256", "sha1"}), proposal + "/prf/1", "weak");
  check_warned(ike_with(proposal + "/group", {19, 19}), proposal + "/group/1", "already");
}

TEST_CASE("IKE-24 to IKE-26: names that are not on offer are refused with the reason") {
  struct Row {
    const char* list;
    json name;
    const char* words;
  };
  const Row rows[] = {{"encryption", "3des", "3DES is weak"},
                      {"encryption", "des", "broken"},
                      {"encryption", "aes-cbc-196", "means aes-cbc-192"},
                      {"encryption", "aes-cbc", "key length"},
                      {"encryption", "blowfish", "aes-gcm-256"},
                      {"integrity", "md5", "HMAC-MD5 is broken"},
                      {"integrity", "sha3", "sha384"},
                      {"prf", "md5", "HMAC-MD5 is broken"},
                      {"prf", "aes-xcbc", "sha512"},
                      {"group", 1, "768-bit"},
                      {"group", 2, "1024-bit"},
                      {"group", 5, "1536-bit"},
                      {"group", 24, "small subgroup"},
                      {"group", 17, "not a known group"},
                      {"group", 17, "14, 15, 16, 19, 20, 21, 31"}};
  for (const Row& row : rows) {
    CAPTURE(row.name.dump());
    check_refused(ike_with(proposal + "/" + row.list, json::array({row.name})), proposal + "/" + row.list + "/0",
                  row.words);
  }
}

TEST_CASE("IKE-28: a proposal that lacks something is refused, an AEAD needs no integrity") {
  check_refused(ike_without(proposal, "encryption"), proposal, "lacks encryption");
  check_refused(ike_without(proposal, "integrity"), proposal, "lacks integrity");
  check_refused(ike_without(proposal, "group"), proposal, "lacks group");
  auto aead = ike_without(proposal, "integrity");
  aead["ikev2"]["proposals"][0]["encryption"] = {"aes-gcm-256", "chacha20-poly1305"};
  check_accepted(aead);
  CHECK(loaded(aead).ikev2.proposals[0].prf.size() == 3);
  check_warned(ike_with(proposal + "/encryption", {"aes-gcm-256"}), proposal + "/integrity", "AEAD");
}

TEST_CASE("IKE-29, IKE-31: what belongs elsewhere is refused, and the message says where") {
  check_refused(ike_with(proposal + "/lifetime", 3600), proposal + "/lifetime", "/ikev2/profiles/*/lifetime");
  check_refused(ike_with(proposal + "/authentication", "pre-share"), proposal + "/authentication",
                "/ikev2/profiles/*/authentication");
  check_refused(ike_with(proposal + "/priority", 1), proposal + "/priority", "their order in the policy");
  check_refused(ike_with(proposal + "/colour", 1), proposal + "/colour", "unknown key");
}

TEST_CASE("IKE-32, IKE-33: proposals count through a policy; the strong default where there is none") {
  check_warned(ike_without("/ikev2", "policies"), proposal, "in no policy");
  const Document d = loaded(ike());
  const Ikev2Proposal* const strong = find_named(d.ikev2.proposals, "default");
  REQUIRE(strong != nullptr);
  CHECK(strong->encryption.front() == IkeEncryption{crypto::Cipher::aes_gcm_16, 256});
  CHECK(strong->integrity.front() == crypto::Integrity::hmac_sha512_256);
  CHECK(strong->groups.front() == crypto::DhGroup::ecp256);
  CHECK(missing_in(*strong).empty());
  auto own = ike();
  own["ikev2"]["proposals"][0]["name"] = "default";
  own["ikev2"]["policies"][0].erase("proposals");
  CHECK(loaded(own).ikev2.proposals.size() == 1);
  CHECK(loaded(own).ikev2.policies[0].proposals == std::vector<std::string>{"default"});
  check_refused(ike_with("/ikev2/policies/0/proposals", {"default-legacy"}), "/ikev2/policies/0/proposals/0",
                "groups 5 and 2");
  check_refused(ike_with(proposal + "/name", "default-legacy"), proposal + "/name", "built-in");
  check_refused(ike_with("/ikev2/policies/0/proposals", {"B"}), "/ikev2/policies/0/proposals/0", "A, default");
  check_warned(ike_with("/ikev2/policies/0/proposals", {"A", "A"}), "/ikev2/policies/0/proposals/1", "already");
}

TEST_CASE("IKE-32: the policy of an end is the closest one, and the first of those") {
  auto document = ike();
  document["vrfs"] = {{{"name", "blue"}, {"table", 100}}};
  document["ikev2"]["policies"] = json::parse(R"([
    {"name": "any-vrf", "match": {"fvrf": "any"}}, {"name": "global"}, {"name": "second"},
    {"name": "local", "match": {"fvrf": "any", "address_local": "192.0.2.1"}},
    {"name": "blue", "match": {"fvrf": "blue"}}])");
  const Ikev2 ikev2 = [&] {
    auto result = load(document);
    if (!result) FAIL(to_text(result.error()));
    return std::move(result->document.ikev2);
  }();
  const IpAddress one = *IpAddress::parse("192.0.2.1"), nine = *IpAddress::parse("192.0.2.9");
  const auto name = [&](const IpAddress& local, std::optional<std::string> fvrf) {
    const auto* const policy = policy_for(ikev2, {local, nine, std::move(fvrf)});
    return policy == nullptr ? std::string("none") : policy->name;
  };
  CHECK(name(one, std::nullopt) == "local");
  CHECK(name(nine, std::nullopt) == "global");
  CHECK(name(nine, "blue") == "blue");
  CHECK(name(nine, "red") == "any-vrf");
  CHECK(policy_for(Ikev2{}, {one, nine, std::nullopt}) == nullptr);
  check_refused(ike_with("/ikev2/policies/0/match", {{"fvrf", "green"}}), "/ikev2/policies/0/match/fvrf", "green");
  check_refused(ike_with("/ikev2/policies/0/match", {{"address_local", "x.y"}}),
                "/ikev2/policies/0/match/address_local", "not an IP address");
}

TEST_CASE("IKE-36: the key by host address, then network, then identity; the first of each") {
  Ikev2Profile matching;
  matching.match_remote = {{IdentityKind::fqdn, {}, "GW.example"}};
  Keyring keyring;
  const auto add = [&](const char* name, const char* address, const char* fqdn) {
    KeyringPeer& made = keyring.peers.emplace_back();
    made.name = name;
    if (address != nullptr) made.address = *Prefix::parse(address);
    if (fqdn != nullptr) made.identity = IdentityRule{IdentityKind::fqdn, {}, fqdn};
  };
  const auto found = [&](const char* remote) {
    const KeyringPeer* const one = peer_for(keyring, matching, *IpAddress::parse(remote));
    return one == nullptr ? std::string("none") : one->name;
  };
  CHECK(found("192.0.2.2") == "none");
  add("named", nullptr, "gw.example");
  add("other", nullptr, "gw2.example");
  CHECK(found("192.0.2.2") == "named");
  add("wide", "192.0.0.0/16", nullptr);
  add("narrow", "192.0.2.0/24", nullptr);
  CHECK(found("192.0.2.2") == "wide");
  add("host", "192.0.2.2/32", nullptr);
  add("twin", "192.0.2.2/32", nullptr);
  CHECK(found("192.0.2.2") == "host");
  CHECK(found("192.0.2.3") == "wide");
  CHECK(found("2001:db8::1") == "named");
  matching.match_remote = {{IdentityKind::key_id, {}, "gw.example"}};
  CHECK(found("2001:db8::1") == "none");
  matching.match_remote = {{}};
  CHECK(found("2001:db8::1") == "named");
}

TEST_CASE("IKE-36: peers of a keyring") {
  check_refused(ike_without(peer, "address"), peer, "neither address nor identity");
  check_accepted(ike_with(peer + "/address", "192.0.2.0/24"));
  check_accepted(ike_with(peer + "/address", "0.0.0.0/0"));
  check_refused(ike_with(peer + "/address", "192.0.2.1/24"), peer + "/address", "host bits");
  check_refused(ike_with(peer + "/address", "n2.example"), peer + "/address", "not an IP address");
  check_refused(ike_with(peer + "/identity", json::object()), peer + "/identity", "0 identities");
  check_refused(ike_with(peer + "/identity", {{"fqdn", "a"}, {"key_id", "b"}}), peer + "/identity", "2 identities");
  check_refused(ike_with(peer + "/identity", {{"email", "nobody"}}), peer + "/identity/email", "e-mail");
  check_accepted(ike_with(peer + "/identity", {{"email", "a@b.example"}}));
  check_refused(ike_with(peer + "/identity", {{"key_id", "0x123"}}), peer + "/identity/key_id", "odd number");
  const auto key_id = loaded(ike_with(peer + "/identity", {{"key_id", "0x00ff41"}})).ikev2.keyrings[0].peers[0];
  CHECK(key_id.identity->text == std::string("\0\xff\x41", 3));
  auto twice = ike();
  twice["ikev2"]["keyrings"][0]["peers"].push_back(json(twice["ikev2"]["keyrings"][0]["peers"][0]));
  check_refused(twice, "/ikev2/keyrings/0/peers/1/name", "given twice");
  check_refused(ike_with(peer + "/address", "198.51.100.1"), entry + "/ikev2_profile",
                "keyring KR of IKEv2 profile PR has no key for peer 192.0.2.2");
}

TEST_CASE("keys: text, hex, a file, one for each side") {
  const auto keys = [](json key) {
    const auto found = loaded(ike_with(peer + "/pre_shared_key", std::move(key))).ikev2.keyrings[0].peers[0];
    return std::pair(text_of(found.local_key), text_of(found.remote_key));
  };
  CHECK(keys("plain text with blanks").first == "plain text with blanks");
  CHECK(keys("0x0041ff4142434445").second == std::string("\0A\xff"
                                                         "ABCDE",
                                                         8));
  CHECK(keys({{"local", "our own key"}, {"remote", "the peer's key"}}) ==
        std::pair<std::string, std::string>("our own key", "the peer's key"));
  char name[] = "/tmp/postern-test-XXXXXX";
  const std::string directory = ::mkdtemp(name), file = directory + "/key";
  std::ofstream(file) << "key of a file\n";
  ::chmod(file.c_str(), 0600);
  CHECK(keys({{"file", file}}).first == "key of a file");
  CHECK(keys({{"local", {{"file", file}}}, {"remote", "the peer's key"}}).first == "key of a file");
  std::ofstream(file) << "0x6162636465666768\n";
  CHECK(keys({{"file", file}}).first == "abcdefgh");
  ::chmod(file.c_str(), 0644);
  check_refused(ike_with(peer + "/pre_shared_key", {{"file", file}}), peer + "/pre_shared_key/file", "mode 0644");
  std::filesystem::remove_all(directory);

  const std::string at_key = peer + "/pre_shared_key";
  check_refused(ike_with(at_key, "0x"), at_key, "no hex digits");
  check_refused(ike_with(at_key, "0x123"), at_key, "odd number");
  check_refused(ike_with(at_key, "********"), at_key, "masked");
  check_refused(ike_with(at_key, std::string(600, 'x')), at_key, "600 bytes");
  check_refused(ike_with(at_key, json::object()), at_key, "neither one key nor two");
  check_refused(ike_with(at_key, {{"local", "only one side"}}), at_key, "neither one key nor two");
  check_refused(ike_with(at_key, {{"local", "********"}, {"remote", "the peer's key"}}), at_key + "/local", "masked");
  check_warned(ike_with(at_key, "secret"), at_key, "can be guessed");
  check_refused(ike_without(peer, "pre_shared_key"), at_key, "is missing");
}

TEST_CASE("no message holds a pre-shared key, and no rendered document") {
  const std::string needle = "pre-shared key of";
  for (const json& document :
       {ike_with(peer + "/pre_shared_key", {{psk, 1}}), ike_with(profile + "/authentication/local/method", psk),
        ike_with(peer + "/pre_shared_key", {{"local", psk}}),
        ike_with(peer + "/pre_shared_key", std::string(psk) + std::string(600, 'x'))}) {
    const std::string text = to_text(problems_of(document));
    CAPTURE(text);
    CHECK(!text.empty());
    CHECK(text.find(needle) == std::string::npos);
  }
  auto document = ike_with(profile + "/authentication/local/key", psk);
  const std::string rendered = render(loaded(document)).dump();
  CHECK(rendered.find(needle) == std::string::npos);
  CHECK(rendered.find(masked_secret) != std::string::npos);
}

TEST_CASE("IKE-37 to IKE-43: profiles") {
  check_refused(ike_with(profile + "/match/identity_remote", json::array()), profile + "/match/identity_remote",
                "1 to 64");
  check_refused(ike_with(profile + "/match/identity_remote", {"all"}), profile + "/match/identity_remote/0", "any");
  check_refused(ike_with(profile + "/match/identity_remote", {7}), profile + "/match/identity_remote/0",
                "string or object");
  check_refused(ike_with(profile + "/match/fvrf", "green"), profile + "/match/fvrf", "green");
  check_refused(ike_with(profile + "/keyring", "NO"), profile + "/keyring", "KR");
  check_refused(ike_without(profile, "keyring"), profile + "/authentication/local", "has no key");
  check_refused(ike_with(profile + "/authentication/remote/method", "rsa-sig"),
                profile + "/authentication/remote/method", "rsa-sig is not available");
  check_refused(ike_with(profile + "/authentication/remote/method", "psk"), profile + "/authentication/remote/method",
                "pre-share");
  check_refused(ike_with(profile + "/lifetime", 60), profile + "/lifetime", "120 to 86400");
  check_refused(ike_with(profile + "/pki", "trust"), profile + "/pki", "unknown key");
  check_warned(ike_with(profile + "/authentication/local/key", "short"), profile + "/authentication/local/key",
               "guessed");

  auto rich = ike_without(profile, "keyring");
  rich["ikev2"]["dpd"] = {{"interval", 30}};
  rich["ikev2"]["profiles"][0]["authentication"] = json::parse(
      R"({"local": {"method": "pre-share", "key": "our own key"}, "remote": {"method": "pre-share", "key": "the peer's key"}})");
  rich["ikev2"]["profiles"][0]["identity_local"] = {{"fqdn", "n1.example"}};
  rich["ikev2"]["profiles"][0]["nat_force_encap"] = true;
  rich["ikev2"]["profiles"][0]["lifetime"] = 120;
  const Ikev2Profile one = loaded(rich).ikev2.profiles[0];
  CHECK(one.dpd == Dpd{DpdMode::on_demand, 30, 2});
  CHECK(one.local_identity == IdentityRule{IdentityKind::fqdn, {}, "n1.example"});
  CHECK(one.force_encapsulation);
  CHECK(one.lifetime_s == 120);
  CHECK(text_of(one.remote_key) == "the peer's key");
  rich["ikev2"]["profiles"][0]["dpd"] = {{"mode", "periodic"}, {"interval", 10}, {"retry", 6}};
  CHECK(loaded(rich).ikev2.profiles[0].dpd == Dpd{DpdMode::periodic, 10, 6});
  rich["ikev2"]["profiles"][0]["dpd"] = {{"mode", "off"}};
  CHECK(loaded(rich).ikev2.profiles[0].dpd.mode == DpdMode::off);
  rich["ikev2"]["profiles"][0]["dpd"] = {{"interval", 9}};
  check_refused(rich, profile + "/dpd/interval", "10 to 3600");

  auto twins = ike();
  twins["ikev2"]["profiles"].push_back(json(twins["ikev2"]["profiles"][0]));
  twins["ikev2"]["profiles"][1]["name"] = "P2";
  check_warned(twins, "/ikev2/profiles/1/match", "profile PR, which is taken");
  twins["ikev2"]["profiles"][1]["match"]["address_local"] = "192.0.2.1";
  CHECK(load(twins)->warnings.empty());
}

TEST_CASE("ikev2 names: each once, and what is referred to exists") {
  for (const char* const list : {"proposals", "policies", "keyrings", "profiles"}) {
    auto document = ike();
    document["ikev2"][list].push_back(json(document["ikev2"][list][0]));
    check_refused(document, std::string("/ikev2/") + list + "/1/name", "given twice");
  }
  check_refused(ike_with(entry + "/ikev2_profile", "NO"), entry + "/ikev2_profile", "PR");
  check_refused(ike_with("/tunnels/0/protection/ikev2_profile", "NO"), "/tunnels/0/protection/ikev2_profile", "PR");
  check_refused(ike_with("/ipsec/profiles/0/ikev2_profile", "NO"), "/ipsec/profiles/0/ikev2_profile", "PR");
  check_accepted(ike_with("/tunnels/0/protection/ikev2_profile", "PR"));
  check_refused(ike_with("/ikev2/nat_keepalive", 3), "/ikev2/nat_keepalive", "5 to 3600");
  check_accepted(ike_with("/ikev2/nat_keepalive", 0));
}

TEST_CASE("a negotiated entry has sets and no keys, a manual one has keys and one set") {
  check_refused(ike_with(entry + "/session_key", keys(5001, 5002)), entry + "/session_key", "ipsec-manual");
  check_refused(ike_with(entry + "/udp_encapsulation", json::object()), entry + "/udp_encapsulation", "ipsec-manual");
  check_refused(ike_without(entry, "transform_sets"), entry + "/transform_sets", "is missing");
  check_refused(ike_with(entry + "/transform_set", "T1"), entry + "/transform_set", "one of the two");
  check_refused(ike_with(entry + "/transform_sets", {"T1", "NO"}), entry + "/transform_sets/1", "T1");
  check_refused(ike_with(entry + "/transform_sets", json::array()), entry + "/transform_sets", "1 to 6");
  check_warned(ike_with(entry + "/transform_sets", {"T1", "T1"}), entry + "/transform_sets/1", "already");
  auto one = ike_without(entry, "transform_sets");
  one["crypto_maps"][0]["entries"][0]["transform_set"] = "T1";
  CHECK(loaded(one).crypto_maps[0].entries[0].transform_sets == std::vector<std::string>{"T1"});

  for (const char* const key : {"ikev2_profile", "initiate", "pfs", "transform_sets"}) {
    auto manual = good();
    manual["crypto_maps"][0]["entries"][0][key] = json::parse(R"({"ikev2_profile": "PR", "initiate": "always",
        "pfs": "group19", "transform_sets": ["T1"]})")[key];
    check_refused(manual, entry + "/" + key, key == std::string("transform_sets") ? "exactly one" : "no negotiation");
  }
  auto bare = good();
  bare["crypto_maps"][0]["entries"][0].erase("session_key");
  check_refused(bare, entry + "/session_key", "is missing");
  bare = good();
  bare["crypto_maps"][0]["entries"][0].erase("transform_set");
  check_refused(bare, entry + "/transform_set", "is missing");
}

TEST_CASE("CM-03, CM-17: peers and lists of a negotiated entry") {
  check_refused(ike_with(entry + "/peer", "192.0.2.1"), entry + "/peer", "own address");
  check_refused(ike_with(entry + "/peer", "0.0.0.0"), entry + "/peer", "not a host's address");
  check_refused(ike_with(entry + "/peer", {"192.0.2.2", "192.0.2.3"}), entry + "/peer", "exactly one peer");
  auto many = ike();
  json rule = many["acls"][0]["rules"][0];
  rule["destination"] = "10.7.0.0/16";
  many["acls"][0]["rules"].push_back(rule);
  check_accepted(many);
  many["acls"][0]["rules"][0]["action"] = "deny";
  check_accepted(many);
  many["acls"][0]["rules"][1]["action"] = "deny";
  check_refused(many, entry + "/match_address", "permits nothing");
  auto gcm = ike();
  gcm["ipsec"]["transform_sets"].push_back({{"name", "G"}, {"transforms", {"esp-gcm 256"}}});
  gcm["crypto_maps"][0]["entries"][0]["transform_sets"] = {"G", "T1"};
  check_accepted(gcm);
}

TEST_CASE("negotiated entries and tunnels need a profile that fits, and a key for the peer") {
  auto unnamed = ike_without(entry, "ikev2_profile");
  check_accepted(unnamed);
  unnamed["ikev2"]["profiles"][0]["match"]["identity_remote"] = json::parse(R"([{"fqdn": "n2.example"}])");
  check_refused(unnamed, entry + "/ikev2_profile", "no IKEv2 profile matches peer 192.0.2.2");
  check_refused(unnamed, "/tunnels/0/protection/ikev2_profile", "no IKEv2 profile matches peer 192.0.2.2");
  unnamed["ikev2"]["profiles"][0]["match"]["identity_remote"] = {"any"};
  check_accepted(unnamed);
  unnamed["ikev2"]["profiles"][0]["match"]["address_local"] = "192.0.2.77";
  check_refused(unnamed, entry + "/ikev2_profile", "no IKEv2 profile matches");
  check_refused(ike_without("", "ikev2"), "/tunnels/0/protection/ikev2_profile", "no IKEv2 profile");
  // SV-29: of the tunnel, else of its IPsec profile.
  auto named = ike();
  named["ikev2"]["profiles"][0]["match"]["identity_remote"] = json::parse(R"([{"fqdn": "n2.example"}])");
  named["ipsec"]["profiles"][0]["ikev2_profile"] = "PR";
  check_accepted(named);
}

TEST_CASE("IKE-01: with IKE off, what needs it says that it is inert, and manual keys go on") {
  auto off = ike_with("/ikev2/enabled", false);
  check_warned(off, entry, "inert");
  check_warned(off, "/tunnels/0", "inert");
  auto manual = good();
  manual["ikev2"]["enabled"] = false;
  CHECK(load(manual)->warnings.empty());
}

TEST_CASE("TS-59 to TS-62: lifetimes, each inherited by itself") {
  const Document plain = loaded(ike());
  CHECK(plain.ipsec.sa.lifetime_s == 3600U);
  CHECK(plain.ipsec.sa.lifetime_kb == 4608000U);
  auto document = ike();
  document["ipsec"]["security_association"] = {{"lifetime_seconds", 120}, {"idle_time", 60}, {"replay_window", 128}};
  document["crypto_maps"][0]["entries"][0]["security_association"] = {{"lifetime_kilobytes", "disable"},
                                                                      {"lifetime_packets", 1000},
                                                                      {"extended_sequence_numbers", true},
                                                                      {"tfc_padding", "mtu"},
                                                                      {"dummy", {{"pps", 4}}}};
  document["ipsec"]["profiles"][0]["security_association"] = {{"lifetime_kilobytes", 2560}};
  const Document d = loaded(document);
  CHECK(d.ipsec.sa.lifetime_s == 120U);
  CHECK(d.ipsec.sa.lifetime_kb == 4608000U);
  CHECK(d.ipsec.sa.replay_window == 128);
  CHECK(d.crypto_maps[0].entries[0].sa.lifetime_kb == 0U);
  CHECK(!d.crypto_maps[0].entries[0].sa.lifetime_s);
  CHECK(d.crypto_maps[0].entries[0].sa.lifetime_packets == 1000U);
  CHECK(d.crypto_maps[0].entries[0].sa.extended_sequence == true);
  CHECK(!d.ipsec.sa.extended_sequence);
  CHECK(d.crypto_maps[0].entries[0].sa.tfc_bytes == 65535);
  CHECK(d.crypto_maps[0].entries[0].sa.dummy_interval_us == 250'000U);
  CHECK(!d.profiles[0].sa.dummy_interval_us);
  CHECK(d.profiles[0].sa.lifetime_kb == 2560U);
  const std::string global = "/ipsec/security_association";
  check_refused(ike_with(global + "/lifetime_seconds", 119), global + "/lifetime_seconds", "120 to 2592000");
  check_refused(ike_with(global + "/lifetime_seconds", 2592001), global + "/lifetime_seconds", "120 to 2592000");
  check_accepted(ike_with(global + "/lifetime_seconds", 2592000));
  check_refused(ike_with(global + "/lifetime_kilobytes", 2559), global + "/lifetime_kilobytes", "2560 to 4294967295");
  check_refused(ike_with(global + "/lifetime_kilobytes", "off"), global + "/lifetime_kilobytes", "disable");
  check_accepted(ike_with(global + "/lifetime_kilobytes", 4294967295U));
  check_refused(ike_with(global + "/idle_time", 59), global + "/idle_time", "60 to 86400");
  check_refused(ike_with(global + "/replay_window", 31), global + "/replay_window", "32 to 4096");
  check_refused(ike_with(global + "/dummy", {{"pps", 25001}}), global + "/dummy/pps", "1 to 25000");
  check_refused(ike_with(global + "/dummy", {{"seconds", 0}}), global + "/dummy/seconds", "1 to 3600");
  check_refused(ike_with(global + "/dummy", {{"pps", 1}, {"seconds", 1}}), global + "/dummy", "1 to 1");
  check_refused(ike_with(global + "/dummy", json::object()), global + "/dummy", "1 to 1");
  check_refused(ike_with(global + "/dummy", {{"rate", 1}}), global + "/dummy/rate", "pps, seconds");
  check_refused(ike_with(global + "/dummy", "off"), global + "/dummy", "disable");
  check_refused(ike_with(global + "/dummy", 5), global + "/dummy", "object or string");
  check_refused(ike_with(global + "/tfc_padding", 63), global + "/tfc_padding", "64 to 65535");
  check_refused(ike_with(global + "/tfc_padding", "max"), global + "/tfc_padding", "mtu");
  check_accepted(ike_with(global + "/dummy", {{"seconds", 15}}));
  check_accepted(ike_with(global + "/tfc_padding", 1400));
  check_refused(ike_with(global + "/lifetime_packets", 999), global + "/lifetime_packets", "1000 to 4294967295");
  check_refused(ike_with(global + "/extended_sequence_numbers", "yes"), global + "/extended_sequence_numbers",
                "boolean");
}

TEST_CASE("TS-64 to TS-66: PFS, off by default; the guide's bare form means a group that is not available") {
  CHECK(!loaded(ike()).crypto_maps[0].entries[0].pfs);
  CHECK(loaded(ike_with(entry + "/pfs", "group19")).crypto_maps[0].entries[0].pfs == crypto::DhGroup::ecp256);
  CHECK(loaded(ike_with("/ipsec/profiles/0/pfs", "group31")).profiles[0].pfs == crypto::DhGroup::curve25519);
  CHECK(!loaded(ike_with(entry + "/pfs", false)).crypto_maps[0].entries[0].pfs);
  check_refused(ike_with(entry + "/pfs", true), entry + "/pfs", "group 1 (768-bit MODP)");
  check_refused(ike_with(entry + "/pfs", "group5"), entry + "/pfs", "1536-bit");
  check_refused(ike_with(entry + "/pfs", "group17"), entry + "/pfs", "not a known group");
  check_refused(ike_with(entry + "/pfs", "19"), entry + "/pfs", "group14");
  check_refused(ike_with(entry + "/pfs", 19), entry + "/pfs", "string or boolean");
}

TEST_CASE("SV-06, SV-25: negotiated tunnels") {
  auto transport = ike();
  transport["ipsec"]["transform_sets"].push_back(
      {{"name", "TT"}, {"transforms", {"esp-aes", "esp-sha256-hmac"}}, {"mode", "transport"}});
  transport["ipsec"]["profiles"][0]["transform_sets"] = {"T1", "TT"};
  check_refused(transport, "/tunnels/0/protection/profile", "transport mode");
  auto two = ike();
  two["tunnels"].push_back(json(two["tunnels"][0]));
  two["tunnels"][1]["number"] = 1;
  two["tunnels"][1].erase("addresses");
  check_refused(two, "/tunnels/1/protection", "source, destination and IKEv2 profile of Tunnel0");
  two["ikev2"]["profiles"].push_back(json(two["ikev2"]["profiles"][0]));
  two["ikev2"]["profiles"][1]["name"] = "P2";
  two["ikev2"]["profiles"][1]["match"]["identity_remote"] = json::parse(R"([{"fqdn": "second.example"}])");
  two["tunnels"][1]["protection"]["ikev2_profile"] = "P2";
  check_accepted(two);
  check_refused(ike_with("/tunnels/0/udp_encapsulation", json::object()), "/tunnels/0/udp_encapsulation",
                "IKE detects NAT");
  auto both = good();
  both["ikev2"] = ike()["ikev2"];
  both["tunnels"][0]["protection"]["ikev2_profile"] = "PR";
  check_refused(both, "/tunnels/0/protection/ikev2_profile", "session_key is given too");
}

TEST_CASE("render and diff: the section comes back, keys masked, and changes have their names") {
  auto rich = ike();
  rich["ikev2"]["dpd"] = {{"mode", "periodic"}, {"interval", 20}, {"retry", 3}};
  rich["ikev2"]["policies"][0]["match"] = {{"address_local", "192.0.2.1"}, {"fvrf", "any"}};
  rich["ikev2"]["keyrings"][0]["peers"].push_back(json::parse(
      R"({"name": "K", "identity": {"key_id": "0x00ff"}, "pre_shared_key": {"local": "our own key", "remote": "the peer's key"}})"));
  rich["ikev2"]["profiles"][0]["match"]["identity_remote"] =
      json::parse(R"(["any", {"address": "192.0.2.0/24"}, {"fqdn": "a.b"}, {"email": "a@b"}, {"key_id": "text"}])");
  rich["ikev2"]["profiles"][0]["identity_local"] = {{"address", "192.0.2.1"}};
  rich["crypto_maps"][0]["entries"][0]["pfs"] = "group20";
  rich["crypto_maps"][0]["entries"][0]["initiate"] = "always";
  rich["crypto_maps"][0]["entries"][0]["security_association"] = {
      {"lifetime_kilobytes", "disable"}, {"lifetime_packets", 5000}, {"extended_sequence_numbers", false},
      {"dummy", {{"seconds", 15}}},      {"tfc_padding", "disable"}, {"idle_time", 90}};
  rich["ipsec"]["profiles"][0]["initiate"] = "on_traffic";
  rich["tunnels"][0]["protection"]["ikev2_profile"] = "PR";
  const Document first = loaded(rich);
  json again = render(first);
  CHECK(again["ikev2"]["keyrings"][0]["peers"][0]["pre_shared_key"] == masked_secret);
  CHECK(again["ikev2"]["keyrings"][0]["peers"][1]["pre_shared_key"]["remote"] == masked_secret);
  again["ikev2"]["keyrings"] = rich["ikev2"]["keyrings"];
  again["crypto_maps"][1] = rich["crypto_maps"][1];
  const Document second = loaded(again);
  std::string changes;
  for (const Change& change : diff(first, second)) changes += change.text() + "\n";
  CHECK(changes == "");
  CHECK(equal(first, second));

  struct Row {
    std::string pointer;
    json value;
    std::string change;
  };
  const Row rows[] = {{"/ikev2/nat_keepalive", 30, "changed ikev2/global"},
                      {proposal + "/group", {14}, "changed ikev2/proposals A"},
                      {"/ikev2/policies/0/match", {{"fvrf", "any"}}, "changed ikev2/policies PO"},
                      {peer + "/pre_shared_key", "another key of the tests", "changed ikev2/keyrings KR"},
                      {profile + "/lifetime", 300, "changed ikev2/profiles PR"},
                      {"/ipsec/security_association/lifetime_seconds", 300, "changed ipsec/global"},
                      {"/ipsec/profiles/0/pfs", "group14", "changed ipsec/profiles P1"},
                      {entry + "/initiate", "always", "changed crypto_maps M1 10"},
                      {"/tunnels/0/protection/ikev2_profile", "PR", "changed tunnels Tunnel0"}};
  for (const Row& row : rows) {
    const auto found = diff(loaded(ike()), loaded(ike_with(row.pointer, row.value)));
    CAPTURE(row.pointer);
    REQUIRE(found.size() == 1);
    CHECK(found[0].text() == row.change);
  }
}

TEST_CASE("a document with inline pre-shared keys that others can read is warned of") {
  char name[] = "/tmp/postern-test-XXXXXX";
  const std::string directory = ::mkdtemp(name), file = directory + "/c.json";
  const auto warnings = [&](const json& document, mode_t mode) {
    std::ofstream(file) << document.dump();
    ::chmod(file.c_str(), mode);
    return load_file(file, {.read_secret_files = false})->warnings.size();
  };
  auto document = ike();
  document["crypto_maps"].erase(1);
  document["interfaces"][0].erase("ipv6_crypto_map");
  CHECK(warnings(document, 0644) == 1);
  CHECK(warnings(document, 0600) == 0);
  document["ikev2"]["keyrings"][0]["peers"][0]["pre_shared_key"] = {{"local", {{"file", "/x"}}}, {"remote", "in text"}};
  CHECK(warnings(document, 0644) == 1);
  document["ikev2"]["keyrings"][0]["peers"][0]["pre_shared_key"] = {{"file", "/x"}};
  CHECK(warnings(document, 0644) == 0);
  std::filesystem::remove_all(directory);
}

}  // namespace postern::config
