// The "pki" section: trustpoints and certificate maps, and the files that they name.
#include <algorithm>
#include <array>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.hpp"
#include "base/http_url.hpp"
#include "config/check.hpp"
#include "config/convert.hpp"
#include "config/secret_file.hpp"

namespace postern::config {
namespace {

using nlohmann::json;

constexpr std::array field_words = {"subject-name", "issuer-name", "alt-subject-name"};
constexpr std::array operator_words = {"eq", "ne", "co", "nc"};
constexpr off_t longest_certificate_file = 256 << 10;
constexpr const char* url_form = "http://host[:port]/path, in small letters up to the path, at most 1024 characters";

template <class T, std::size_t N>
T word_of(const json& text, const std::array<const char*, N>& words) {
  return static_cast<T>(std::ranges::find(words, text.get<std::string>()) - words.begin());
}

// Everybody may read a certificate; it has to be there, and to look like one.
std::string convert_certificate_file(const json& in, const std::string& path, Conversion& conversion) {
  const std::string name = in;
  const auto refuse = [&](const std::string& what, const char* allowed) {
    conversion.report.error(path, quoted(path, name) + " " + what, allowed);
    return name;
  };
  if (name.front() != '/') return refuse("is not an absolute path", "a path that begins with /");
  if (!conversion.options.read_secret_files) return name;
  const Fd file(::open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  struct stat status{};
  if (!file || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode))
    return refuse("cannot be opened", "a PEM file that is there");
  if (status.st_size > longest_certificate_file) return refuse("is too long", "at most 256 KiB");
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  const ssize_t got = ::pread(file.get(), text.data(), text.size(), 0);
  if (got != status.st_size || text.find("-----BEGIN CERTIFICATE-----") == std::string::npos)
    return refuse("holds no PEM certificate", "-----BEGIN CERTIFICATE----- and what belongs to it");
  return name;
}

std::vector<std::string> convert_certificate_files(const json& in, const char* key, const std::string& path,
                                                   Conversion& conversion) {
  std::vector<std::string> out;
  for (const json& one : list_of(in, key))
    out.push_back(convert_certificate_file(one, at("{}/{}/{}", path, key, out.size()), conversion));
  return out;
}

PkiTrustpoint convert_trustpoint(const json& in, const std::string& path, Conversion& conversion) {
  PkiTrustpoint out;
  out.name = in["name"];
  out.ca_certificates = convert_certificate_files(in, "ca_certificates", path, conversion);
  if (in.contains("certificate"))
    out.certificate = convert_certificate_file(in["certificate"], path + "/certificate", conversion);
  out.chain = convert_certificate_files(in, "chain", path, conversion);
  if (in.contains("certificate_url")) out.certificate_url = in["certificate_url"].get<std::string>();
  if (in.contains("bundle_url")) out.bundle_url = in["bundle_url"].get<std::string>();
  if (const auto key = in.find("key"); key != in.end()) {
    out.key = (*key)["file"].get<std::string>();
    if (conversion.options.read_secret_files)
      if (const auto opened = open_key_file(*out.key, conversion.options); !opened)
        conversion.report.error(path + "/key/file", opened.error().message, opened.error().allowed);
  }
  return out;
}

CertificateMapEntry convert_certificate_map(const json& in) {
  CertificateMapEntry out;
  out.name = in["name"];
  out.sequence = in.value("sequence", out.sequence);
  for (const json& rule : in["rules"])
    out.rules.push_back({word_of<CertificateField>(rule["field"], field_words),
                         word_of<CertificateOperator>(rule["operator"], operator_words),
                         rule["value"].get<std::string>()});
  return out;
}

bool same_word(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

}  // namespace

const char* word(CertificateField field) { return field_words[static_cast<std::size_t>(field)]; }
const char* word(CertificateOperator op) { return operator_words[static_cast<std::size_t>(op)]; }

const PkiTrustpoint* find_trustpoint(const Pki& pki, const std::string& name) {
  const auto found =
      std::ranges::find_if(pki.trustpoints, [&](const PkiTrustpoint& one) { return same_word(one.name, name); });
  return found == pki.trustpoints.end() ? nullptr : &*found;
}

Pki convert_pki(const json& in, Conversion& conversion) {
  Pki out;
  for (const json& one : list_of(in, "trustpoints"))
    out.trustpoints.push_back(convert_trustpoint(one, at("/pki/trustpoints/{}", out.trustpoints.size()), conversion));
  for (const json& one : list_of(in, "certificate_maps")) out.maps.push_back(convert_certificate_map(one));
  std::ranges::sort(out.maps, {}, [](const auto& m) { return std::pair(m.name, m.sequence); });
  return out;
}

namespace {

void check_url(Check& check, const PkiTrustpoint& one, const std::optional<std::string>& url, const std::string& path) {
  if (!url) return;
  if (!is_http_url(*url)) check.report.error(path, quoted(path, *url) + " is no URL that peers fetch", url_form);
  if (!one.certificate)
    check.report.error(path, "says where a certificate is that is not there", "certificate and key");
}

void check_urls(Check& check, const PkiTrustpoint& one, const std::string& path) {
  check_url(check, one, one.certificate_url, path + "/certificate_url");
  check_url(check, one, one.bundle_url, path + "/bundle_url");
  if (one.certificate_url && one.bundle_url)
    check.report.error(path + "/bundle_url", "stands beside certificate_url", "one of the two");
}

}  // namespace

void check_pki(Check& check) {
  const Pki& pki = check.document.pki;
  for (std::size_t i = 0; i < pki.trustpoints.size(); ++i) {
    const PkiTrustpoint& one = pki.trustpoints[i];
    const std::string path = at("/pki/trustpoints/{}", i);
    if (find_trustpoint(pki, one.name) != &one)
      check.report.error(path + "/name", fmt::format("trustpoint {} is given twice", one.name),
                         "names that differ in more than case");
    if (one.certificate.has_value() != one.key.has_value())
      check.report.error(path, one.key ? "has a key and no certificate" : "has a certificate and no key",
                         "both, or neither where peers are verified alone");
    if (!one.chain.empty() && !one.certificate)
      check.report.error(path + "/chain", "leads from a certificate that is not there", "certificate and key");
    check_urls(check, one, path);
    if (one.ca_certificates.empty() && !one.certificate)
      check.report.error(path, "holds nothing", "ca_certificates, or certificate and key, or all of them");
  }
  const json section = check.source.value("pki", json::object());
  const json& maps = list_of(section, "certificate_maps");
  std::vector<std::pair<std::string, std::uint32_t>> seen;
  for (std::size_t i = 0; i < maps.size(); ++i) {
    const std::pair key{maps[i]["name"].get<std::string>(), maps[i].value("sequence", 10U)};
    if (std::ranges::find(seen, key) != seen.end())
      check.report.error(at("/pki/certificate_maps/{}/sequence", i),
                         fmt::format("certificate map {} {} is given twice", key.first, key.second),
                         "another sequence number");
    seen.push_back(key);
  }
}

}  // namespace postern::config
