// Access lists (TS-01, TS-02, TS-05): rules to Ace, each list of one family.
#include "config/acl_options.hpp"
#include "config/convert.hpp"

namespace postern::config {
namespace {

using nlohmann::json;

bool names_v6(const json& rule) {
  const json& protocol = rule["protocol"];
  return protocol == "ipv6" || protocol == "icmpv6" || looks_like_v6(rule["source"].get_ref<const std::string&>()) ||
         looks_like_v6(rule["destination"].get_ref<const std::string&>());
}

Family family_of(const json& acl) {
  if (acl.contains("family")) return acl["family"] == "ipv6" ? Family::v6 : Family::v4;
  return std::any_of(acl["rules"].begin(), acl["rules"].end(), names_v6) ? Family::v6 : Family::v4;
}

void convert_side(const json& rule, const char* key, const std::string& path, Family family, Conversion& conversion,
                  Prefix& prefix, std::optional<std::uint32_t>& wildcard) {
  const std::string text = rule[key];
  const std::string mask_key = std::string(key) + "_wildcard";
  std::optional<std::string> mask;
  if (rule.contains(mask_key)) mask = rule[mask_key].get<std::string>();
  const Endpoint side = conversion.keep(parse_endpoint(text, family, mask), path + "/" + key, text);
  prefix = side.prefix;
  wildcard = side.wildcard;
}

std::vector<PortRange> convert_ports(const json& rule, const char* key, const std::string& path, std::uint8_t protocol,
                                     Conversion& conversion) {
  if (!rule.contains(key)) return {};
  const std::string here = path + "/" + key, text = rule[key];
  if (protocol != 6 && protocol != 17 && protocol != 132) {
    conversion.report.error(here, "ports with a protocol that has none", "protocol tcp, udp or sctp");
    return {};
  }
  return conversion.keep(parse_ports(text), here, text);
}

std::uint8_t convert_protocol(const json& rule, const std::string& path, Family family, Conversion& conversion) {
  const json& value = rule["protocol"];
  const std::string shown = value.is_string() ? value.get<std::string>() : value.dump();
  const Protocol protocol = conversion.keep(parse_protocol(value), path + "/protocol", shown);
  if (protocol.family && *protocol.family != family)
    conversion.report.error(path + "/protocol", quoted(path, shown) + " in an access list of the other family",
                            family == Family::v4 ? "ip or icmp" : "ipv6 or icmpv6");
  return protocol.number;
}

Ace convert_rule(const json& rule, const std::string& path, Family family, Conversion& conversion) {
  Ace out;
  out.action = rule["action"] == "permit" ? Action::permit : Action::deny;
  out.protocol = convert_protocol(rule, path, family, conversion);
  convert_side(rule, "source", path, family, conversion, out.source, out.source_wildcard);
  convert_side(rule, "destination", path, family, conversion, out.destination, out.destination_wildcard);
  out.source_ports = convert_ports(rule, "source_ports", path, out.protocol, conversion);
  out.destination_ports = convert_ports(rule, "destination_ports", path, out.protocol, conversion);
  out.fragments = rule.value("fragments", false);
  if (out.fragments && (!out.source_ports.empty() || !out.destination_ports.empty()))
    conversion.report.error(path + "/fragments", "non-initial fragments have no ports",
                            "a rule with fragments and without source_ports and destination_ports");
  out.options = convert_ace_options(rule, path, family, out.protocol, conversion);
  if (rule.contains("log")) out.log = rule["log"] == "input" ? AceLog::input : AceLog::match;
  return out;
}

}  // namespace

std::vector<Acl> convert_acls(const json& acls, Conversion& conversion) {
  std::vector<Acl> out;
  for (const json& acl : acls) {
    Acl& made = out.emplace_back();
    const std::string path = at("/acls/{}", out.size() - 1);
    made.name = acl["name"];
    made.family = family_of(acl);
    std::uint32_t sequence = 0;
    for (const json& rule : acl["rules"]) {
      Ace ace = convert_rule(rule, at("{}/rules/{}", path, made.rules.size()), made.family, conversion);
      sequence = rule.value("sequence", sequence + 10);
      ace.sequence = sequence;
      made.rules.push_back(std::move(ace));
    }
  }
  return out;
}

}  // namespace postern::config
