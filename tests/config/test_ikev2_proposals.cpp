// What is offered to a peer: proposals and policies (IKE-23..33), and the section as a whole. Each bad row beside a
// good.
#include "tests/config/ikev2_document.hpp"

namespace postern::config {

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
  CHECK(loaded(ike_with(proposal + "/encryption", {"3des", "aes-ctr-192", "aes-ccm-256", "aes-ccm-8-128"}))
            .ikev2.proposals[0]
            .encryption == std::vector<IkeEncryption>{{crypto::Cipher::triple_des_cbc, 192},
                                                      {crypto::Cipher::aes_ctr, 192},
                                                      {crypto::Cipher::aes_ccm_16, 256},
                                                      {crypto::Cipher::aes_ccm_8, 128}});
  CHECK(loaded(ike_with(proposal + "/integrity", {"md5", "aes-xcbc", "aes-cmac"})).ikev2.proposals[0].prf ==
        std::vector{crypto::Prf::hmac_md5, crypto::Prf::aes_xcbc, crypto::Prf::aes_cmac});
  // IKE-55: each weak one once, and nothing else is.
  check_warned(ike_with(proposal + "/integrity", {"sha1"}), proposal + "/integrity/0", "weak");
  for (const char* const cipher : {"3des", "des"})
    check_warned(ike_with(proposal + "/encryption", {cipher}), proposal + "/encryption/0", "weak");
  check_warned(ike_with(proposal + "/integrity", {"sha256", "md5"}), proposal + "/integrity/1", "weak");
  for (const int group : {1, 2, 5, 22, 23, 24, 25}) {
    CAPTURE(group);
    check_warned(ike_with(proposal + "/group", {group}), proposal + "/group/0", "weaker dh-group is deprecated");
    CHECK(load(ike_with(proposal + "/group", {group}))->warnings.size() == 1);
  }
  for (const int group : {14, 15, 16, 17, 18, 19, 20, 21, 26, 27, 28, 29, 30, 31}) {
    CAPTURE(group);
    CHECK(load(ike_with(proposal + "/group", {group}))->warnings.size() == 0);
  }
  check_warned(ike_with(proposal + "/prf", {"sha256", "sha1"}), proposal + "/prf/1", "weak");
  check_warned(ike_with(proposal + "/group", {19, 19}), proposal + "/group/1", "already");
}

TEST_CASE("IKE-24 to IKE-26: names that are not on offer are refused with the reason") {
  struct Row {
    const char* list;
    json name;
    const char* words;
  };
  const Row rows[] = {{"encryption", "null", "without encryption"},
                      {"encryption", "aes-ctr", "key length"},
                      {"encryption", "aes-gmac-128", "not a known cipher"},
                      {"encryption", "aes-cbc-196", "means aes-cbc-192"},
                      {"encryption", "aes-cbc", "key length"},
                      {"encryption", "blowfish", "aes-gcm-256"},
                      {"integrity", "none", "only AEADs"},
                      {"integrity", "sha3", "sha384"},
                      {"prf", "sha224", "aes-xcbc"},
                      {"group", 3, "not a known group"},
                      {"group", 32, "not a known group"},
                      {"group", 13, "1, 2, 5, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31"}};
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
  check_warned(ike_with("/ikev2/policies/0/proposals", {"default-legacy"}), "/ikev2/policies/0/proposals/0",
               "groups 5 and 2");
  CHECK(find_named(d.ikev2.proposals, "default-legacy") == nullptr);
  const Document opted = loaded(ike_with("/ikev2/policies/0/proposals", {"default-legacy"}));
  const Ikev2Proposal* const weak = find_named(opted.ikev2.proposals, "default-legacy");
  REQUIRE(weak != nullptr);
  CHECK(weak->encryption ==
        std::vector<IkeEncryption>{{crypto::Cipher::aes_cbc, 128}, {crypto::Cipher::triple_des_cbc, 192}});
  CHECK(weak->prf == std::vector{crypto::Prf::hmac_sha1, crypto::Prf::hmac_md5});
  CHECK(weak->groups == std::vector{crypto::DhGroup::modp1536, crypto::DhGroup::modp1024});
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

}  // namespace postern::config
