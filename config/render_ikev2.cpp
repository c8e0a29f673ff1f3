#include "config/render_ikev2.hpp"

#include <algorithm>

#include <fmt/core.h>

#include "config/render.hpp"
#include "crypto/transforms.hpp"

namespace postern::config {
namespace {

using nlohmann::json;

std::string hex(const std::string& bytes) {
  std::string out = "0x";
  for (const unsigned char c : bytes) out += fmt::format("{:02x}", c);
  return out;
}

// Text where it would be read back as the same bytes.
std::string key_id_text(const std::string& bytes) {
  const bool plain =
      !bytes.starts_with("0x") && std::ranges::all_of(bytes, [](unsigned char c) { return c >= 0x20 && c < 0x7f; });
  return plain ? bytes : hex(bytes);
}

json render_identity(const IdentityRule& rule) {
  switch (rule.kind) {
    case IdentityKind::any: return "any";
    case IdentityKind::address: {
      const bool host = rule.address == Prefix::host(rule.address.address);
      return {{"address", host ? rule.address.address.text() : rule.address.text()}};
    }
    case IdentityKind::fqdn: return {{"fqdn", rule.text}};
    case IdentityKind::email: return {{"email", rule.text}};
    case IdentityKind::key_id: return {{"key_id", key_id_text(rule.text)}};
    case IdentityKind::dn: return "dn";
  }
  return nullptr;
}

json render_proposal(const Ikev2Proposal& proposal) {
  json encryption = json::array(), integrity = json::array(), prf = json::array(), group = json::array();
  for (const IkeEncryption& one : proposal.encryption)
    if (const auto* const row = crypto::find_cipher(one.cipher, one.key_bits))
      encryption.push_back(std::string(row->ike_word));
  for (const crypto::Integrity one : proposal.integrity)
    if (const auto* const row = crypto::find_integrity(one)) integrity.push_back(std::string(row->ike_word));
  for (const crypto::Prf one : proposal.prf)
    if (const auto* const row = crypto::find_prf(static_cast<std::uint16_t>(one)))
      prf.push_back(std::string(row->word));
  for (const crypto::DhGroup one : proposal.groups) group.push_back(static_cast<unsigned>(one));
  json out = {{"name", proposal.name},
              {"encryption", std::move(encryption)},
              {"prf", std::move(prf)},
              {"group", std::move(group)}};
  if (!integrity.empty()) out["integrity"] = std::move(integrity);
  return out;
}

json render_scope(const Ikev2Scope& scope) {
  json out = json::object();
  if (scope.local) out["address_local"] = scope.local->text();
  if (scope.fvrf) out["fvrf"] = *scope.fvrf;
  return out;
}

json render_policy(const Ikev2Policy& policy) {
  return {{"name", policy.name}, {"match", render_scope(policy.match)}, {"proposals", policy.proposals}};
}

json render_peer(const KeyringPeer& peer) {
  json out = {{"name", peer.name}};
  if (!peer.ppk || !peer.local_key.empty()) out["pre_shared_key"] = masked_secret;
  if (!(peer.local_key == peer.remote_key))
    out["pre_shared_key"] = {{"local", masked_secret}, {"remote", masked_secret}};
  if (peer.address) {
    const bool host = *peer.address == Prefix::host(peer.address->address);
    out["address"] = host ? peer.address->address.text() : peer.address->text();
  }
  if (peer.identity) out["identity"] = render_identity(*peer.identity);
  if (peer.ppk) out["ppk"] = {{"id", peer.ppk->id}, {"key", masked_secret}, {"required", peer.ppk->required}};
  return out;
}

json render_dpd(const Dpd& dpd) {
  const char* const mode = dpd.mode == DpdMode::periodic    ? "periodic"
                           : dpd.mode == DpdMode::on_demand ? "on-demand"
                                                            : "off";
  return {{"mode", mode}, {"interval", dpd.interval_s}, {"retry", dpd.retry_s}};
}

json render_side(AuthMethodWord method, const Secret& key) {
  json out = {{"method", word(method)}};
  if (!key.empty()) out["key"] = masked_secret;
  return out;
}

json render_methods(const std::vector<EapMethodWord>& methods) {
  json out = json::array();
  for (const EapMethodWord one : methods) out.push_back(word(one));
  return out;
}

json render_authentication(const Ikev2Profile& profile) {
  json local = render_side(profile.local_method, profile.local_key),
       remote = render_side(profile.remote_method, profile.remote_key);
  if (profile.eap_local)
    local["eap"] = {{"methods", render_methods(profile.eap_local->methods)}, {"identity", profile.eap_local->identity}};
  if (profile.eap_local && !profile.eap_local->password.empty()) local["eap"]["password"] = masked_secret;
  if (profile.eap_remote)
    remote["eap"] = {{"methods", render_methods(profile.eap_remote->methods)},
                     {"query_identity", profile.eap_remote->query_identity}};
  return {{"local", std::move(local)}, {"remote", std::move(remote)}};
}

json render_user(const EapUser& user) { return {{"name", user.name}, {"password", masked_secret}}; }

json render_trustpoints_of(const Ikev2Profile& profile) {
  json out = json::array();
  const auto verifies = [&](const std::string& name) {
    return std::ranges::count(profile.verify_trustpoints, name) != 0;
  };
  if (profile.sign_trustpoint)
    out.push_back({{"name", *profile.sign_trustpoint}, {"use", verifies(*profile.sign_trustpoint) ? "both" : "sign"}});
  for (const std::string& name : profile.other_sign_trustpoints)
    out.push_back({{"name", name}, {"use", verifies(name) ? "both" : "sign"}});
  for (const std::string& name : profile.verify_trustpoints)
    if (name != profile.sign_trustpoint && std::ranges::count(profile.other_sign_trustpoints, name) == 0)
      out.push_back({{"name", name}, {"use", "verify"}});
  return out;
}

template <class T>
json texts_of_client(const std::vector<T>& all) {
  json out = json::array();
  for (const T& one : all) out.push_back(one.text());
  return out;
}

json render_configuration(const ClientConfiguration& in) {
  json out = {{"pools", texts_of_client(in.pools)},
              {"dns", texts_of_client(in.dns)},
              {"subnets", texts_of_client(in.subnets)},
              {"required", in.required}};
  if (!in.banner.empty()) out["banner"] = in.banner;
  return out;
}

json render_redirect(const RedirectProfile& redirect) {
  json out = {{"follow", redirect.follow}};
  if (const auto& gateway = redirect.gateway)
    out["gateway"] = {{"to", gateway->to}, {"when", word(gateway->when)}, {"above", gateway->above}};
  return out;
}

json render_profile(const Ikev2Profile& profile) {
  json match = render_scope(profile.match);
  if (!profile.match_certificate.empty()) match["certificate"] = profile.match_certificate;
  if (!profile.match_remote.empty()) match["identity_remote"] = json::array();
  for (const IdentityRule& rule : profile.match_remote) match["identity_remote"].push_back(render_identity(rule));
  json out = {{"name", profile.name},
              {"match", std::move(match)},
              {"authentication", render_authentication(profile)},
              {"lifetime", profile.lifetime_s},
              {"dpd", render_dpd(profile.dpd)},
              {"nat_force_encap", profile.force_encapsulation},
              {"childless", word(profile.childless)},
              {"redirect", render_redirect(profile.redirect)}};
  if (profile.configuration) out["configuration"] = render_configuration(*profile.configuration);
  if (profile.local_identity) out["identity_local"] = render_identity(*profile.local_identity);
  if (profile.keyring) out["keyring"] = *profile.keyring;
  if (profile.sign_trustpoint || !profile.verify_trustpoints.empty())
    out["pki_trustpoints"] = render_trustpoints_of(profile);
  if (profile.suite_b) out["suite_b"] = true;
  if (profile.allow_sha1) out["sha1_signatures"] = true;
  if (profile.rsa_pkcs1) out["rsa_padding"] = "pkcs1";
  return out;
}

template <class T>
json list(const std::vector<T>& all, json (*render_one)(const T&)) {
  json out = json::array();
  for (const T& one : all) out.push_back(render_one(one));
  return out;
}

json render_description(const PeerDescription& one) { return {{"peer", one.peer}, {"description", one.text}}; }

json render_keyring(const Keyring& keyring) {
  return {{"name", keyring.name}, {"peers", list(keyring.peers, &render_peer)}};
}

}  // namespace

json render_pki(const Pki& pki) {
  json trustpoints = json::array(), maps = json::array();
  for (const PkiTrustpoint& one : pki.trustpoints) {
    json row = {{"name", one.name}};
    if (!one.ca_certificates.empty()) row["ca_certificates"] = one.ca_certificates;
    if (one.certificate) row["certificate"] = *one.certificate;
    if (!one.chain.empty()) row["chain"] = one.chain;
    if (one.key) row["key"] = {{"file", *one.key}};
    if (one.certificate_url) row["certificate_url"] = *one.certificate_url;
    if (one.bundle_url) row["bundle_url"] = *one.bundle_url;
    trustpoints.push_back(std::move(row));
  }
  for (const CertificateMapEntry& one : pki.maps) {
    json rules = json::array();
    for (const CertificateRule& rule : one.rules)
      rules.push_back({{"field", word(rule.field)}, {"operator", word(rule.op)}, {"value", rule.value}});
    maps.push_back({{"name", one.name}, {"sequence", one.sequence}, {"rules", std::move(rules)}});
  }
  return {{"trustpoints", std::move(trustpoints)}, {"certificate_maps", std::move(maps)}};
}

json render_ikev2(const Ikev2& ikev2) {
  return {{"enabled", ikev2.enabled},
          {"nat_keepalive", ikev2.nat_keepalive_s},
          {"fragmentation_mtu", ikev2.options.fragmentation_mtu},
          {"window", ikev2.options.window},
          {"max_selectors", ikev2.options.max_selectors},
          {"mobike", ikev2.options.mobike},
          {"quick_crash_detection", ikev2.options.crash_detection},
          {"http_cert_lookup", ikev2.options.cert_lookup},
          {"redirect",
           {{"max_redirects", ikev2.options.redirect.most},
            {"loop_period", ikev2.options.redirect.period_s},
            {"leave_within", ikev2.options.redirect.leave_s}}},
          {"dpd", render_dpd(ikev2.dpd)},
          {"proposals", list(ikev2.proposals, &render_proposal)},
          {"policies", list(ikev2.policies, &render_policy)},
          {"keyrings", list(ikev2.keyrings, &render_keyring)},
          {"eap_users", list(ikev2.eap_users, &render_user)},
          {"peer_descriptions", list(ikev2.peer_descriptions, &render_description)},
          {"profiles", list(ikev2.profiles, &render_profile)}};
}

}  // namespace postern::config
