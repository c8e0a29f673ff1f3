// IKE-36: where the keyring knows peers by what they call themselves, each proves itself by its own key.
#include "tests/ike/signed_lab.hpp"

namespace postern::ike {
namespace {

using lab::End;
using lab::Lab;
using lab::secret;

Identity fqdn(std::string_view name) { return Identity::of(IdType::fqdn, name); }
Identity key_id(std::string_view bytes) { return Identity::of(IdType::key_id, bytes); }

PeerKey key_of(IdentityMatch identity, std::string_view key, Ppk ppk = {}) {
  return {Prefix::host(lab::address("192.0.2.1")), secret(key), secret(key), std::move(ppk), std::move(identity)};
}

// `end` answers whoever comes, by its keyring.
void give_keyring(End& end, std::vector<PeerKey> keys) {
  Lab::edit(end, [&](Connection& c) {
    c.remote_identities = {AnyIdentity{}};
    c.local_key = keys.front().local_key;
    c.remote_key = keys.front().remote_key;
    c.ppk = keys.front().ppk;
    c.identity_keys = std::move(keys);
  });
}
void call(End& end, const Identity& identity, std::string_view key) {
  Lab::edit(end, [&](Connection& c) {
    c.local_identity = identity;
    c.local_key = c.remote_key = secret(key);
  });
}

struct Row {
  const char* name;
  Identity identity;
  const char* key;
  const char* refused;  // of the diagnosis; nullptr: it is up
};
const Row rows[] = {
    {"the first by its key", fqdn("alice.example"), "key of alice", nullptr},
    {"names compare without regard to case", fqdn("ALICE.example"), "key of alice", nullptr},
    {"the second by its key", fqdn("bob.example"), "key of bob", nullptr},
    {"key ids are bytes", key_id("bob.example"), "key of the key id", nullptr},
    {"the second by the first one's key", fqdn("bob.example"), "key of alice", "bob.example does not verify"},
    {"the first by the second one's key", fqdn("alice.example"), "key of bob", "alice.example does not verify"},
    {"a key id by the name's key", key_id("bob.example"), "key of bob", "does not verify"},
    {"other bytes of a key id", key_id("BOB.example"), "key of the key id", "no key for key-id"},
    {"nobody the keyring knows", fqdn("carol.example"), "key of alice", "no key for carol.example"},
    {"another kind of identity", Identity::of(IdType::email, "alice.example"), "key of alice", "no key for"},
};

std::vector<PeerKey> keyring() {
  return {key_of(fqdn("alice.example"), "key of alice"), key_of(fqdn("bob.example"), "key of bob"),
          key_of(key_id("bob.example"), "key of the key id")};
}

void check_row(const Row& row, bool keyring_begins) {
  CAPTURE(std::string(row.name));
  CAPTURE(keyring_begins);
  Lab lab;
  lab.traffic = false;
  End &knows = keyring_begins ? lab.a : lab.b, &comes = keyring_begins ? lab.b : lab.a;
  give_keyring(knows, keyring());
  call(comes, row.identity, row.key);
  lab.start(0);
  lab.settle();
  const bool up = row.refused == nullptr;
  CHECK(lab.a.live().size() == (up ? 1 : 0));
  CHECK(lab.b.live().size() == (up ? 1 : 0));
  if (up) return;
  REQUIRE(!knows.failures.empty());
  CHECK(knows.failures.front().kind == FailureKind::wrong_key);
  CHECK(knows.failures.front().summary.find(row.refused) != std::string::npos);
  CHECK(!knows.failures.front().remedy.empty());
}

}  // namespace

TEST_CASE("IKE-36: a responder takes the key of who the peer says it is, and no other") {
  for (const Row& row : rows) check_row(row, false);
}

TEST_CASE("IKE-36: a responder proves itself by the key of that peer too") {
  Lab lab;
  auto keys = keyring();
  keys[1].local_key = secret("what bob knows us by");
  give_keyring(lab.b, keys);
  call(lab.a, fqdn("bob.example"), "key of bob");
  Lab::edit(lab.a, [](Connection& c) { c.remote_key = secret("what bob knows us by"); });
  lab.start(0);
  lab.settle();
  CHECK(lab.a.live().size() == 1);

  Lab other;
  other.traffic = false;
  give_keyring(other.b, keys);
  call(other.a, fqdn("bob.example"), "key of bob");
  other.start(0);
  other.settle();
  CHECK(other.a.live().empty());
  REQUIRE(!other.a.failures.empty());
  CHECK(other.a.failures.front().kind == FailureKind::wrong_key);
}

TEST_CASE("IKE-36: an initiator proves itself by the first key, and checks the one of who answers") {
  Lab lab;
  give_keyring(lab.a, keyring());
  call(lab.b, fqdn("alice.example"), "key of alice");
  lab.start(0);
  lab.settle();
  CHECK(lab.a.live().size() == 1);

  for (const auto& [identity, key, words] :
       {std::tuple{fqdn("bob.example"), "key of alice", "bob.example does not verify"},
        std::tuple{fqdn("carol.example"), "key of alice", "no key for carol.example"}}) {
    Lab other;
    other.traffic = false;
    give_keyring(other.a, keyring());
    call(other.b, identity, key);
    other.start(0);
    other.settle();
    CHECK(other.a.live().empty());
    REQUIRE(!other.a.failures.empty());
    CHECK(other.a.failures.front().summary.find(words) != std::string::npos);
  }
}

TEST_CASE("IKE-36: who is not in the keyring has the profile's own key, where it has one") {
  for (const bool own : {true, false}) {
    Lab lab;
    lab.traffic = false;
    auto keys = keyring();
    if (own) keys.push_back(key_of(AnyIdentity{}, "key of everybody"));
    give_keyring(lab.b, keys);
    call(lab.a, fqdn("carol.example"), "key of everybody");
    lab.start(0);
    lab.settle();
    CHECK(lab.a.live().size() == (own ? 1 : 0));
  }
}

TEST_CASE("IKE-36: who proves itself by a certificate gets the proof by its own key, or none") {
  for (const bool known : {true, false}) {
    CAPTURE(known);
    lab::SignedLab lab;
    const Identity caller = Identity::of(lab.a.own);
    Lab::edit(lab.b, [&](Connection& c) {
      c.local_auth = AuthKind::psk;
      c.remote_identities = {AnyIdentity{}};
      c.identity_keys = {key_of(fqdn("alice.example"), "key of alice")};
      if (known) c.identity_keys.push_back(key_of(caller, "key of the caller"));
      c.local_key = c.remote_key = secret("key of alice");
    });
    Lab::edit(lab.a, [&](Connection& c) {
      c.remote_auth = AuthKind::psk;
      c.remote_key = secret(known ? "key of the caller" : "key of alice");
    });
    lab.start(0);
    lab.settle_all();
    CHECK(lab.a.count(SessionPhase::established) == (known ? 1 : 0));
    CHECK(lab.b.count(SessionPhase::established) == (known ? 1 : 0));
    if (known) continue;
    REQUIRE_FALSE(lab.b.failures.empty());
    CHECK(lab.b.failures[0].kind == FailureKind::credential);
    CHECK(lab.b.failures[0].summary.find("no key for " + caller.text()) != std::string::npos);
  }
}

TEST_CASE("IKE-36, RFC 8784: the PPK is of who the peer says it is") {
  const Ppk of_alice{"one", secret("ppk of alice"), true}, of_bob{"two", secret("ppk of bob"), true};
  for (const auto& [ppk, up] : {std::pair{of_bob, true}, std::pair{of_alice, false}}) {
    Lab lab;
    lab.traffic = false;
    give_keyring(lab.b, {key_of(fqdn("alice.example"), "key of alice", of_alice),
                         key_of(fqdn("bob.example"), "key of bob", of_bob)});
    call(lab.a, fqdn("bob.example"), "key of bob");
    Lab::edit(lab.a, [&](Connection& c) { c.ppk = ppk; });
    lab.start(0);
    lab.settle();
    CHECK(lab.a.live().size() == (up ? 1 : 0));
  }
}

TEST_CASE("IKE-36, DM-13: a template hands the keys by identity on where no address decides") {
  Connection from = lab::connection("192.0.2.1", "192.0.2.2");
  from.remote = lab::address("0.0.0.0");
  from.children = {lab::child_policy("one", 1, "10.1.0.0/16", "10.2.0.0/16")};
  from.children[0].dynamic = true;
  const Prefix any = *Prefix::parse("0.0.0.0/0");
  from.peer_keys = {{*Prefix::parse("192.0.2.9/32"), secret("of nine"), secret("of nine"), {}},
                    {any, secret("of alice"), secret("of alice"), {}, fqdn("alice.example")},
                    {any, secret("of bob"), secret("of bob"), {}, fqdn("bob.example")}};
  Policy policy;
  policy.connections = {std::make_shared<const Connection>(from)};
  const auto at = [&](const char* remote) {
    return connections_between(policy, 0, lab::address("192.0.2.1"), lab::address(remote)).front();
  };
  CHECK(at("192.0.2.9")->identity_keys.empty());
  CHECK(keys_with(*at("192.0.2.9"), fqdn("alice.example"))->remote == secret("of nine"));
  CHECK(at("192.0.2.8")->identity_keys.size() == 2);
  CHECK(keys_with(*at("192.0.2.8"), fqdn("bob.example"))->remote == secret("of bob"));
  CHECK(!keys_with(*at("192.0.2.8"), fqdn("carol.example")));
  CHECK(*connection_now(policy, *at("192.0.2.8")) == *at("192.0.2.8"));
}

}  // namespace postern::ike
