#include "config/acl_options.hpp"

#include <algorithm>
#include <array>

namespace postern::config {
namespace {

using nlohmann::json;

struct NamedNumber {
  std::string_view name;
  std::uint8_t number;
};
// RFC 2474, RFC 2597, RFC 3246.
constexpr std::array<NamedNumber, 21> dscp_names = {
    {{"default", 0}, {"cs1", 8},   {"af11", 10}, {"af12", 12}, {"af13", 14}, {"cs2", 16},  {"af21", 18},
     {"af22", 20},   {"af23", 22}, {"cs3", 24},  {"af31", 26}, {"af32", 28}, {"af33", 30}, {"cs4", 32},
     {"af41", 34},   {"af42", 36}, {"af43", 38}, {"cs5", 40},  {"ef", 46},   {"cs6", 48},  {"cs7", 56}}};
// RFC 791.
constexpr std::array<NamedNumber, 8> precedence_names = {{{"routine", 0},
                                                          {"priority", 1},
                                                          {"immediate", 2},
                                                          {"flash", 3},
                                                          {"flash-override", 4},
                                                          {"critical", 5},
                                                          {"internet", 6},
                                                          {"network", 7}}};
// RFC 1349.
constexpr std::array<NamedNumber, 5> tos_names = {
    {{"normal", 0}, {"min-monetary-cost", 1}, {"max-reliability", 2}, {"max-throughput", 4}, {"min-delay", 8}}};
constexpr std::array<NamedNumber, 6> flag_names = {
    {{"fin", 1}, {"syn", 2}, {"rst", 4}, {"psh", 8}, {"ack", 16}, {"urg", 32}}};

struct NamedIcmp {
  std::string_view name;
  std::uint8_t type;
  std::optional<std::uint8_t> code;
};
constexpr std::array<NamedIcmp, 15> icmp_names = {{{"echo-reply", 0, {}},
                                                   {"unreachable", 3, {}},
                                                   {"net-unreachable", 3, 0},
                                                   {"host-unreachable", 3, 1},
                                                   {"protocol-unreachable", 3, 2},
                                                   {"port-unreachable", 3, 3},
                                                   {"packet-too-big", 3, 4},
                                                   {"redirect", 5, {}},
                                                   {"echo", 8, {}},
                                                   {"router-advertisement", 9, {}},
                                                   {"router-solicitation", 10, {}},
                                                   {"time-exceeded", 11, {}},
                                                   {"parameter-problem", 12, {}},
                                                   {"timestamp-request", 13, {}},
                                                   {"timestamp-reply", 14, {}}}};
constexpr std::array<NamedIcmp, 13> icmpv6_names = {{{"unreachable", 1, {}},
                                                     {"port-unreachable", 1, 4},
                                                     {"packet-too-big", 2, {}},
                                                     {"time-exceeded", 3, {}},
                                                     {"parameter-problem", 4, {}},
                                                     {"echo-request", 128, {}},
                                                     {"echo-reply", 129, {}},
                                                     {"mld-query", 130, {}},
                                                     {"mld-report", 131, {}},
                                                     {"router-solicitation", 133, {}},
                                                     {"router-advertisement", 134, {}},
                                                     {"nd-ns", 135, {}},
                                                     {"nd-na", 136, {}}}};

std::string table_names(const auto& table) {
  std::string out;
  for (const auto& row : table) out += (out.empty() ? "" : ", ") + std::string(row.name);
  return out;
}

std::uint8_t number_of(const json& value, const auto& table, std::uint8_t most, const std::string& path,
                       Conversion& conversion) {
  if (value.is_number_integer() && value >= 0 && value <= most) return value.get<std::uint8_t>();
  if (value.is_string()) {
    const auto row = std::ranges::find(table, value.get_ref<const std::string&>(), &NamedNumber::name);
    if (row != table.end()) return row->number;
  }
  conversion.report.error(path, "is not known", fmt::format("0 to {}, {}", most, table_names(table)));
  return 0;
}

void convert_icmp(const json& rule, const std::string& path, Family family, std::uint8_t protocol, AceOptions& out,
                  Conversion& conversion) {
  if (!rule.contains("icmp_type")) {
    if (rule.contains("icmp_code"))
      conversion.report.error(path + "/icmp_code", "a code without a type", "icmp_type beside it");
    return;
  }
  const std::string here = path + "/icmp_type";
  if (protocol != (family == Family::v4 ? 1 : 58))
    return conversion.report.error(here, "the rule is not of ICMP", family == Family::v4 ? "icmp" : "icmpv6");
  const json& given = rule["icmp_type"];
  if (given.is_string()) {
    const auto take = [&](const auto& table) {
      const auto row = std::ranges::find(table, given.get_ref<const std::string&>(), &NamedIcmp::name);
      if (row == table.end()) return conversion.report.error(here, "is not known", "0 to 255, " + table_names(table));
      out.icmp_type = row->type;
      out.icmp_code = row->code;
    };
    family == Family::v4 ? take(icmp_names) : take(icmpv6_names);
  } else {
    out.icmp_type = given.get<std::uint8_t>();
  }
  if (!rule.contains("icmp_code")) return;
  if (out.icmp_code) return conversion.report.error(path + "/icmp_code", "the type's name says the code already");
  out.icmp_code = rule["icmp_code"].get<std::uint8_t>();
}

std::uint8_t flags_of(const json& names) {
  std::uint8_t out = 0;
  for (const json& name : names)
    out |= std::ranges::find(flag_names, name.get_ref<const std::string&>(), &NamedNumber::name)->number;
  return out;
}

void convert_tcp(const json& rule, const std::string& path, std::uint8_t protocol, AceOptions& out,
                 Conversion& conversion) {
  out.established = rule.value("established", false);
  if (rule.contains("tcp_flags")) {
    const json& flags = rule["tcp_flags"];
    TcpFlags made{flags.value("match", "all") == "all", 0, 0};
    if (flags.contains("set")) made.set = flags_of(flags["set"]);
    if (flags.contains("clear")) made.clear = flags_of(flags["clear"]);
    if ((made.set | made.clear) == 0)
      conversion.report.error(path + "/tcp_flags", "names no flag", "at least one in set or clear");
    if ((made.set & made.clear) != 0 && made.all)
      conversion.report.error(path + "/tcp_flags", "a flag cannot be set and clear at once");
    out.tcp_flags = made;
  }
  const char* const key = out.established ? "/established" : "/tcp_flags";
  if (!out.established && !out.tcp_flags) return;
  if (protocol != 6) conversion.report.error(path + key, "the rule is not of TCP", "protocol tcp");
  if (out.established && out.tcp_flags)
    conversion.report.error(path + key, "is ACK or RST already, beside tcp_flags", "one of the two");
  if (rule.value("fragments", false))
    conversion.report.error(path + key, "non-initial fragments have no TCP flags", "one of the two");
}

void convert_class(const json& rule, const std::string& path, Family family, AceOptions& out, Conversion& conversion) {
  if (rule.contains("dscp")) out.dscp = number_of(rule["dscp"], dscp_names, 63, path + "/dscp", conversion);
  if (rule.contains("precedence"))
    out.precedence = number_of(rule["precedence"], precedence_names, 7, path + "/precedence", conversion);
  if (rule.contains("tos")) out.tos = number_of(rule["tos"], tos_names, 15, path + "/tos", conversion);
  const char* const key = out.precedence ? "/precedence" : "/tos";
  if (!out.precedence && !out.tos) return;
  if (out.dscp) conversion.report.error(path + key, "is another reading of the bits of dscp", "one of the two");
  if (family == Family::v6) conversion.report.error(path + key, "IPv6 has a DSCP", "dscp");
}

}  // namespace

AceOptions::Class AceOptions::traffic_class() const {
  Class out;
  if (dscp) out = {0xfc, static_cast<std::uint8_t>(*dscp << 2)};
  if (precedence) {
    out.mask |= 0xe0;
    out.value = static_cast<std::uint8_t>(out.value | *precedence << 5);
  }
  if (tos) {
    out.mask |= 0x1e;
    out.value = static_cast<std::uint8_t>(out.value | *tos << 1);
  }
  return out;
}

AceOptions convert_ace_options(const json& rule, const std::string& path, Family family, std::uint8_t protocol,
                               Conversion& conversion) {
  AceOptions out;
  convert_icmp(rule, path, family, protocol, out, conversion);
  if (out.icmp_type && rule.value("fragments", false))
    conversion.report.error(path + "/icmp_type", "non-initial fragments have no ICMP type", "one of the two");
  convert_class(rule, path, family, out, conversion);
  convert_tcp(rule, path, protocol, out, conversion);
  out.time_range = rule.value("time_range", "");
  out.log_tag = rule.value("log_tag", "");
  if (!out.log_tag.empty() && !rule.contains("log"))
    conversion.report.error(path + "/log_tag", "a tag of records that the rule does not ask for", "log beside it");
  return out;
}

void render_ace_options(json& out, const AceOptions& options) {
  const auto put = [&](const char* key, const std::optional<std::uint8_t>& value) {
    if (value) out[key] = *value;
  };
  put("icmp_type", options.icmp_type);
  put("icmp_code", options.icmp_code);
  put("dscp", options.dscp);
  put("precedence", options.precedence);
  put("tos", options.tos);
  if (options.established) out["established"] = true;
  if (options.tcp_flags) {
    json& flags = out["tcp_flags"] = {{"match", options.tcp_flags->all ? "all" : "any"}};
    for (const auto& [key, bits] : {std::pair("set", options.tcp_flags->set), {"clear", options.tcp_flags->clear}})
      for (const NamedNumber& flag : flag_names)
        if ((bits & flag.number) != 0) flags[key].push_back(flag.name);
  }
  if (!options.time_range.empty()) out["time_range"] = options.time_range;
  if (!options.log_tag.empty()) out["log_tag"] = options.log_tag;
}

}  // namespace postern::config
