// crypto ikev2 ... (IKE-23 to IKE-43). IKEv1's `crypto isakmp` is named as what it is.
#include <array>

#include <fmt/core.h>

#include "ios/converter.hpp"

namespace postern::ios {
namespace {

using nlohmann::json;
using Pointer = json::json_pointer;

constexpr char fqdn[] = "fqdn", email[] = "email", address[] = "address", key_id[] = "key_id",
               encryption[] = "encryption", integrity[] = "integrity", prf[] = "prf", local[] = "local",
               remote[] = "remote", on_demand[] = "on-demand", periodic[] = "periodic";

// --- proposal and policy

void proposal(Converter& converter, const Words& taken) {
  converter.enter(Mode::proposal, converter.named(Pointer("/ikev2/proposals"), taken[0]));
}

template <const char* Kind>
void algorithms(Converter& converter, const Words& taken) {
  json names = json::array();
  for (const std::string& word : taken) names.push_back(lower(word) == "aes-cbc-196" ? "aes-cbc-192" : lower(word));
  if (std::ranges::any_of(taken, [](const std::string& word) { return lower(word) == "aes-cbc-196"; }))
    converter.warning("'aes-cbc-196' is taken as 'aes-cbc-192'");
  converter.here()[Kind] = std::move(names);
}

void groups(Converter& converter, const Words& taken) {
  json numbers = json::array();
  for (const std::string& word : taken)
    if (const auto group = number(converter, "the group", word)) numbers.push_back(*group);
  converter.here()["group"] = std::move(numbers);
}

void policy(Converter& converter, const Words& taken) {
  converter.enter(Mode::policy, converter.named(Pointer("/ikev2/policies"), taken[0]));
}
void policy_proposal(Converter& converter, const Words& taken) { converter.here()["proposals"].push_back(taken[0]); }
void match_local(Converter& converter, const Words& taken) { converter.here()["match"]["address_local"] = taken[0]; }
void match_fvrf(Converter& converter, const Words& taken) { converter.here()["match"]["fvrf"] = taken[0]; }

// --- keyring

void keyring(Converter& converter, const Words& taken) {
  converter.enter(Mode::keyring, converter.named(Pointer("/ikev2/keyrings"), taken[0]));
}

void ring_peer(Converter& converter, const Words& taken) {
  const Pointer at = converter.block();
  const Pointer ring = at.to_string().find("/peers/") == std::string::npos ? at : at.parent_pointer().parent_pointer();
  converter.enter(Mode::keyring_peer, converter.named(ring / "peers", taken[0]));
}

void peer_address(Converter& converter, const Words& taken) { converter.here()["address"] = taken[0]; }
void peer_network(Converter& converter, const Words& taken) {
  if (const auto network = prefix(converter, taken[0], taken[1])) converter.here()["address"] = *network;
}
template <const char* Kind>
void peer_identity(Converter& converter, const Words& taken) {
  converter.here()["identity"] = {{Kind, taken[0]}};
}

// "0 KEY" is the key as it stands; 6 and 7 are encrypted by the router.
std::optional<std::string> key_text(Converter& converter, const Words& words) {
  if (words.size() == 1) return words[0];
  if (words.size() == 2 && words[0] == "0") return words[1];
  converter.error("a key that the router has encrypted cannot be read: write the key itself");
  return std::nullopt;
}

std::string owner(Converter& converter) {
  const Pointer ring = converter.block().parent_pointer().parent_pointer();
  return converter.at(ring)["name"].get<std::string>() + "-" + converter.here()["name"].get<std::string>();
}

void shared_key(Converter& converter, const Words& taken) {
  if (const auto text = key_text(converter, taken))
    converter.here()["pre_shared_key"] = converter.key(owner(converter), *text);
}
template <const char* Side>
void key_of_side(Converter& converter, const Words& taken) {
  if (const auto text = key_text(converter, taken))
    converter.here()["pre_shared_key"][Side] = converter.key(owner(converter) + "-" + Side, *text);
}

// --- profile

void profile(Converter& converter, const Words& taken) {
  converter.enter(Mode::ikev2_profile, converter.named(Pointer("/ikev2/profiles"), taken[0]));
}

json& identities(Converter& converter) { return converter.here()["match"]["identity_remote"]; }
template <const char* Kind>
void match_identity(Converter& converter, const Words& taken) {
  identities(converter).push_back({{Kind, taken[0]}});
}
void match_domain(Converter& converter, const Words& taken) {
  identities(converter).push_back({{"fqdn", "*." + taken[0]}});
}
void match_network(Converter& converter, const Words& taken) {
  if (const auto network = prefix(converter, taken[0], taken[1]))
    identities(converter).push_back({{"address", *network}});
}
void match_any(Converter& converter, const Words&) { identities(converter).push_back("any"); }

template <const char* Kind>
void identity_local(Converter& converter, const Words& taken) {
  converter.here()["identity_local"] = {{Kind, taken[0]}};
}

template <const char* Side>
void pre_share(Converter& converter, const Words&) {
  converter.here()["authentication"][Side]["method"] = "pre-share";
}
template <const char* Side>
void pre_share_key(Converter& converter, const Words& taken) {
  json& side = converter.here()["authentication"][Side];
  side["method"] = "pre-share";
  if (const auto text = key_text(converter, taken))
    side["key"] = converter.key(converter.here()["name"].get<std::string>() + "-" + Side, *text);
}

void profile_keyring(Converter& converter, const Words& taken) { converter.here()["keyring"] = taken[0]; }
void profile_lifetime(Converter& converter, const Words& taken) {
  if (const auto seconds = number(converter, "the lifetime", taken[0])) converter.here()["lifetime"] = *seconds;
}
void force_encap(Converter& converter, const Words&) { converter.here()["nat_force_encap"] = true; }

template <const char* Mode>
json liveness(Converter& converter, const Words& taken) {
  json out = {{"mode", Mode}};
  if (const auto interval = number(converter, "the interval", taken[0])) out["interval"] = *interval;
  if (const auto retry = number(converter, "the retry", taken[1])) out["retry"] = *retry;
  return out;
}
template <const char* Mode>
void profile_dpd(Converter& converter, const Words& taken) {
  converter.here()["dpd"] = liveness<Mode>(converter, taken);
}
template <const char* How>
void global_dpd(Converter& converter, const Words& taken) {
  converter.leave_block();
  converter.at(Pointer("/ikev2/dpd")) = liveness<How>(converter, taken);
}
void nat_keepalive(Converter& converter, const Words& taken) {
  converter.leave_block();
  if (const auto seconds = number(converter, "the keepalive", taken[0]))
    converter.at(Pointer("/ikev2/nat_keepalive")) = *seconds;
}

void ikev1(Converter& converter, const Words&) {
  converter.error(
      "IKEv1 is not spoken: write the proposal, keyring and profile as 'crypto ikev2' and let the peer do so too");
  converter.skip_block();
}

constexpr std::array of_proposal = {
    Command{"encryption <names...>", algorithms<encryption>},
    Command{"integrity <names...>", algorithms<integrity>},
    Command{"prf <names...>", algorithms<prf>},
    Command{"group <numbers...>", groups},
};
constexpr std::array of_policy = {
    Command{"proposal <name>", policy_proposal},
    Command{"match address local <address>", match_local},
    Command{"match fvrf <name>", match_fvrf},
};
constexpr std::array of_keyring = {Command{"peer <name>", ring_peer}};
constexpr std::array of_peer = {
    Command{"address <address>", peer_address},
    Command{"address <address> <mask>", peer_network},
    Command{"identity address <address>", peer_identity<address>},
    Command{"identity fqdn <name>", peer_identity<fqdn>},
    Command{"identity email <name>", peer_identity<email>},
    Command{"identity key-id <id>", peer_identity<key_id>},
    Command{"pre-shared-key <key...>", shared_key},
    Command{"pre-shared-key local <key...>", key_of_side<local>},
    Command{"pre-shared-key remote <key...>", key_of_side<remote>},
};
constexpr std::array of_profile = {
    Command{"match identity remote address <address>", match_identity<address>},
    Command{"match identity remote address <address> <mask>", match_network},
    Command{"match identity remote fqdn <name>", match_identity<fqdn>},
    Command{"match identity remote fqdn domain <name>", match_domain},
    Command{"match identity remote email <name>", match_identity<email>},
    Command{"match identity remote key-id <id>", match_identity<key_id>},
    Command{"match identity remote any", match_any},
    Command{"match address local <address>", match_local},
    Command{"match fvrf <name>", match_fvrf},
    Command{"identity local address <address>", identity_local<address>},
    Command{"identity local fqdn <name>", identity_local<fqdn>},
    Command{"identity local email <name>", identity_local<email>},
    Command{"identity local key-id <id>", identity_local<key_id>},
    Command{"authentication local pre-share", pre_share<local>},
    Command{"authentication remote pre-share", pre_share<remote>},
    Command{"authentication local pre-share key <key...>", pre_share_key<local>},
    Command{"authentication remote pre-share key <key...>", pre_share_key<remote>},
    Command{"keyring local <name>", profile_keyring},
    Command{"keyring <name>", profile_keyring},
    Command{"lifetime <seconds>", profile_lifetime},
    Command{"dpd <interval> <retry> on-demand", profile_dpd<on_demand>},
    Command{"dpd <interval> <retry> periodic", profile_dpd<periodic>},
    Command{"nat force-encap", force_encap},
};
constexpr std::array everywhere_ikev2 = {
    Command{"crypto ikev2 proposal <name>", proposal},
    Command{"crypto ikev2 policy <name>", policy},
    Command{"crypto ikev2 keyring <name>", keyring},
    Command{"crypto ikev2 profile <name>", profile},
    Command{"crypto ikev2 dpd <interval> <retry> on-demand", global_dpd<on_demand>},
    Command{"crypto ikev2 dpd <interval> <retry> periodic", global_dpd<periodic>},
    Command{"crypto ikev2 nat keepalive <seconds>", nat_keepalive},
    Command{"crypto isakmp <what...>", ikev1},
    Command{"crypto isakamp <what...>", ikev1},
    Command{"crypto keyring <what...>", ikev1},
};

}  // namespace

std::span<const Command> proposal_commands() { return of_proposal; }
std::span<const Command> policy_commands() { return of_policy; }
std::span<const Command> keyring_commands() { return of_keyring; }
std::span<const Command> keyring_peer_commands() { return of_peer; }
std::span<const Command> ikev2_profile_commands() { return of_profile; }
std::span<const Command> global_ikev2_commands() { return everywhere_ikev2; }

}  // namespace postern::ios
