// show crypto pki trustpoints and certificates (SO-27).
#include <fmt/core.h>

#include "cli/render.hpp"
#include "cli/text.hpp"

namespace postern::cli {
namespace {

using nlohmann::json;

std::string line_if(const json& object, const char* key, const char* format) {
  const std::string value = text(object, key);
  return value.empty() ? "" : fmt::format(fmt::runtime(format), value);
}

std::string certificate_text(const json& one) {
  std::string out = text(one, "kind") + "\n";
  out += fmt::format("  Status: {}\n", text(one, "status"));
  out += fmt::format("  Certificate Serial Number (hex): {}\n", text(one, "serial"));
  out += fmt::format("  Certificate Usage: {}\n", text(one, "usage"));
  out += fmt::format("  Issuer: {}\n  Subject: {}\n", text(one, "issuer"), text(one, "subject"));
  for (const json& name : list(one, "alternative_names"))
    if (name.is_string()) out += fmt::format("  Alternative Name: {}\n", printable(name.get<std::string>()));
  out += fmt::format("  Validity Date:\n    start date: {}\n    end   date: {}\n", text(one, "not_before"),
                     text(one, "not_after"));
  out += fmt::format("  Subject Key: {}\n", text(one, "key"));
  out += line_if(one, "sha256", "  Fingerprint SHA256: {}\n");
  return out + fmt::format("  Associated Trustpoints: {}\n", text(one, "trustpoint"));
}

}  // namespace

std::string render_pki_certificates(const json& data) {
  std::string out;
  for (const json& one : list(data, "certificates")) out += (out.empty() ? "" : "\n") + certificate_text(one);
  return out;
}

std::string render_pki_bundle(const json& data) {
  const std::uint64_t count = number(data, "certificates");
  return fmt::format("{} certificate{} of trustpoint {}, {} bytes, SHA-1 {}\n", count, count == 1 ? "" : "s",
                     text(data, "trustpoint"), text(data, "bundle").size() / 2, text(data, "sha1"));
}

std::string render_pki_trustpoints(const json& data) {
  std::string out;
  for (const json& one : list(data, "trustpoints")) {
    out += fmt::format("Trustpoint {}:\n", text(one, "name"));
    for (const json& authority : list(one, "authorities"))
      out += fmt::format("    CA: {} ({})\n", text(authority, "subject"), text(authority, "status"));
    out += line_if(one, "subject", "    Own certificate: {}\n");
    out += line_if(one, "status", "    Status: {}\n");
    out += line_if(one, "key", "    Key: {}\n");
    out += line_if(one, "certificate_url", "    Certificate URL: {}\n");
    out += line_if(one, "bundle_url", "    Bundle URL: {}\n");
    out += line_if(one, "problem", "    Problem: {}\n");
  }
  return out;
}

}  // namespace postern::cli
