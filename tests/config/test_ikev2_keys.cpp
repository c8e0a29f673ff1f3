// Keyrings and pre-shared keys (IKE-34..36): which counts, where it may come from, and that nobody sees it.
#include <filesystem>
#include <fstream>

#include <sys/stat.h>
#include <unistd.h>

#include "config/render.hpp"
#include "tests/config/ikev2_document.hpp"

namespace postern::config {

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
  // Where no address decides, which one it is the peer says.
  const auto called = [&] {
    std::string out;
    for (const KeyringPeer* const one : peers_called(keyring, matching)) out += one->name + " ";
    return out;
  };
  CHECK(called() == "named other ");
  matching.match_remote = {{IdentityKind::fqdn, {}, "GW2.example"}};
  CHECK(called() == "other ");
  CHECK(peer_at(keyring, *IpAddress::parse("192.0.2.2"))->name == "host");
  CHECK(peer_at(keyring, *IpAddress::parse("2001:db8::1")) == nullptr);
}

TEST_CASE("IKE-58: descriptions of peers: by address or name, each once, any text; a change is one of that alone") {
  const auto with = [](json list) { return ike_with("/ikev2/peer_descriptions", std::move(list)); };
  const auto one = [](const char* peer, json text) { return json{{"peer", peer}, {"description", std::move(text)}}; };
  const Document plain = loaded(ike());
  CHECK(plain.ikev2.peer_descriptions.empty());
  const Document described =
      loaded(with({one("192.0.2.2", "Head office, 2nd floor"), one("2001:DB8:0::2", "six"), one("gw.example", "n")}));
  REQUIRE(described.ikev2.peer_descriptions.size() == 3);
  CHECK(described.ikev2.peer_descriptions[0] == PeerDescription{"192.0.2.2", "Head office, 2nd floor"});
  CHECK(described.ikev2.peer_descriptions[1].peer == "2001:db8::2");
  CHECK(loaded(with(render(described)["ikev2"]["peer_descriptions"])).ikev2.peer_descriptions ==
        described.ikev2.peer_descriptions);
  // Set, changed, cleared: nothing else is said to change.
  const auto changes = diff(plain, described);
  REQUIRE(changes.size() == 3);
  CHECK(changes[0].text() == "added ikev2/peer_descriptions 192.0.2.2");
  const auto gone = diff(described, plain);
  REQUIRE(gone.size() == 3);
  CHECK(gone[0].text() == "removed ikev2/peer_descriptions 192.0.2.2");
  CHECK(diff(plain, plain).empty());

  const std::string first = "/ikev2/peer_descriptions/0", second = "/ikev2/peer_descriptions/1";
  check_refused(with({one("no name", "x")}), first + "/peer", "");
  for (const char* const evil : {"x\x1b[2J", "x\ny"})
    check_refused(with({one("192.0.2.2", evil)}), first + "/description", "control characters");
  check_refused(with({one("192.0.2.2", "")}), first + "/description", "");
  check_refused(with({one("192.0.2.2", 7)}), first + "/description", "");
  check_refused(with({one("192.0.2.2", std::string(256, 'x'))}), first + "/description", "");
  check_refused(with({{{"peer", "192.0.2.2"}}}), first + "/description", "missing");
  check_refused(with({one("2001:db8::2", "x"), one("2001:db8:0:0::2", "y")}), second + "/peer", "given twice");
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
  check_refused(ike_without(peer, "pre_shared_key"), peer, "neither pre_shared_key nor ppk");
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
