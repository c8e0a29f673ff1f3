// A policy through its two files and back, equal; and every way to be wrong an error.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "ike/policy_link.hpp"

namespace postern::ike {
namespace {

using nlohmann::json;

Secret secret(std::string_view text) { return Secret::copy_of(std::as_bytes(std::span(text))); }

IkeProposal proposal(const char* name) {
  return {name,
          {{crypto::Cipher::aes_gcm_16, 256}, {crypto::Cipher::aes_cbc, 128}},
          {crypto::Integrity::hmac_sha512_256},
          {crypto::Prf::hmac_sha512, crypto::Prf::hmac_sha1},
          {crypto::DhGroup::ecp256, crypto::DhGroup::curve25519}};
}

// Every field away from its default, so that one that is left out shows.
Connection connection(const std::string& name, std::string_view key) {
  ChildPolicy child;
  child.name = name + " 1";
  child.interface = "out0";
  child.map = "M1";
  child.sequence = 10;
  child.initiate = Initiate::always;
  child.local = {{6, 80, 90, *IpAddress::parse("10.1.0.0"), *IpAddress::parse("10.1.255.255")}};
  child.remote = {{6, 0, 65535, *IpAddress::parse("10.2.0.0"), *IpAddress::parse("10.2.0.255")},
                  {0, 0, 65535, *IpAddress::parse("2001:db8::"), *IpAddress::parse("2001:db8::ffff")}};
  child.proposals = {{{crypto::Cipher::aes_cbc, 192, crypto::Integrity::hmac_sha1_96}, true},
                     {{crypto::Cipher::none, 0, crypto::Integrity::aes_cmac_96}, false, ProtocolId::ah}};
  child.pfs = {crypto::DhGroup::modp4096};
  child.transport = true;
  child.compression = true;
  child.lifetime_s = 120;
  child.lifetime_bytes = 1ULL << 40;
  child.lifetime_packets = 1ULL << 33;
  child.idle_s = 60;
  child.dynamic = true;
  child.peers = {*IpAddress::parse("192.0.2.9")};
  child.denied_local = child.local;
  child.denied_remote = {child.remote.front()};
  child.per_host = true;
  child.limit = 12;
  child.base = "M1 10 out0";
  child.rank = 2;
  child.default_first = true;
  child.place = {7,
                 6,
                 DeliverTo::map_interface,
                 3,
                 100,
                 1400,
                 128,
                 900,
                 15'000'000,
                 64,
                 DfPolicy::clear,
                 EcnPolicy::discard,
                 FragmentPolicy::after,
                 false,
                 46,
                 1300,
                 900};
  Connection out;
  out.name = name;
  out.fvrf = 200;
  out.local = *IpAddress::parse("192.0.2.1");
  out.remote = *IpAddress::parse("192.0.2.2");
  out.policy_name = "PO";
  out.profile_name = "PR";
  out.keyring_name = "KR";
  out.proposals = {proposal("A")};
  out.local_identity = Identity::of(IdType::key_id, std::string_view("\0\xff", 2));
  out.remote_identities = {AnyIdentity{}, *Prefix::parse("192.0.2.0/24"), Identity::of(IdType::fqdn, "b.example")};
  out.local_key = secret(key);
  out.remote_key = secret("the other one");
  out.lifetime_s = 900;
  out.dpd = {DpdMode::periodic, 10, 6};
  out.nat_keepalive_s = 5;
  out.force_encapsulation = true;
  out.configuration = {{*Prefix::parse("10.77.0.0/24")}, {*IpAddress::parse("10.0.0.53")}, {}, "hello", true};
  out.children = {child};
  out.children[0].ask = {*Prefix::parse("10.78.0.0/16")};
  if (key == "second key")
    out.peer_keys = {{*Prefix::parse("0.0.0.0/0"),
                      secret("of any peer"),
                      secret("any peer's own"),
                      {"any", secret("any ppk"), true}}};
  if (key == "first key")
    out.identity_keys = {{*Prefix::parse("192.0.2.2/32"), secret("bob's"), secret("bob's own"), {}, out.local_identity},
                         {*Prefix::parse("192.0.2.2/32"), secret("of the rest"), secret("of the rest"), {}}};
  out.ppk = {"a ppk's id", secret("a ppk that nobody guesses"), true};
  out.childless = Childless::prefer;
  out.redirect = {true, 3, 600, 30, RedirectWhen::auth, "gw2.example", 500};
  out.template_name = "192.0.2.1 any PR";
  return out;
}

Policy policy() {
  Policy out;
  out.generation = 1ULL << 50;
  out.connections = {std::make_shared<Connection>(connection("M1 10 out0", "first key")),
                     std::make_shared<Connection>(connection("M1 20 out0", "second key"))};
  out.manual_spis = {4097, 0xffffffff};
  out.node_key = secret("the key of this node");
  out.proposals = {proposal("A"), proposal("default")};
  out.policies = {{"PO", "192.0.2.1", "blue", {"A"}}};
  out.profiles = {{"PR", "KR", "192.0.2.1", "pre-share", "pre-share", {"any"}, 900, {DpdMode::on_demand, 10, 3}}};
  return out;
}

void check_equal(const Policy& a, const Policy& b) {
  CHECK(a.generation == b.generation);
  REQUIRE(a.connections.size() == b.connections.size());
  for (std::size_t i = 0; i < a.connections.size(); ++i) CHECK((*a.connections[i] == *b.connections[i]));
  CHECK(a.manual_spis == b.manual_spis);
  CHECK(a.node_key == b.node_key);
  CHECK((a.proposals == b.proposals));
  CHECK((a.policies == b.policies));
  CHECK((a.profiles == b.profiles));
}

std::string content(const Fd& file) {
  struct stat status{};
  REQUIRE(::fstat(file.get(), &status) == 0);
  std::string out(static_cast<std::size_t>(status.st_size), '\0');
  REQUIRE(::pread(file.get(), out.data(), out.size(), 0) == status.st_size);
  return out;
}

// The JSON of a good policy with `value` at `pointer`; the keys as they are.
Result<Policy> altered(const std::string& pointer, json value) {
  std::vector<Secret> keys;
  json document = policy_to_json(policy(), keys);
  document.at(json::json_pointer(pointer)) = std::move(value);
  std::string bytes;
  for (const Secret& key : keys) bytes.append(reinterpret_cast<const char*>(key.bytes().data()), key.size());
  return policy_from_json(document, std::as_bytes(std::span(bytes)));
}

}  // namespace

TEST_CASE("policy link: what goes in comes out") {
  const auto files = encode_policy(policy());
  REQUIRE(files);
  const auto decoded = decode_policy(*files);
  if (!decoded) FAIL(decoded.error().message());
  check_equal(*decoded, policy());
  const auto empty = encode_policy({});
  REQUIRE(empty);
  CHECK(decode_policy(*empty)->connections.empty());
}

TEST_CASE("policy link: keys are in the file of keys alone, and gone from it when it was read") {
  const auto files = encode_policy(policy());
  REQUIRE(files);
  for (const char* const key :
       {"first key", "the other one", "second key", "a ppk that nobody guesses", "any ppk", "the key of this node"}) {
    CAPTURE(key);
    CHECK(content(files->document).find(key) == std::string::npos);
    CHECK(content(files->secrets).find(key) != std::string::npos);
  }
  REQUIRE(decode_policy(*files));
  CHECK(content(files->secrets).find_first_not_of('\0') == std::string::npos);
  // Also when the document is of no use.
  const auto other = encode_policy(policy());
  const auto wrong = encode_policy({});
  REQUIRE(other);
  PolicyFiles mixed{Fd(::memfd_create("x", MFD_CLOEXEC)), Fd(::dup(other->secrets.get()))};
  CHECK(!decode_policy(mixed));
  CHECK(content(other->secrets).find_first_not_of('\0') == std::string::npos);
  const auto third = encode_policy(policy());
  REQUIRE(wipe_secrets(third->secrets));
  CHECK(content(third->secrets).find_first_not_of('\0') == std::string::npos);
}

TEST_CASE("policy link: files cannot be cut while they are read") {
  const auto files = encode_policy(policy());
  REQUIRE(files);
  for (const Fd* const file : {&files->document, &files->secrets}) {
    CHECK(::ftruncate(file->get(), 1) != 0);
    CHECK((::fcntl(file->get(), F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_SEAL)) == (F_SEAL_SHRINK | F_SEAL_SEAL));
  }
  CHECK(::pwrite(files->document.get(), "x", 1, 0) < 0);
  // A file that could shrink is refused.
  Fd loose(::memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(::ftruncate(loose.get(), 100) == 0);
  CHECK(!decode_policy({Fd(::dup(loose.get())), Fd(::dup(files->secrets.get()))}));
  CHECK(!wipe_secrets(loose));
}

TEST_CASE("policy link: what is out of bounds is an error") {
  REQUIRE(altered("/generation", 5));
  struct Row {
    const char* pointer;
    json value;
  };
  const Row rows[] = {{"/generation", -1},
                      {"/generation", "5"},
                      {"/connections", json::object()},
                      {"/connections/0", nullptr},
                      {"/connections/1/name", "M1 10 out0"},
                      {"/connections/0/name", ""},
                      {"/connections/0/name", std::string(5000, 'x')},
                      {"/connections/0/local", "192.0.2"},
                      {"/connections/0/local", "2001:db8::1"},
                      {"/connections/0/children/0/initiate", 2},
                      {"/connections/0/children/0/denied_remote", json::array()},
                      {"/connections/1/peer_keys/0/remote", "192.0.2"},
                      {"/connections/0/proposals", json::array()},
                      {"/connections/0/proposals/0/groups/0", 6},
                      {"/connections/0/proposals/0/groups/0", 0},
                      {"/connections/0/proposals/0/prf/0", 3},
                      {"/connections/0/proposals/0/integrity/0", 9},
                      {"/connections/0/proposals/0/encryption/0/cipher", 0},
                      {"/connections/0/local_identity/type", 4},
                      {"/connections/0/local_identity/data/0", 256},
                      {"/connections/0/remote_identities", json::array()},
                      {"/connections/0/remote_identities/1", "192.0.2.0/33"},
                      {"/connections/0/local_key/size", 0},
                      {"/connections/0/local_key/size", 513},
                      {"/connections/0/local_key/offset", 4000},
                      {"/connections/1/remote_key/offset", 1U << 31},
                      {"/connections/0/remote_key", "text"},
                      {"/connections/0/dpd/mode", 3},
                      {"/connections/0/force_encapsulation", 1},
                      {"/connections/0/options/fragment_mtu", 65536},
                      {"/connections/0/options/mobike", 1},
                      {"/connections/0/children", json::array()},
                      {"/connections/0/children/0/proposals", json::array()},
                      {"/connections/0/children/0/local", json::array()},
                      {"/connections/0/children/0/local/0/last", "2001:db8::"},
                      {"/connections/0/children/0/local/0/last_port", 65536},
                      {"/connections/0/children/0/place/deliver", 2},
                      {"/connections/0/children/0/place/df", 3},
                      {"/connections/0/children/0/place/ecn", 2},
                      {"/manual_spis/0", 1ULL << 32}};
  for (const Row& row : rows) {
    CAPTURE(row.pointer);
    CAPTURE(row.value.dump());
    CHECK(!altered(row.pointer, row.value));
  }
  std::vector<Secret> keys;
  json document = policy_to_json(policy(), keys);
  document["connections"][0].erase("fvrf");
  const auto missing = policy_from_json(document, {});
  REQUIRE(!missing);
  CHECK(missing.error().message().find("fvrf is missing") != std::string::npos);
}

}  // namespace postern::ike
