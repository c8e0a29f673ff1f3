// EAP in profiles, and the users who come by it.
#include <algorithm>

#include "config/check.hpp"

namespace postern::config {
namespace {

bool has(const std::vector<EapMethodWord>& methods, EapMethodWord one) {
  return std::ranges::find(methods, one) != methods.end();
}

bool by_password(const std::vector<EapMethodWord>& methods) {
  return has(methods, EapMethodWord::mschapv2) || has(methods, EapMethodWord::md5);
}

// RFC 5216 §5.3: both ends have certificates.
void check_tls(Check& check, const Ikev2Profile& profile, const std::vector<EapMethodWord>& methods,
               const std::string& path) {
  if (!has(methods, EapMethodWord::tls)) return;
  const PkiTrustpoint* const own =
      profile.sign_trustpoint ? find_trustpoint(check.document.pki, *profile.sign_trustpoint) : nullptr;
  if (own == nullptr || !own->certificate)
    check.report.error(path, "tls needs a certificate of our own", "pki_trustpoints with certificate and key");
  if (std::ranges::none_of(profile.verify_trustpoints, [&](const std::string& name) {
        const auto* const one = find_trustpoint(check.document.pki, name);
        return one != nullptr && !one->ca_certificates.empty();
      }))
    check.report.error(path, "tls needs a CA to check the peer's certificate against", "ca_certificates");
}

// RFC 5998 §3, §4: nothing else proves the server.
void check_alone(Check& check, const std::vector<EapMethodWord>& methods, const std::string& path) {
  if (has(methods, EapMethodWord::md5))
    check.report.error(path, "EAP alone needs a method by which both ends prove themselves, and md5 is none",
                       "mschapv2, or a certificate of the end that answers");
  if (has(methods, EapMethodWord::mschapv2))
    check.report.warning(path,
                         "whoever answers in the server's place can guess the password at leisure (RFC 5998 section 4)",
                         "a certificate of the end that answers");
}

void check_local(Check& check, const Ikev2Profile& profile, const std::string& path) {
  const EapLocal& eap = *profile.eap_local;
  const std::string here = path + "/authentication/local";
  if (eap.identity.empty()) check.report.error(here, "comes by EAP without a name", "eap.identity");
  check_tls(check, profile, eap.methods, here);
  if (by_password(eap.methods) && !check.source.contains(nlohmann::json::json_pointer(here + "/eap/password")))
    check.report.error(here, "comes by EAP without a password", "eap.password");
  if (profile.remote_method == AuthMethodWord::pre_share)
    check.report.error(path + "/authentication/remote/method",
                       "has to be a certificate, or eap: the end that a client comes to by EAP (RFC 7296 section 2.16)",
                       "rsa-sig, ecdsa-sig, signature, eap");
  if (profile.eap_remote) check_alone(check, eap.methods, here);
}

void check_remote(Check& check, const Ikev2Profile& profile, const std::string& path) {
  const EapRemote& eap = *profile.eap_remote;
  const std::string here = path + "/authentication/remote";
  if (profile.local_method == AuthMethodWord::pre_share)
    check.report.error(path + "/authentication/local/method",
                       "has to be a certificate, or eap: the end that a client comes to by EAP (RFC 7296 section 2.16)",
                       "rsa-sig, ecdsa-sig, signature, eap");
  check_tls(check, profile, eap.methods, here);
  if (by_password(eap.methods) && check.document.ikev2.eap_users.empty())
    check.report.warning(here, "nobody can come by EAP: there are no users", "ikev2.eap_users");
  if (has(eap.methods, EapMethodWord::md5) && !profile.eap_local)
    check.report.warning(here, "md5 makes no key: the peer's password is not bound to this IKE SA", "mschapv2");
  if (profile.eap_local) check_alone(check, eap.methods, here);
}

void check_use(Check& check, std::size_t i) {
  const Ikev2Profile& profile = check.document.ikev2.profiles[i];
  const std::string path = at("/ikev2/profiles/{}", i);
  for (const char* const side : {"local", "remote"}) {
    const bool local = std::string_view(side) == "local";
    const std::string here = path + "/authentication/" + side + "/eap";
    if ((local ? profile.local_method : profile.remote_method) != AuthMethodWord::eap &&
        check.source.contains(nlohmann::json::json_pointer(here)))
      check.report.error(here, "is of no use: the method is another one", "method eap");
  }
  if (profile.eap_local) check_local(check, profile, path);
  if (profile.eap_remote) check_remote(check, profile, path);
}

}  // namespace

void check_eap(Check& check) {
  const Ikev2& ikev2 = check.document.ikev2;
  refuse_twice<EapUser>(
      check.report, ikev2.eap_users, &EapUser::name, [](std::size_t i) { return at("/ikev2/eap_users/{}/name", i); },
      "EAP user");
  for (std::size_t i = 0; i < ikev2.profiles.size(); ++i) check_use(check, i);
}

}  // namespace postern::config
