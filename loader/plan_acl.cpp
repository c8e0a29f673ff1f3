#include "loader/plan_acl.hpp"

#include <fmt/format.h>

namespace postern::loader {
namespace {

constexpr std::uint8_t tcp_rst = 4, tcp_ack = 16;

postern_log log_of(config::AceLog log) {
  switch (log) {
    case config::AceLog::match: return POSTERN_LOG_MATCH;
    case config::AceLog::input: return POSTERN_LOG_INPUT;
    case config::AceLog::none: break;
  }
  return POSTERN_LOG_NONE;
}

std::vector<PolicyPortRange> policy_ports(const std::vector<config::PortRange>& ranges) {
  std::vector<PolicyPortRange> out;
  for (const auto& range : ranges) out.push_back({range.first, range.last});
  return out;
}

PolicyTcpFlags policy_tcp_flags(const config::AceOptions& options) {
  if (options.established) return {tcp_rst | tcp_ack, 0, false};
  if (!options.tcp_flags) return {};
  return {options.tcp_flags->set, options.tcp_flags->clear, options.tcp_flags->all};
}

std::string ports_text(const std::vector<PolicyPortRange>& ranges) {
  std::string out = "[";
  for (const auto& range : ranges) out += fmt::format("{}-{} ", range.first, range.last);
  return out + "]";
}

std::string text_of(const std::vector<config::PortRange>& ranges) {
  std::string text;
  for (const auto& range : ranges) text += " " + std::to_string(range.first) + "-" + std::to_string(range.last);
  return text.empty() ? " any" : text;
}

// What tells the rule from others of the same 5-tuple.
std::string options_text(const config::Ace& ace) {
  std::string out;
  for (const auto& range : icmp_ranges(ace)) out += fmt::format(" icmp {}-{}", range.first, range.last);
  const auto traffic_class = ace.options.traffic_class();
  if (traffic_class.mask != 0) out += fmt::format(" class {}/{}", traffic_class.mask, traffic_class.value);
  if (ace.options.established) out += " established";
  if (const auto& flags = ace.options.tcp_flags)
    out += fmt::format(" flags {}/{} {}", flags->set, flags->clear, flags->all ? "all" : "any");
  return out;
}

}  // namespace

std::vector<config::PortRange> icmp_ranges(const config::Ace& ace) {
  if (!ace.options.icmp_type) return {};
  const auto type = static_cast<std::uint16_t>(*ace.options.icmp_type << 8);
  const auto code = ace.options.icmp_code;
  return {{static_cast<std::uint16_t>(type | code.value_or(0)), static_cast<std::uint16_t>(type | code.value_or(255))}};
}

std::string ace_key(const config::Ace& ace) {
  return std::to_string(ace.protocol) + " " + ace.source.text() + text_of(ace.source_ports) + " " +
         ace.destination.text() + text_of(ace.destination_ports) + (ace.fragments ? " fragments" : "") +
         options_text(ace);
}

PolicyRule policy_rule(const config::Acl& acl, const config::Ace& ace, std::uint32_t entry) {
  PolicyRule rule;
  rule.entry = entry;
  rule.permit = ace.action == config::Action::permit;
  if (ace.protocol != 0) rule.protocol = ace.protocol;
  rule.source = ace.source;
  rule.destination = ace.destination;
  rule.source_ports = policy_ports(ace.options.icmp_type ? icmp_ranges(ace) : ace.source_ports);
  rule.destination_ports = policy_ports(ace.destination_ports);
  const auto traffic_class = ace.options.traffic_class();
  rule.traffic_class = {traffic_class.mask, traffic_class.value};
  rule.tcp_flags = policy_tcp_flags(ace.options);
  if (ace.fragments) rule.fragments = PolicyFragments::only;
  rule.log = log_of(ace.log);
  rule.log_tag = ace.options.log_tag;
  rule.name = acl.name + " rule " + std::to_string(ace.sequence);
  return rule;
}

std::string rule_text(const PolicyRule& rule) {
  return fmt::format("{}{}{}/{} {} {}{} {}{} {}/{} {}/{}{} {}{}", rule.entry, rule.permit ? "+" : "-", rule.flow,
                     rule.fragment_flow, rule.protocol ? std::to_string(*rule.protocol) : "ip", rule.source.text(),
                     ports_text(rule.source_ports), rule.destination.text(), ports_text(rule.destination_ports),
                     rule.traffic_class.mask, rule.traffic_class.value, rule.tcp_flags.set, rule.tcp_flags.clear,
                     rule.tcp_flags.all ? " all" : "", static_cast<unsigned>(rule.fragments),
                     static_cast<unsigned>(rule.log));
}

}  // namespace postern::loader
