// access-list, ip access-list extended, ipv6 access-list (TS-01 to TS-06).
#include <algorithm>
#include <array>
#include <bit>
#include <cctype>

#include <fmt/core.h>

#include "base/net_types.hpp"
#include "ios/converter.hpp"

namespace postern::ios {
namespace {

using nlohmann::json;

struct NamedNumber {
  std::string_view name;
  std::uint16_t number;
};
constexpr std::array ports = {
    NamedNumber{"bgp", 179},    NamedNumber{"bootpc", 68},    NamedNumber{"bootps", 67},
    NamedNumber{"domain", 53},  NamedNumber{"ftp", 21},       NamedNumber{"ftp-data", 20},
    NamedNumber{"isakmp", 500}, NamedNumber{"ldap", 389},     NamedNumber{"non500-isakmp", 4500},
    NamedNumber{"ntp", 123},    NamedNumber{"pop3", 110},     NamedNumber{"smtp", 25},
    NamedNumber{"snmp", 161},   NamedNumber{"snmptrap", 162}, NamedNumber{"ssh", 22},
    NamedNumber{"syslog", 514}, NamedNumber{"tacacs", 49},    NamedNumber{"telnet", 23},
    NamedNumber{"tftp", 69},    NamedNumber{"www", 80}};
constexpr std::array protocols = {NamedNumber{"igmp", 2},   NamedNumber{"ipinip", 4}, NamedNumber{"nos", 4},
                                  NamedNumber{"eigrp", 88}, NamedNumber{"pim", 103},  NamedNumber{"pcp", 108}};

template <std::size_t N>
std::optional<std::uint16_t> number_of(const std::array<NamedNumber, N>& table, const std::string& name) {
  const auto found = std::ranges::find(table, std::string_view(name), &NamedNumber::name);
  return found == table.end() ? std::nullopt : std::optional(found->number);
}

bool digits(std::string_view word) {
  return !word.empty() && std::ranges::all_of(word, [](unsigned char c) { return std::isdigit(c) != 0; });
}

// The words of one rule, taken from the front.
struct Reader {
  const Words& words;
  std::size_t at = 0;
  [[nodiscard]] bool more() const { return at < words.size(); }
  [[nodiscard]] std::string peek() const { return more() ? lower(words[at]) : std::string(); }
  std::string next() { return more() ? words[at++] : std::string(); }
};

json number_or_name(const std::string& word) {
  return digits(word) && word.size() <= 3 ? json(std::stoi(word)) : json(word);
}

json protocol_of(const std::string& word) {
  if (const auto number = number_of(protocols, word)) return *number;
  return number_or_name(word);
}

// IOS clears the address's bits that the wildcard ignores; the document wants it done.
std::string with_wildcard(const std::string& address, const std::string& mask) {
  const auto base = IpAddress::parse(address), wildcard = IpAddress::parse(mask);
  if (!base || !wildcard || base->family() != Family::v4 || wildcard->family() != Family::v4)
    return address + " " + mask;
  return IpAddress::v4(base->v4_host_order() & ~wildcard->v4_host_order()).text() + " " + mask;
}

std::string endpoint(Reader& reader, bool v6) {
  const std::string first = reader.next();
  if (lower(first) == "any") return "any";
  if (lower(first) == "host") return "host " + reader.next();
  return v6 ? first : with_wildcard(first, reader.next());
}

std::string port_match(Converter& converter, Reader& reader) {
  static constexpr std::array<std::string_view, 5> forms = {"eq", "neq", "lt", "gt", "range"};
  if (std::ranges::find(forms, reader.peek()) == forms.end()) return {};
  std::string out = lower(reader.next());
  const std::size_t most = out == "range" ? 2 : out == "eq" ? 10 : 1;
  for (std::size_t i = 0; i < most && reader.more(); ++i) {
    const std::string word = reader.peek();
    const auto known = number_of(ports, word);
    if (!digits(word) && !known) {
      if (i == 0) converter.error(fmt::format("'{}' is no port that is known by that name: write its number", word));
      break;
    }
    out += " " + (known ? std::to_string(*known) : word);
    reader.next();
  }
  return out;
}

// "echo", "8 0": what stands behind the destination of a rule about ICMP and is no option.
void icmp_of(Reader& reader, json& rule) {
  static constexpr std::array<std::string_view, 9> options = {
      "log", "log-input", "fragments", "dscp", "precedence", "tos", "time-range", "established", "sequence"};
  if (rule["protocol"] != "icmp" && rule["protocol"] != "icmpv6") return;
  if (!reader.more() || std::ranges::find(options, reader.peek()) != options.end()) return;
  rule["icmp_type"] = number_or_name(lower(reader.next()));
  if (rule["icmp_type"].is_number() && digits(reader.peek())) rule["icmp_code"] = number_or_name(reader.next());
}

// The option that is not converted, or nothing.
std::optional<std::string> options_of(Reader& reader, json& rule) {
  static constexpr std::array<std::string_view, 3> with_value = {"dscp", "precedence", "tos"};
  icmp_of(reader, rule);
  while (reader.more()) {
    const std::string word = lower(reader.next());
    if (word == "log" || word == "log-input") {
      rule["log"] = word == "log" ? json(true) : json("input");
      if (reader.more() && reader.at + 1 == reader.words.size()) rule["log_tag"] = reader.next();
    } else if (word == "fragments" || word == "established") {
      rule[word] = true;
    } else if (word == "time-range" && reader.more()) {
      rule["time_range"] = reader.next();
    } else if (std::ranges::find(with_value, word) != with_value.end() && reader.more()) {
      rule[word] = number_or_name(lower(reader.next()));
    } else {
      return word;
    }
  }
  return std::nullopt;
}

void add_rule(Converter& converter, json& list, const std::string& action, const Words& words) {
  const bool v6 = list.value("family", "") == "ipv6";
  Reader reader{words};
  json rule = {{"action", action}, {"protocol", protocol_of(lower(reader.next()))}};
  for (const std::string side : {"source", "destination"}) {
    if (!reader.more()) return converter.error("the access rule has no " + side);
    rule[side] = endpoint(reader, v6);
    if (const std::string match = port_match(converter, reader); !match.empty()) rule[side + "_ports"] = match;
  }
  if (const auto unknown = options_of(reader, rule))
    return converter.error(fmt::format("'{}' of an access rule is not converted; the rule is left out", *unknown));
  list["rules"].push_back(std::move(rule));
}

template <const char* Action>
void rule(Converter& converter, const Words& taken) {
  add_rule(converter, converter.here(), Action, taken);
}

// "10 permit ..." and "sequence 10 permit ...".
template <const char* Action>
void rule_with_sequence(Converter& converter, const Words& taken) {
  const auto sequence = number(converter, "the sequence of the rule", taken[0]);
  json& list = converter.here();
  const std::size_t before = list.contains("rules") ? list["rules"].size() : 0;
  add_rule(converter, list, Action, Words(taken.begin() + 1, taken.end()));
  if (sequence && list.contains("rules") && list["rules"].size() > before) list["rules"].back()["sequence"] = *sequence;
}

template <const char* Action>
void numbered_rule(Converter& converter, const Words& taken) {
  converter.enter(Mode::global, converter.named(json::json_pointer("/acls"), taken[0]));
  add_rule(converter, converter.here(), Action, Words(taken.begin() + 1, taken.end()));
}

void list_of_v4(Converter& converter, const Words& taken) {
  converter.enter(Mode::access_list, converter.named(json::json_pointer("/acls"), taken[0]));
}

void list_of_v6(Converter& converter, const Words& taken) {
  converter.enter(Mode::access_list, converter.named(json::json_pointer("/acls"), taken[0]));
  converter.here()["family"] = "ipv6";
}

constexpr char permit[] = "permit", deny[] = "deny";
constexpr std::array in_list = {
    Command{"permit <rule...>", rule<permit>},
    Command{"deny <rule...>", rule<deny>},
    Command{"<sequence> permit <rule...>", rule_with_sequence<permit>},
    Command{"<sequence> deny <rule...>", rule_with_sequence<deny>},
    Command{"sequence <sequence> permit <rule...>", rule_with_sequence<permit>},
    Command{"sequence <sequence> deny <rule...>", rule_with_sequence<deny>},
};
constexpr std::array everywhere = {
    Command{"access-list <list> permit <rule...>", numbered_rule<permit>},
    Command{"access-list <list> deny <rule...>", numbered_rule<deny>},
    Command{"access-list <list> remark <text...>", [](Converter& c, const Words&) { c.leave_block(); }},
    Command{"ip access-list extended <list>", list_of_v4},
    Command{"ipv6 access-list <list>", list_of_v6},
};

}  // namespace

std::span<const Command> access_list_commands() { return in_list; }
std::span<const Command> global_access_list_commands() { return everywhere; }

}  // namespace postern::ios
