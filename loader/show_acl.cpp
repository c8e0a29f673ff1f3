// show access-lists (TS-01): every list with its rules, and how many packets each rule decided.
#include "loader/show_acl.hpp"

#include <algorithm>
#include <map>

#include "config/acl_options.hpp"
#include "loader/show.hpp"
#include "loader/show_support.hpp"

namespace postern::loader {
namespace {

using nlohmann::json;

std::string side_text(const Prefix& prefix, const std::optional<std::uint32_t>& wildcard) {
  if (wildcard) return prefix.address.text() + " " + IpAddress::v4(*wildcard).text();
  return prefix.length == 0 ? "any" : prefix.text();
}

json rule_json(const NodeView& view, const config::Ace& rule, Family family) {
  json out = {{"sequence", rule.sequence},
              {"action", rule.action == config::Action::permit ? "permit" : "deny"},
              {"proto", rule.protocol == 0 ? (family == Family::v4 ? "ip" : "ipv6") : std::to_string(rule.protocol)},
              {"src", side_text(rule.source, rule.source_wildcard)},
              {"dst", side_text(rule.destination, rule.destination_wildcard)}};
  if (!rule.source_ports.empty()) out["src_ports"] = ports_json(rule.source_ports);
  if (!rule.destination_ports.empty()) out["dst_ports"] = ports_json(rule.destination_ports);
  if (rule.fragments) out["fragments"] = true;
  config::render_ace_options(out, rule.options);
  if (const std::string& range = rule.options.time_range; !range.empty())
    out["active"] = std::ranges::find(view.time_ranges, range) != view.time_ranges.end();
  if (rule.log != config::AceLog::none) out["log"] = rule.log == config::AceLog::input ? "log-input" : "log";
  return out;
}

}  // namespace

json acl_json(const NodeView& view, const std::string& name, const std::function<bool(const RuleView&)>& counts) {
  std::map<std::uint32_t, std::uint64_t> matches;
  for (const RuleView& rule : view.rules)
    if (rule.acl == name && counts(rule)) matches[rule.ace] += rule.packets;
  json rules = json::array();
  const config::Acl* const acl = config::find_named(view.document.acls, name);
  for (std::uint32_t index = 0; acl != nullptr && index < acl->rules.size(); ++index) {
    json& rule = rules.emplace_back(rule_json(view, acl->rules[index], acl->family));
    const auto counted = matches.find(index);
    rule["matches"] = counted == matches.end() ? json() : json(counted->second);
  }
  return {{"name", name},
          {"family", acl != nullptr && acl->family == Family::v6 ? "ipv6" : "ipv4"},
          {"rules", std::move(rules)}};
}

Result<json> show_access_lists(const json& args, const NodeView& view) {
  POSTERN_CHECK(only_arguments(args, {"name"}));
  POSTERN_TRY(name, text_argument(args, "name"));
  json lists = json::array();
  for (const config::Acl& acl : view.document.acls)
    if (!name || acl.name == *name) lists.push_back(acl_json(view, acl.name, [](const RuleView&) { return true; }));
  if (lists.empty() && name) return fail("there is no access list of that name");
  return json{{"access_lists", std::move(lists)}};
}

}  // namespace postern::loader
