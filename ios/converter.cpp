#include "ios/converter.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cctype>
#include <charconv>
#include <iterator>

#include <fmt/core.h>

#include "base/net_types.hpp"

namespace postern::ios {
namespace {

using nlohmann::json;

// Of no meaning for a Linux host, or the host's own business.
constexpr std::array ignored = {
    std::string_view("version <v...>"),
    std::string_view("service <v...>"),
    std::string_view("controller <v...>"),
    std::string_view("line <v...>"),
    std::string_view("duplex <v...>"),
    std::string_view("speed <v...>"),
    std::string_view("full-duplex"),
    std::string_view("half-duplex"),
    std::string_view("negotiation auto"),
    std::string_view("ip cef"),
    std::string_view("ip subnet-zero"),
    std::string_view("ip classless"),
    std::string_view("ip http <v...>"),
    std::string_view("ip route-cache <v...>"),
    std::string_view("ip mroute-cache"),
    std::string_view("no ip route-cache"),
    std::string_view("no ip mroute-cache"),
    std::string_view("no ip http <v...>"),
    std::string_view("no ip address"),
    std::string_view("no shutdown"),
    std::string_view("voice <v...>"),
    std::string_view("mta <v...>"),
    std::string_view("switchport <v...>"),
    std::string_view("bandwidth <v...>"),
    std::string_view("description <v...>"),
    std::string_view("enable"),
    std::string_view("configure terminal"),
    std::string_view("boot-start-marker"),
    std::string_view("boot-end-marker"),
    std::string_view("remark <v...>"),
    std::string_view("building configuration..."),
    std::string_view("current configuration <v...>"),
    std::string_view("ip routing"),
    std::string_view("ipv6 unicast-routing"),
    std::string_view("ip domain <v...>"),
};

// What Linux does with other tools; left undone, the host behaves differently.
constexpr std::array elsewhere = {
    std::pair{std::string_view("ip nat <v...>"), "nftables"},
    std::pair{std::string_view("ip inspect <v...>"), "nftables"},
    std::pair{std::string_view("ip access-group <v...>"), "nftables"},
    std::pair{std::string_view("service-policy <v...>"), "tc"},
    std::pair{std::string_view("ip route <v...>"), "ip route"},
    std::pair{std::string_view("ipv6 route <v...>"), "ip -6 route"},
};

// The words of a line that cannot be a key: none behind one that announces a key, and no more than four.
std::string shown(const Words& words) {
  static const std::set<std::string> announcing = {"key",    "password",      "secret",  "pre-shared-key",
                                                   "cipher", "authenticator", "inbound", "outbound"};
  std::string out;
  for (std::size_t i = 0; i < words.size() && i < 4; ++i) {
    out += (out.empty() ? "" : " ") + words[i];
    if (announcing.contains(lower(words[i]))) return out + " ...";
  }
  return words.size() > 4 ? out + " ..." : out;
}

void print(Converter& converter, const Words&) {
  converter.enter(Mode::output, nlohmann::json::json_pointer());
  converter.info("what a command printed is passed over");
}
void act(Converter& converter, const Words&) { converter.info("an action, not a part of the configuration"); }

constexpr std::array actions = {
    Command{"show <what...>", print},         Command{"clear <what...>", act},
    Command{"debug <what...>", act},          Command{"crypto pki authenticate <what>", act},
    Command{"crypto pki enroll <what>", act},
};

using Tables = std::array<std::span<const Command>, 2>;

Tables commands_of(Mode mode) {
  switch (mode) {
    case Mode::access_list: return {access_list_commands()};
    case Mode::transform_set: return {transform_set_commands()};
    case Mode::map_entry: return {map_entry_commands(), entry_or_profile_commands()};
    case Mode::proposal: return {proposal_commands()};
    case Mode::policy: return {policy_commands()};
    case Mode::keyring: return {keyring_commands()};
    case Mode::keyring_peer: return {keyring_peer_commands(), keyring_commands()};
    case Mode::ikev2_profile: return {ikev2_profile_commands()};
    case Mode::ipsec_profile: return {ipsec_profile_commands(), entry_or_profile_commands()};
    case Mode::interface: return {interface_commands()};
    case Mode::tunnel: return {interface_commands(), tunnel_commands()};
    case Mode::global:
    case Mode::skipped:
    case Mode::output: break;
  }
  return {};
}

std::string file_name(const std::string& purpose) {
  std::string out = purpose;
  std::ranges::replace_if(
      out, [](unsigned char c) { return std::isalnum(c) == 0 && c != '-' && c != '_' && c != '.'; }, '_');
  return out.empty() || out.front() == '.' ? "_" + out : out;
}

// What a map entry or a profile needs before it can protect anything.
void name_incomplete_entries(json& document, std::vector<Note>& notes) {
  if (!document.contains("crypto_maps")) return;
  for (const json& map : document["crypto_maps"])
    for (const json& entry : map.value("entries", json::array())) {
      if (entry.contains("dynamic")) continue;
      std::string missing;
      const auto wants = [&](bool there, const char* what) {
        if (!there) missing += (missing.empty() ? "" : ", ") + std::string(what);
      };
      wants(entry.contains("match_address"), "match address");
      wants(entry.contains("peer") || entry.contains("peers"), "set peer");
      wants(entry.contains("transform_set") || entry.contains("transform_sets") || entry.contains("profile"),
            "set transform-set");
      if (!missing.empty())
        notes.push_back({0, Severity::error,
                         fmt::format("crypto map {} {} is incomplete: it lacks {}", map["name"].get<std::string>(),
                                     entry["sequence"].get<std::uint64_t>(), missing)});
    }
}

// IOS does not say behind which interfaces the hosts are: where no map and no tunnel is, they may be.
void mark_inside(json& document, std::vector<Note>& notes) {
  if (!document.contains("interfaces")) return;
  std::set<std::string> outer;
  if (document.contains("tunnels"))
    for (const json& tunnel : document["tunnels"]) outer.insert(tunnel.value("source", ""));
  if (document.contains("crypto_maps"))
    for (const json& map : document["crypto_maps"]) outer.insert(map.value("local_address", ""));
  for (json& interface : document["interfaces"]) {
    const auto name = interface["name"].get<std::string>();
    if (!interface.contains("addresses") || interface.contains("crypto_map") || interface.contains("ipv6_crypto_map") ||
        outer.contains(name))
      continue;
    interface["inside"] = true;
    notes.push_back({0, Severity::info, name + " is taken as an inside interface"});
  }
}

std::vector<Note> of_the_whole(json& document) {
  std::vector<Note> notes;
  name_incomplete_entries(document, notes);
  mark_inside(document, notes);
  return notes;
}

}  // namespace

std::optional<std::uint64_t> number(Converter& converter, std::string_view what, const std::string& word) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error == std::errc{} && end == word.data() + word.size()) return value;
  converter.error(fmt::format("{} is not a number", what));
  return std::nullopt;
}

std::optional<std::string> prefix(Converter& converter, const std::string& address, const std::string& mask) {
  const auto parsed = IpAddress::parse(mask);
  const std::uint32_t bits = parsed && parsed->family() == Family::v4 ? parsed->v4_host_order() : 1;
  if ((~bits & (~bits + 1)) == 0 && IpAddress::parse(address))
    return address + "/" + std::to_string(std::popcount(bits));
  converter.error(fmt::format("{} {} is not an address and its network mask", address, mask));
  return std::nullopt;
}

bool Converter::obey(std::span<const std::span<const Command>> tables, const Words& words) {
  const Command* meant = nullptr;
  std::size_t best = 0;
  Words taken;
  for (const auto table : tables)
    for (const Command& command : table) {
      auto got = match(command.pattern, words);
      const std::size_t full = literals_in_full(command.pattern, words);
      if (!got || (meant != nullptr && full <= best)) continue;
      meant = &command, best = full, taken = std::move(*got);
    }
  if (meant != nullptr) meant->apply(*this, taken);
  return meant != nullptr;
}

bool Converter::leave(const Words& words) {
  if (words.size() != 1) return false;
  const std::string word = lower(words[0]);
  if (word != "end" && word != "exit") return false;
  if (word == "exit" && mode_ == Mode::keyring_peer)
    enter(Mode::keyring, block_.parent_pointer().parent_pointer());
  else
    leave_block();
  return true;
}

// As IOS does it: a line is of the mode that one is in, else of those around it.
void Converter::take(const Line& line) {
  line_ = line.number;
  if (line.words.empty()) return error("the line is too long to be a command");
  if (mode_ == Mode::output && !line.prompted) return;
  const std::array<std::span<const Command>, 5> around = {global_access_list_commands(), global_ipsec_commands(),
                                                          global_ikev2_commands(), global_interface_commands(),
                                                          actions};
  if (leave(line.words) || obey(commands_of(mode_), line.words) || obey(around, line.words)) return;
  if (std::ranges::any_of(ignored, [&](std::string_view pattern) { return match(pattern, line.words).has_value(); }))
    return info(fmt::format("'{}' is the host's business, or has no meaning here", shown(line.words)));
  for (const auto& [pattern, tool] : elsewhere)
    if (match(pattern, line.words))
      return warning(fmt::format("'{}' is not converted: do it with {}", shown(line.words), tool));
  // Below a block that is passed over, only its own lines are; where nothing is indented, who can tell.
  if (mode_ != Mode::skipped || (indentation_ && !line.indented && !line.prompted)) not_converted(line.words);
}

void Converter::not_converted(const Words& words) {
  if (lower(words[0]) == "no")
    warning(fmt::format("'{}' is not converted: the default holds", shown(words)));
  else
    error(fmt::format("'{}' is not converted", shown(words)));
}

void Converter::enter(Mode mode, json::json_pointer block) {
  mode_ = mode;
  block_ = std::move(block);
}

json::json_pointer Converter::named(const json::json_pointer& list, const std::string& name) {
  json& array = document_[list];
  if (array.is_null()) array = json::array();
  const auto found = std::ranges::find_if(array, [&](const json& one) { return one["name"] == name; });
  const auto index = static_cast<std::size_t>(found - array.begin());
  if (found == array.end()) array.push_back({{"name", name}});
  return list / index;
}

json Converter::key(const std::string& purpose, std::string value) {
  std::string file = file_name(purpose);
  for (int other = 2; !key_files_.insert(file).second; ++other) file = file_name(purpose) + "-" + std::to_string(other);
  keys_.push_back({file, std::move(value)});
  return {{"file", options_.key_directory + "/" + file}};
}

std::string Converter::device(std::string_view ios_name) {
  const std::string full = interface_name(ios_name);
  for (const auto& [name, device] : options_.interfaces)
    if (lower(interface_name(name)) == lower(full)) return device;
  if (devices_asked_.insert(full).second)
    error(fmt::format("which Linux device is {0}? Say --interface {0}=DEVICE", full));
  return full;
}

void Converter::note(Severity severity, std::string message) {
  if (notes_.size() < max_notes) notes_.push_back({line_, severity, std::move(message)});
}

Converted Converter::finish() {
  std::vector<Note> notes = of_the_whole(document_);
  if (notes_.size() >= max_notes)
    notes.push_back({0, Severity::error, "there is more to say than fits: this was not all"});
  notes.insert(notes.end(), std::make_move_iterator(notes_.begin()), std::make_move_iterator(notes_.end()));
  return {std::move(document_), std::move(notes), std::move(keys_)};
}

bool Converted::complete() const {
  return std::ranges::none_of(notes, [](const Note& one) { return one.severity == Severity::error; });
}

Converted convert(std::string_view text, const Options& options) {
  Converter converter(options);
  if (text.size() > max_text_bytes) {
    converter.error("the text is larger than 4 MB");
    return converter.finish();
  }
  const std::vector<Line> lines = read_lines(text);
  converter.indentation(std::ranges::any_of(lines, &Line::indented));
  for (const Line& line : lines) converter.take(line);
  return converter.finish();
}

}  // namespace postern::ios
