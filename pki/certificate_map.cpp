#include <algorithm>

#include "pki/store.hpp"

namespace postern::pki {
namespace {

char lower_letter(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

// "CN=gw, O = Example" and "cn=gw,o=example" are the same name to whoever writes it down.
std::string normal(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == ',' || c == '=')
      while (!out.empty() && out.back() == ' ') out.pop_back();
    const bool after_mark = out.empty() || out.back() == ',' || out.back() == '=';
    if (c == ' ' && after_mark) continue;
    out += lower_letter(c);
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

bool holds(const MapRule& rule, const std::vector<std::string>& names) {
  const std::string wanted = normal(rule.value);
  const bool whole = rule.op == MapOperator::eq || rule.op == MapOperator::ne;
  const bool found = std::ranges::any_of(names, [&](const std::string& name) {
    const std::string text = normal(name);
    return whole ? text == wanted : text.find(wanted) != std::string::npos;
  });
  return found == (rule.op == MapOperator::eq || rule.op == MapOperator::co);
}

// An alternative name matches with and without its kind: "DNS:gw.example.org", "gw.example.org".
std::vector<std::string> names_for(MapField field, const crypto::Certificate& certificate) {
  if (field == MapField::subject_name) return {certificate.subject()};
  if (field == MapField::issuer_name) return {certificate.issuer()};
  std::vector<std::string> out = certificate.alternative_names();
  for (std::size_t i = 0, count = out.size(); i < count; ++i) out.push_back(out[i].substr(out[i].find(':') + 1));
  return out;
}

}  // namespace

bool matches(const CertificateMap& map, const crypto::Certificate& certificate) {
  return !map.rules.empty() && std::ranges::all_of(map.rules, [&](const MapRule& rule) {
    return holds(rule, names_for(rule.field, certificate));
  });
}

}  // namespace postern::pki
