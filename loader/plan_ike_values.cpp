#include "loader/plan_ike_values.hpp"

namespace postern::loader {

ike::IkeProposal proposal_of(const config::Ikev2Proposal& in) {
  ike::IkeProposal out{in.name, {}, in.integrity, in.prf, in.groups};
  for (const config::IkeEncryption& one : in.encryption) out.encryption.push_back({one.cipher, one.key_bits});
  return out;
}

ike::Identity identity_of(const config::IdentityRule& rule) {
  using ike::IdType, ike::Identity;
  switch (rule.kind) {
    case config::IdentityKind::fqdn: return Identity::of(IdType::fqdn, rule.text);
    case config::IdentityKind::email: return Identity::of(IdType::email, rule.text);
    case config::IdentityKind::key_id: return Identity::of(IdType::key_id, rule.text);
    case config::IdentityKind::dn: return {IdType::dn, {}};
    case config::IdentityKind::address:
    case config::IdentityKind::any: break;
  }
  return Identity::of(rule.address.address);
}

ike::IdentityMatch match_of(const config::IdentityRule& rule) {
  if (rule.kind == config::IdentityKind::any) return ike::AnyIdentity{};
  if (rule.kind == config::IdentityKind::address) return rule.address;
  return identity_of(rule);
}

ike::AuthKind auth_of(config::AuthMethodWord method) {
  switch (method) {
    case config::AuthMethodWord::rsa_sig: return ike::AuthKind::rsa;
    case config::AuthMethodWord::ecdsa_sig: return ike::AuthKind::ecdsa;
    case config::AuthMethodWord::signature: return ike::AuthKind::signature;
    case config::AuthMethodWord::eap: return ike::AuthKind::eap;
    case config::AuthMethodWord::pre_share: break;
  }
  return ike::AuthKind::psk;
}

ike::Ppk ppk_of(const config::Ppk* in) { return in == nullptr ? ike::Ppk{} : ike::Ppk{in->id, in->key, in->required}; }

ike::Childless childless_of(config::Childless in) {
  switch (in) {
    case config::Childless::never: return ike::Childless::never;
    case config::Childless::prefer: return ike::Childless::prefer;
    case config::Childless::force: return ike::Childless::force;
    case config::Childless::allow: break;
  }
  return ike::Childless::allow;
}

bool needs_key(config::AuthMethodWord method) { return method == config::AuthMethodWord::pre_share; }

std::vector<ike::EapType> eap_types_of(const std::vector<config::EapMethodWord>& methods) {
  std::vector<ike::EapType> out;
  for (const config::EapMethodWord one : methods)
    out.push_back(one == config::EapMethodWord::md5   ? ike::EapType::md5
                  : one == config::EapMethodWord::tls ? ike::EapType::tls
                                                      : ike::EapType::mschapv2);
  return out;
}

ike::Dpd dpd_of(const config::Dpd& in) {
  const auto mode = in.mode == config::DpdMode::periodic    ? ike::DpdMode::periodic
                    : in.mode == config::DpdMode::on_demand ? ike::DpdMode::on_demand
                                                            : ike::DpdMode::off;
  return {mode, in.interval_s, in.retry_s};
}

ike::EspProposal esp_proposal_of(const config::TransformSet& set, bool extended) {
  if (set.has_esp()) return {set.transform, extended, ike::ProtocolId::esp};
  return {{crypto::Cipher::none, 0, set.ah}, extended, ike::ProtocolId::ah};
}

ike::RedirectPolicy redirect_of(const config::RedirectProfile& in, const config::RedirectLimits& limits) {
  ike::RedirectPolicy out{in.follow, limits.most, limits.period_s, limits.leave_s, ike::RedirectWhen::never, {}, 0};
  if (!in.gateway) return out;
  out.when = in.gateway->when == config::RedirectWhen::auth ? ike::RedirectWhen::auth : ike::RedirectWhen::init;
  out.to = in.gateway->to;
  out.above = in.gateway->above;
  return out;
}

ike::ProtocolOptions options_of(const config::Ikev2Options& in) {
  return {in.fragmentation_mtu, in.window, in.max_selectors, in.mobike, in.crash_detection, in.cert_lookup};
}

ike::Initiate initiate_of(config::Initiate in) {
  return in == config::Initiate::always ? ike::Initiate::always : ike::Initiate::on_traffic;
}

ike::Selector selector_of_any(Family family) {
  const Prefix any{family == Family::v4 ? IpAddress::v4(0) : IpAddress{}, 0};
  return {0, 0, 65535, any.first(), any.last()};
}

std::vector<ike::Selector> side_of(const Prefix& prefix, std::uint8_t protocol,
                                   const std::vector<config::PortRange>& ports) {
  if (ports.empty()) return {{protocol, 0, 65535, prefix.first(), prefix.last()}};
  std::vector<ike::Selector> out;
  for (const config::PortRange& range : ports)
    out.push_back({protocol, range.first, range.last, prefix.first(), prefix.last()});
  return out;
}

std::vector<ike::Selector> opaque_side(const Prefix& prefix, std::uint8_t protocol) {
  return {{protocol, 65535, 0, prefix.first(), prefix.last()}};
}

}  // namespace postern::loader
