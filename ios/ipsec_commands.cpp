// crypto ipsec ..., crypto map, crypto ipsec profile (TS-13 to TS-36, CM-01 to CM-28, MAN-01 to MAN-14, R43-02 to
// R43-14).
#include <algorithm>
#include <array>

#include <fmt/core.h>

#include "ios/converter.hpp"

namespace postern::ios {
namespace {

using nlohmann::json;
using Pointer = json::json_pointer;

// --- what is said of all SAs, of an entry, and of a profile alike. In global mode the two halves lie apart.

json& association(Converter& converter) {
  return converter.block().empty() ? converter.at(Pointer("/ipsec/security_association"))
                                   : converter.here()["security_association"];
}
json& packets(Converter& converter) {
  return converter.block().empty() ? converter.at(Pointer("/ipsec/global")) : converter.here();
}

template <const char* Key>
void association_number(Converter& converter, const Words& taken) {
  if (const auto value = number(converter, Key, taken[0])) association(converter)[Key] = *value;
}
template <const char* Unit>
void dummies(Converter& converter, const Words& taken) {
  if (const auto value = number(converter, Unit, taken[0])) association(converter)["dummy"] = {{Unit, *value}};
}
void no_volume(Converter& converter, const Words&) { association(converter)["lifetime_kilobytes"] = "disable"; }

template <const char* Value>
void ecn(Converter& converter, const Words&) {
  packets(converter)["ecn"] = Value;
}
// The guide's examples spell it both ways.
void ecn_misspelled(Converter& converter, const Words&) {
  converter.warning("'propogate' is taken as 'propagate'");
  packets(converter)["ecn"] = "propagate";
}
void df_bit(Converter& converter, const Words& taken) { packets(converter)["df_bit"] = lower(taken[0]); }
void df_bit_left_out(Converter& converter, const Words&) {
  converter.warning("'set security-association copy' is taken as 'set security-association dfbit copy'");
  packets(converter)["df_bit"] = "copy";
}
template <const char* Value>
void fragmentation(Converter& converter, const Words&) {
  packets(converter)["fragmentation"] = Value;
}

// A global command ends the block before it.
template <void (*Apply)(Converter&, const Words&)>
void globally(Converter& converter, const Words& taken) {
  converter.leave_block();
  Apply(converter, taken);
}

// --- transform sets

void transform_set(Converter& converter, const Words& taken) {
  converter.enter(Mode::transform_set, converter.named(Pointer("/ipsec/transform_sets"), taken[0]));
  json transforms = json::array();
  for (std::size_t i = 1; i < taken.size(); ++i)
    if (const std::string word = lower(taken[i]);
        word.find_first_not_of("0123456789") == std::string::npos && !transforms.empty())
      transforms.back() = transforms.back().get<std::string>() + " " + word;  // the size of a key belongs to its cipher
    else
      transforms.push_back(word);
  converter.here()["transforms"] = std::move(transforms);
}

// --- crypto maps

constexpr char isakmp_entry[] = "ipsec-isakmp";
constexpr int most_host_pairs = 64;  // an SA pair each, and a rekey holds two: within the default dataplane.sa_capacity

// The entry of that number in the map of that name, made with `fresh` when there is none.
bool enter_entry(Converter& converter, const char* list, const Words& taken, json fresh) {
  const auto sequence = number(converter, "the sequence of the entry", taken[1]);
  if (!sequence) {
    converter.skip_block();
    return false;
  }
  const auto map = converter.named(Pointer(list), taken[0]);
  json& entries = converter.at(map / "entries");
  std::size_t index = 0;
  while (index < entries.size() && entries[index]["sequence"] != *sequence) ++index;
  if (index == entries.size()) {
    fresh["sequence"] = *sequence;
    entries.push_back(std::move(fresh));
  }
  converter.enter(Mode::map_entry, map / "entries" / index);
  return true;
}

bool enter_map_entry(Converter& converter, const Words& taken, const char* type, const char* family) {
  if (!enter_entry(converter, "/crypto_maps", taken, {{"type", type}})) return false;
  if (*family != '\0') converter.at(converter.block().parent_pointer().parent_pointer())["family"] = family;
  return true;
}

template <const char* Type, const char* Family>
void map_entry(Converter& converter, const Words& taken) {
  (void)enter_map_entry(converter, taken, Type, Family);
}

// An entry that `Key` names: a dynamic map that stands there (DM-03), a profile that it is made of (CM-25).
template <const char* Key, const char* Family>
void entry_of(Converter& converter, const Words& taken) {
  if (enter_map_entry(converter, taken, isakmp_entry, Family)) converter.here()[Key] = taken[2];
}

// IF-03.
void local_address(Converter& converter, const Words& taken) {
  std::string name;
  for (std::size_t i = 1; i < taken.size(); ++i) name += taken[i];  // "Loopback 0"
  converter.leave_block();
  converter.at(converter.named(Pointer("/crypto_maps"), taken[0]) / "local_address") =
      converter.device(interface_name(name));
}

void discover(Converter& converter, const Words&) {
  converter.error("a dynamic map does not look for its peers: 'discover' is not converted");
  converter.skip_block();
}

void dynamic_entry(Converter& converter, const Words& taken) {
  (void)enter_entry(converter, "/dynamic_maps", taken, json::object());
}

bool of_dynamic_map(const Converter& converter) { return converter.block().to_string().starts_with("/dynamic_maps/"); }

bool manual(Converter& converter) { return converter.here().value("type", "") == "ipsec-manual"; }

void match_address(Converter& converter, const Words& taken) { converter.here()["match_address"] = taken[0]; }

// CM-05: in order. A template has a list, though it be of one.
void add_peer(Converter& converter, const json& peer) {
  json& entry = converter.here();
  json peers = json::array();
  if (entry.contains("peer")) peers.push_back(entry["peer"]);
  if (entry.contains("peers")) peers = entry["peers"];
  if (std::ranges::find(peers, peer) == peers.end()) peers.push_back(peer);
  entry.erase("peer");
  entry.erase("peers");
  if (peers.size() == 1 && !of_dynamic_map(converter))
    entry["peer"] = peers[0];
  else
    entry["peers"] = std::move(peers);
}

// A template knows its peers by their addresses alone.
bool is_address(const std::string& word) {
  return word.find_first_not_of("0123456789.") == std::string::npos || word.contains(':');
}

void entry_peer(Converter& converter, const Words& taken) {
  if (of_dynamic_map(converter) && !is_address(taken[0])) return converter.error("a template's peers are addresses");
  add_peer(converter, taken[0]);
}

// CM-06.
json by_dynamic_name(const Words& taken) { return {{"name", taken[0]}, {"dynamic", true}}; }

void dynamic_peer(Converter& converter, const Words& taken) {
  if (of_dynamic_map(converter)) return converter.error("a template's peers are addresses");
  add_peer(converter, by_dynamic_name(taken));
}

// CM-07: the default peer is the first to be tried.
void make_default(Converter& converter, const json& peer) {
  add_peer(converter, peer);
  json& entry = converter.here();
  if (of_dynamic_map(converter)) return converter.error("a template has no default peer");
  if (entry.contains("peers")) {
    json& peers = entry["peers"];
    std::rotate(peers.begin(), std::ranges::find(peers, peer), peers.end());
  }
  entry["default_peer"] = true;
}

void default_peer(Converter& converter, const Words& taken) { make_default(converter, taken[0]); }
void default_dynamic_peer(Converter& converter, const Words& taken) { make_default(converter, by_dynamic_name(taken)); }

// CM-09, CM-10: IOS sets no limit, we want one.
void per_host(Converter& converter, const Words&) {
  converter.here()["per_host_limit"] = most_host_pairs;
  converter.warning(fmt::format("SAs per host: {} pairs for each rule at most", most_host_pairs));
}
void peer_misspelled(Converter& converter, const Words& taken) {
  converter.warning("'set-peer' is taken as 'set peer'");
  entry_peer(converter, taken);
}

void transform_sets(Converter& converter, const Words& taken) {
  json& entry = converter.here();
  if (!manual(converter))
    entry["transform_sets"] = taken;
  else if (taken.size() == 1)
    entry["transform_set"] = taken[0];
  else
    converter.error("an ipsec-manual entry has one transform set");
}

void bare_pfs(Converter& converter, const Words&) { converter.here()["pfs"] = true; }
void pfs(Converter& converter, const Words& taken) { converter.here()["pfs"] = lower(taken[0]); }
void ikev2_profile(Converter& converter, const Words& taken) { converter.here()["ikev2_profile"] = taken[0]; }

json& direction(Converter& converter, const char* which, const char* protocol, const std::string& spi) {
  json& made = converter.here()["session_key"][which][protocol];
  if (const auto value = number(converter, "the SPI", spi)) made["spi"] = *value;
  return made;
}

json key_of(Converter& converter, const char* which, const char* part, const std::string& value) {
  const json& map = converter.at(converter.block().parent_pointer().parent_pointer());
  return converter.key(fmt::format("{}-{}-{}-{}", map["name"].get<std::string>(),
                                   converter.here()["sequence"].get<std::uint64_t>(), which, part),
                       value);
}

template <const char* Which>
void esp_keys(Converter& converter, const Words& taken) {
  json& sa = direction(converter, Which, "esp", taken[0]);
  sa["cipher"] = key_of(converter, Which, "cipher", taken[1]);
  if (taken.size() > 2) sa["authenticator"] = key_of(converter, Which, "authenticator", taken[2]);
}
template <const char* Which>
void ah_key(Converter& converter, const Words& taken) {
  direction(converter, Which, "ah", taken[0])["key"] = key_of(converter, Which, "ah", taken[1]);
}

// --- profiles

void ipsec_profile(Converter& converter, const Words& taken) {
  converter.enter(Mode::ipsec_profile, converter.named(Pointer("/ipsec/profiles"), taken[0]));
}
void profile_sets(Converter& converter, const Words& taken) { converter.here()["transform_sets"] = taken; }

void not_yet(Converter& converter, const Words&) {
  converter.error("this block is not converted");
  converter.skip_block();
}

constexpr char lifetime_seconds[] = "lifetime_seconds", lifetime_kilobytes[] = "lifetime_kilobytes",
               idle_time[] = "idle_time", replay_window[] = "replay_window", pps[] = "pps", seconds[] = "seconds",
               propagate[] = "propagate", discard[] = "discard", before[] = "before-encryption",
               after[] = "after-encryption", manual_entry[] = "ipsec-manual", inbound[] = "inbound",
               outbound[] = "outbound", either[] = "", ipv6[] = "ipv6", dynamic_word[] = "dynamic",
               profile_word[] = "profile";

constexpr std::array of_transform_set = {
    Command{"mode tunnel", [](Converter& c, const Words&) { c.here()["mode"] = "tunnel"; }},
    Command{"mode transport", [](Converter& c, const Words&) { c.here()["mode"] = "transport"; }},
    Command{"mode transport require", [](Converter& c, const Words&) { c.here()["mode"] = "transport require"; }},
};

// What an entry and a profile both take.
constexpr std::array of_both = {
    Command{"set pfs", bare_pfs},
    Command{"set pfs <group>", pfs},
    Command{"set ikev2-profile <name>", ikev2_profile},
    Command{"set security-association lifetime seconds <n>", association_number<lifetime_seconds>},
    Command{"set security-association lifetime kilobytes <n>", association_number<lifetime_kilobytes>},
    Command{"set security-association lifetime kilobytes disable", no_volume},
    Command{"set security-association idle-time <n>", association_number<idle_time>},
    Command{"set security-association replay window-size <n>", association_number<replay_window>},
    Command{"set security-association dummy pps <n>", dummies<pps>},
    Command{"set security-association dummy seconds <n>", dummies<seconds>},
    Command{"set security-association ecn propagate", ecn<propagate>},
    Command{"set security-association ecn discard", ecn<discard>},
    Command{"set security-association ecn propogate", ecn_misspelled},
    Command{"set security-association dfbit <what>", df_bit},
    Command{"set ipsec security-association dfbit <what>", df_bit},
    Command{"set security-association copy", df_bit_left_out},
};
constexpr std::array of_map_entry = {
    Command{"match address <list>", match_address},
    Command{"set peer <address>", entry_peer},
    Command{"set peer <address> default", default_peer},
    Command{"set peer <name> dynamic", dynamic_peer},
    Command{"set peer <name> dynamic default", default_dynamic_peer},
    Command{"set-peer <address>", peer_misspelled},
    Command{"set security-association level per-host", per_host},
    Command{"set transform-set <names...>", transform_sets},
    Command{"set session-key inbound esp <spi> cipher <key>", esp_keys<inbound>},
    Command{"set session-key inbound esp <spi> cipher <key> authenticator <key>", esp_keys<inbound>},
    Command{"set session-key outbound esp <spi> cipher <key>", esp_keys<outbound>},
    Command{"set session-key outbound esp <spi> cipher <key> authenticator <key>", esp_keys<outbound>},
    Command{"set session-key inbound ah <spi> <key>", ah_key<inbound>},
    Command{"set session-key outbound ah <spi> <key>", ah_key<outbound>},
};
constexpr std::array of_ipsec_profile = {
    Command{"set transform-set <names...>", profile_sets},
};

constexpr std::array everywhere_ipsec = {
    Command{"crypto ipsec transform-set <name> <transforms...>", transform_set},
    Command{"crypto ipsec profile <name>", ipsec_profile},
    Command{"crypto map <name> local-address <interface...>", local_address},
    Command{"crypto map ipv6 <name> local-address <interface...>", local_address},
    Command{"crypto map <name> <sequence> ipsec-isakmp", map_entry<isakmp_entry, either>},
    Command{"crypto map <name> <sequence> ipsec-manual", map_entry<manual_entry, either>},
    Command{"crypto map ipv6 <name> <sequence> ipsec-isakmp", map_entry<isakmp_entry, ipv6>},
    Command{"crypto map ipv6 <name> <sequence> ipsec-manual", map_entry<manual_entry, ipv6>},
    Command{"crypto map <name> <sequence> ipsec-isakmp dynamic <map>", entry_of<dynamic_word, either>},
    Command{"crypto map ipv6 <name> <sequence> ipsec-isakmp dynamic <map>", entry_of<dynamic_word, ipv6>},
    Command{"crypto map <name> <sequence> ipsec-isakmp dynamic <map> discover", discover},
    Command{"crypto map <name> <sequence> ipsec-isakmp profile <profile>", entry_of<profile_word, either>},
    Command{"crypto map ipv6 <name> <sequence> ipsec-isakmp profile <profile>", entry_of<profile_word, ipv6>},
    Command{"crypto map <name> <sequence> ipsec-isakmp <more...>", not_yet},
    Command{"crypto dynamic-map <name> <sequence>", dynamic_entry},
    Command{"crypto ipsec security-association lifetime seconds <n>", globally<association_number<lifetime_seconds>>},
    Command{"crypto ipsec security-association lifetime kilobytes <n>",
            globally<association_number<lifetime_kilobytes>>},
    Command{"crypto ipsec security-association lifetime kilobytes disable", globally<no_volume>},
    Command{"crypto ipsec security-association idle-time <n>", globally<association_number<idle_time>>},
    Command{"crypto ipsec security-association replay window-size <n>", globally<association_number<replay_window>>},
    Command{"crypto ipsec security-association dummy pps <n>", globally<dummies<pps>>},
    Command{"crypto ipsec security-association dummy seconds <n>", globally<dummies<seconds>>},
    Command{"crypto ipsec security-association ecn propagate", globally<ecn<propagate>>},
    Command{"crypto ipsec security-association ecn discard", globally<ecn<discard>>},
    Command{"crypto ipsec security-association ecn propogate", globally<ecn_misspelled>},
    Command{"crypto ipsec security-association dfbit <what>", globally<df_bit>},
    Command{"crypto ipsec df-bit <what>", globally<df_bit>},
    Command{"crypto ipsec fragmentation before-encryption", globally<fragmentation<before>>},
    Command{"crypto ipsec fragmentation after-encryption", globally<fragmentation<after>>},
};

}  // namespace

std::span<const Command> transform_set_commands() { return of_transform_set; }
std::span<const Command> map_entry_commands() { return of_map_entry; }
std::span<const Command> entry_or_profile_commands() { return of_both; }
std::span<const Command> ipsec_profile_commands() { return of_ipsec_profile; }
std::span<const Command> global_ipsec_commands() { return everywhere_ipsec; }

}  // namespace postern::ios
