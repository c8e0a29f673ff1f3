// The "ikev2" section: names of algorithms to their numbers, identities, keys.
#include <algorithm>
#include <array>

#include "config/convert.hpp"
#include "config/secret_file.hpp"
#include "crypto/transforms.hpp"

namespace postern::config {
namespace {

using nlohmann::json;

// Names that the guide or other products have and that we do not offer, with the reason (IKE-24 to IKE-26).
struct Unavailable {
  std::string_view name, reason;
};
constexpr std::array<Unavailable, 6> unavailable_ciphers = {{
    {"null", "IKE without encryption is not available"},
    {"aes-cbc-196", "AES has no key of 196 bits; the guide's example means aes-cbc-192"},
    {"aes-cbc", "the key length belongs to the name"},
    {"aes-gcm", "the key length belongs to the name"},
    {"aes-ccm", "the key length belongs to the name"},
    {"aes-ctr", "the key length belongs to the name"},
}};
constexpr std::array<Unavailable, 1> unavailable_integrity = {{
    {"none", "only AEADs go without integrity: leave the list out"},
}};

template <class Rows>
std::string joined(const Rows& rows, auto name_of) {
  std::string out;
  for (const auto& row : rows)
    if (const std::string name(name_of(row)); !name.empty()) out += (out.empty() ? "" : ", ") + name;
  return out;
}
std::string cipher_words() {
  return joined(crypto::named_transforms(),
                [](const auto& r) { return r.cipher == crypto::Cipher::none ? "" : r.ike_word; });
}
std::string integrity_words() {
  return joined(crypto::named_transforms(),
                [](const auto& r) { return r.cipher == crypto::Cipher::none ? r.ike_word : ""; });
}
std::string prf_words() {
  return joined(crypto::named_prfs(), [](const auto& r) { return r.word; });
}
std::string group_words() {
  return joined(crypto::named_groups(), [](const auto& r) { return std::to_string(static_cast<unsigned>(r.group)); });
}

template <class Rows>
void refuse_word(const std::string& word, const Rows& unavailable, const std::string& what, const std::string& allowed,
                 const std::string& path, Report& report) {
  const auto known = std::ranges::find(unavailable, word, &Unavailable::name);
  report.error(path,
               known == std::end(unavailable) ? quoted(path, word) + " is not a known " + what
                                              : fmt::format("{}: {}", quoted(path, word), known->reason),
               allowed);
}

void warn_weak(bool weak, const std::string& word, const char* better, const std::string& path, Report& report) {
  if (weak) report.warning(path, word + " is weak and deprecated", better);
}
constexpr const char* better_hash = "sha256, sha384 or sha512";

// The list under `key`, each member through `convert_one`, which reports what it does not know.
template <class T>
std::vector<T> convert_list(const json& object, const char* key, const std::string& path, Report& report,
                            auto convert_one) {
  std::vector<T> out;
  std::size_t index = 0;
  for (const json& member : list_of(object, key)) {
    const std::string here = at("{}/{}/{}", path, key, index++);
    const std::optional<T> one = convert_one(member, here);
    if (!one) continue;
    if (std::ranges::find(out, *one) != out.end())
      report.warning(here, "is in the list already");
    else
      out.push_back(*one);
  }
  return out;
}

std::vector<IkeEncryption> convert_encryption(const json& in, const std::string& path, Report& report) {
  return convert_list<IkeEncryption>(in, "encryption", path, report,
                                     [&](const json& member, const std::string& here) -> std::optional<IkeEncryption> {
                                       const std::string word = member;
                                       const auto* const row = crypto::find_ike_cipher(word);
                                       if (row == nullptr) {
                                         refuse_word(word, unavailable_ciphers, "cipher", cipher_words(), here, report);
                                         return std::nullopt;
                                       }
                                       warn_weak(row->weak, word, "aes-gcm-256 or aes-cbc-256", here, report);
                                       return IkeEncryption{row->cipher, row->key_bits};
                                     });
}

std::vector<crypto::Integrity> convert_integrity(const json& in, const std::string& path, Report& report) {
  return convert_list<crypto::Integrity>(
      in, "integrity", path, report,
      [&](const json& member, const std::string& here) -> std::optional<crypto::Integrity> {
        const std::string word = member;
        const auto* const row = crypto::find_ike_integrity(word);
        if (row == nullptr)
          refuse_word(word, unavailable_integrity, "integrity algorithm", integrity_words(), here, report);
        else
          warn_weak(row->weak, word, better_hash, here, report);
        return row == nullptr ? std::nullopt : std::optional(row->integrity);
      });
}

std::vector<crypto::Prf> convert_prf(const json& in, const std::string& path, Report& report) {
  return convert_list<crypto::Prf>(in, "prf", path, report,
                                   [&](const json& member, const std::string& here) -> std::optional<crypto::Prf> {
                                     const std::string word = member;
                                     const auto* const row = crypto::find_prf(word);
                                     if (row == nullptr)
                                       refuse_word(word, unavailable_integrity, "PRF", prf_words(), here, report);
                                     else
                                       warn_weak(row->weak, word, better_hash, here, report);
                                     return row == nullptr ? std::nullopt : std::optional(row->prf);
                                   });
}

std::vector<crypto::DhGroup> convert_groups(const json& in, const std::string& path, Report& report) {
  return convert_list<crypto::DhGroup>(in, "group", path, report, [&](const json& member, const std::string& here) {
    return convert_group(member.get<std::uint32_t>(), here, report);
  });
}

// IKE-35: the PRF of the same hash. An AEAD proposal that names neither gets the strong ones.
std::vector<crypto::Prf> prf_of(const std::vector<crypto::Integrity>& integrity) {
  std::vector<crypto::Prf> out;
  for (const crypto::Integrity one : integrity) {
    const auto* const row = crypto::find_integrity(one);
    const auto* const prf = row == nullptr ? nullptr : crypto::find_prf(row->ike_word);
    if (prf != nullptr) out.push_back(prf->prf);
  }
  if (out.empty()) out = {crypto::Prf::hmac_sha512, crypto::Prf::hmac_sha384, crypto::Prf::hmac_sha256};
  return out;
}

Ikev2Proposal convert_proposal(const json& in, const std::string& path, Report& report) {
  Ikev2Proposal out;
  out.name = in["name"];
  out.encryption = convert_encryption(in, path, report);
  out.integrity = convert_integrity(in, path, report);
  out.prf = convert_prf(in, path, report);
  out.groups = convert_groups(in, path, report);
  if (out.prf.empty()) out.prf = prf_of(out.integrity);
  return out;
}

// the strong one of the guide's two default sets. What the peer chooses from, best first.
Ikev2Proposal default_proposal() {
  using crypto::Cipher, crypto::DhGroup, crypto::Integrity;
  Ikev2Proposal out;
  out.name = "default";
  out.encryption = {{Cipher::aes_gcm_16, 256},
                    {Cipher::aes_cbc, 256},
                    {Cipher::chacha20_poly1305, 256},
                    {Cipher::aes_gcm_16, 128},
                    {Cipher::aes_cbc, 128}};
  out.integrity = {Integrity::hmac_sha512_256, Integrity::hmac_sha384_192, Integrity::hmac_sha256_128};
  out.prf = prf_of(out.integrity);
  out.groups = {DhGroup::ecp256,   DhGroup::ecp384,   DhGroup::ecp521,  DhGroup::curve25519,
                DhGroup::modp2048, DhGroup::modp3072, DhGroup::modp4096};
  return out;
}

// IKE-33: the guide's older default, for who names it.
Ikev2Proposal legacy_proposal() {
  using crypto::Cipher, crypto::DhGroup, crypto::Integrity;
  Ikev2Proposal out;
  out.name = legacy_proposal_name;
  out.encryption = {{Cipher::aes_cbc, 128}, {Cipher::triple_des_cbc, 192}};
  out.integrity = {Integrity::hmac_sha1_96, Integrity::hmac_md5_96};
  out.prf = prf_of(out.integrity);
  out.groups = {DhGroup::modp1536, DhGroup::modp1024};
  return out;
}

Ikev2Scope convert_scope(const json& in, const std::string& path, Conversion& conversion) {
  Ikev2Scope out;
  if (const auto local = in.find("address_local"); local != in.end()) {
    const std::string text = *local;
    out.local = conversion.keep(parse_address(text), path + "/address_local", text);
  }
  if (const auto fvrf = in.find("fvrf"); fvrf != in.end()) out.fvrf = fvrf->get<std::string>();
  return out;
}

Dpd convert_dpd(const json& parent, const Dpd& inherited) {
  const auto in = parent.find("dpd");
  if (in == parent.end()) return inherited;
  Dpd out;
  const std::string mode = in->value("mode", "on-demand");
  out.mode = mode == "periodic" ? DpdMode::periodic : mode == "off" ? DpdMode::off : DpdMode::on_demand;
  out.interval_s = in->value("interval", out.interval_s);
  out.retry_s = in->value("retry", out.retry_s);
  return out;
}

// --- identities

// One member of {"address", "fqdn", "email", "key_id"}; `prefix`: the address may be a network.
IdentityRule convert_identity(const json& in, const std::string& path, bool prefix, Conversion& conversion) {
  if (in.is_string()) return {};  // "any", says the schema
  if (in.size() != 1) {
    conversion.report.error(path, fmt::format("names {} identities", in.size()),
                            "one of address, fqdn, email and key_id");
    return {};
  }
  const auto member = in.begin();
  const std::string text = member.value(), here = path + "/" + member.key();
  if (member.key() == "address") {
    if (prefix && text.find('/') != std::string::npos)
      return {IdentityKind::address, conversion.keep(parse_network(text), here, text), {}};
    return {IdentityKind::address, Prefix::host(conversion.keep(parse_address(text), here, text)), {}};
  }
  if (member.key() == "fqdn") return {IdentityKind::fqdn, {}, text};
  if (member.key() == "email") {
    if (text.find('@') == std::string::npos)
      conversion.report.error(here, quoted(here, text) + " is not an e-mail address", "\"name@example.org\"");
    return {IdentityKind::email, {}, text};
  }
  return {IdentityKind::key_id, {}, conversion.keep(parse_key_id(text), here, text)};
}

// --- keys

// A key, {"file"}, or {"local", "remote"} with one of those each.
void convert_keys(const json& value, const std::string& path, KeyringPeer& out, Conversion& conversion) {
  const bool local = value.is_object() && value.contains("local"),
             remote = value.is_object() && value.contains("remote");
  const bool file = value.is_object() && value.contains("file");
  if (!value.is_object() || (file && !local && !remote)) {
    out.local_key = out.remote_key = convert_pre_shared_key(value, path, conversion);
    return;
  }
  if (!local || !remote || file)
    return conversion.report.error(path, "is neither one key nor two", "a key, {\"file\"}, or {\"local\", \"remote\"}");
  out.local_key = convert_pre_shared_key(value["local"], path + "/local", conversion);
  out.remote_key = convert_pre_shared_key(value["remote"], path + "/remote", conversion);
}

KeyringPeer convert_peer(const json& in, const std::string& path, Conversion& conversion) {
  KeyringPeer out;
  out.name = in["name"];
  if (const auto address = in.find("address"); address != in.end()) {
    const std::string text = *address, here = path + "/address";
    out.address = text.find('/') == std::string::npos ? Prefix::host(conversion.keep(parse_address(text), here, text))
                                                      : conversion.keep(parse_network(text), here, text);
  }
  if (const auto identity = in.find("identity"); identity != in.end())
    out.identity = convert_identity(*identity, path + "/identity", false, conversion);
  if (const auto keys = in.find("pre_shared_key"); keys != in.end())
    convert_keys(*keys, path + "/pre_shared_key", out, conversion);
  else if (!in.contains("ppk"))
    conversion.report.error(path, "has neither pre_shared_key nor ppk", "pre_shared_key, ppk");
  if (const auto ppk = in.find("ppk"); ppk != in.end())
    out.ppk = Ppk{(*ppk)["id"], convert_pre_shared_key((*ppk)["key"], path + "/ppk/key", conversion),
                  ppk->value("required", true)};
  return out;
}

constexpr std::array<std::pair<const char*, AuthMethodWord>, 5> method_words = {{
    {"pre-share", AuthMethodWord::pre_share},
    {"rsa-sig", AuthMethodWord::rsa_sig},
    {"ecdsa-sig", AuthMethodWord::ecdsa_sig},
    {"signature", AuthMethodWord::signature},
    {"eap", AuthMethodWord::eap},
}};

AuthMethodWord convert_method(const json& in, const std::string& path, Conversion& conversion) {
  const std::string said = in["method"];
  for (const auto& [name, method] : method_words)
    if (said == name) return method;
  conversion.report.error(path + "/method", "is not a known method", "pre-share, rsa-sig, ecdsa-sig, signature, eap");
  return AuthMethodWord::pre_share;
}

Secret convert_authentication_key(const json& in, AuthMethodWord method, const std::string& path,
                                  Conversion& conversion) {
  if (!in.contains("key")) return {};
  if (method == AuthMethodWord::eap)
    conversion.report.error(path + "/key", "is of no use: the method is eap", "eap.password of local, or eap_users");
  if (is_signature(method))
    conversion.report.error(path + "/key", "is of no use: the method signs with the key of a trustpoint",
                            "pki_trustpoints in the profile");
  return convert_pre_shared_key(in["key"], path + "/key", conversion);
}

// IKE-40: "pki trustpoint NAME [sign | verify]". A profile signs with the first, or with another one that says so and
// whose CA the peer asks for; and verifies against all of them.
void convert_trustpoints_of(const json& in, Ikev2Profile& out) {
  for (const json& one : list_of(in, "pki_trustpoints")) {
    const std::string name = one.is_string() ? one.get<std::string>() : one["name"].get<std::string>();
    const std::string use = one.is_string() ? "both" : one.value("use", "both");
    if (use != "sign") out.verify_trustpoints.push_back(name);
    if (use == "verify") continue;
    if (!out.sign_trustpoint)
      out.sign_trustpoint = name;
    else if (one.is_object() && one.contains("use"))
      out.other_sign_trustpoints.push_back(name);
  }
}

ClientConfiguration convert_configuration(const json& in, const std::string& path, Conversion& conversion) {
  ClientConfiguration out;
  const auto networks = [&](const char* key) {
    std::vector<Prefix> all;
    for (const json& member : list_of(in, key)) {
      const std::string text = member, here = at("{}/{}/{}", path, key, all.size());
      all.push_back(conversion.keep(parse_network(text), here, text));
    }
    return all;
  };
  out.pools = networks("pools");
  out.subnets = networks("subnets");
  for (const json& member : list_of(in, "dns")) {
    const std::string text = member;
    out.dns.push_back(conversion.keep(parse_address(text), at("{}/dns/{}", path, out.dns.size()), text));
  }
  out.banner = in.value("banner", std::string());
  out.required = in.value("required", false);
  return out;
}

Childless childless_of(const std::string& text) {
  for (const Childless one : {Childless::never, Childless::prefer, Childless::force})
    if (text == word(one)) return one;
  return Childless::allow;
}

RedirectProfile convert_redirect(const json& in, const std::string& path, Conversion& conversion) {
  RedirectProfile out;
  out.follow = in.value("follow", false);
  if (!in.contains("gateway")) return out;
  const json& gateway = in["gateway"];
  const std::string here = path + "/gateway/to", to = gateway["to"];
  RedirectGateway& of = out.gateway.emplace();
  const Peer target = conversion.keep(parse_peer(to), here, to);
  of.to = target.is_name() ? target.name : target.address.text();
  if (!target.is_name() && (target.address.is_unspecified() || target.address.is_multicast()) &&
      !conversion.report.failed_at(here))
    conversion.report.error(here, quoted(here, to) + " is no address of a gateway",
                            "another gateway's address or name");
  of.when = gateway.value("when", "init") == std::string("auth") ? RedirectWhen::auth : RedirectWhen::init;
  of.above = gateway.value("above", 0U);
  return out;
}

Ikev2Profile convert_profile(const json& in, const std::string& path, const Dpd& dpd, Conversion& conversion) {
  Ikev2Profile out;
  const json& match = in["match"];
  out.name = in["name"];
  for (const json& rule : list_of(match, "identity_remote"))
    out.match_remote.push_back(
        convert_identity(rule, at("{}/match/identity_remote/{}", path, out.match_remote.size()), true, conversion));
  for (const json& name : list_of(match, "certificate")) out.match_certificate.push_back(name.get<std::string>());
  out.match = convert_scope(match, path + "/match", conversion);
  if (in.contains("identity_local"))
    out.local_identity = in["identity_local"] == "dn"
                             ? IdentityRule{IdentityKind::dn, {}, {}}
                             : convert_identity(in["identity_local"], path + "/identity_local", false, conversion);
  const json &local = in["authentication"]["local"], &remote = in["authentication"]["remote"];
  out.local_method = convert_method(local, path + "/authentication/local", conversion);
  out.remote_method = convert_method(remote, path + "/authentication/remote", conversion);
  out.local_key = convert_authentication_key(local, out.local_method, path + "/authentication/local", conversion);
  out.remote_key = convert_authentication_key(remote, out.remote_method, path + "/authentication/remote", conversion);
  if (out.local_method == AuthMethodWord::eap)
    out.eap_local = convert_eap_local(local, path + "/authentication/local", conversion);
  if (out.remote_method == AuthMethodWord::eap)
    out.eap_remote = convert_eap_remote(remote, path + "/authentication/remote", conversion);
  convert_trustpoints_of(in, out);
  out.allow_sha1 = in.value("sha1_signatures", false);
  out.rsa_pkcs1 = in.value("rsa_padding", "pss") == "pkcs1";
  if (in.contains("keyring")) out.keyring = in["keyring"].get<std::string>();
  out.lifetime_s = in.value("lifetime", out.lifetime_s);
  out.dpd = convert_dpd(in, dpd);
  out.force_encapsulation = in.value("nat_force_encap", false);
  out.childless = childless_of(in.value("childless", "allow"));
  if (in.contains("redirect")) out.redirect = convert_redirect(in["redirect"], path + "/redirect", conversion);
  out.suite_b = in.value("suite_b", false);
  if (in.contains("configuration"))
    out.configuration = convert_configuration(in["configuration"], path + "/configuration", conversion);
  return out;
}

PeerDescription convert_peer_description(const json& in, const std::string& path, Conversion& conversion) {
  PeerDescription out{in["peer"], in["description"]};
  if (const auto address = IpAddress::parse(out.peer))
    out.peer = address->text();
  else
    out.peer = conversion.keep(parse_host_name(out.peer), path + "/peer", out.peer);
  return out;
}

Keyring convert_keyring(const json& in, const std::string& path, Conversion& conversion) {
  Keyring out;
  out.name = in["name"];
  for (const json& peer : in["peers"])
    out.peers.push_back(convert_peer(peer, at("{}/peers/{}", path, out.peers.size()), conversion));
  return out;
}

}  // namespace

const char* word(Childless childless) {
  switch (childless) {
    case Childless::never: return "never";
    case Childless::allow: return "allow";
    case Childless::prefer: return "prefer";
    case Childless::force: break;
  }
  return "force";
}

const char* word(RedirectWhen when) { return when == RedirectWhen::auth ? "auth" : "init"; }

Secret convert_pre_shared_key(const json& value, const std::string& path, Conversion& conversion) {
  if (value.is_string()) return conversion.keep(parse_pre_shared_key(value.get_ref<const std::string&>()), path);
  if (!conversion.options.read_secret_files) return {};
  return conversion.keep(read_pre_shared_key_file(value["file"].get<std::string>(), conversion.options),
                         path + "/file");
}

const char* word(AuthMethodWord method) {
  for (const auto& [name, one] : method_words)
    if (one == method) return name;
  return "";
}

std::optional<crypto::DhGroup> convert_group(std::uint32_t number, const std::string& path, Report& report) {
  if (const auto* const row = number < 0x10000 ? crypto::find_group(static_cast<std::uint16_t>(number)) : nullptr) {
    if (row->weak)
      report.warning(path, fmt::format("weaker dh-group is deprecated: group {} ({})", number, row->name),
                     "group 14 and above, but 22 to 25");
    return row->group;
  }
  report.error(path, fmt::format("{} is not a known group", number), group_words());
  return std::nullopt;
}

Ikev2 convert_ikev2(const json& in, Conversion& conversion) {
  Ikev2 out;
  out.enabled = in.value("enabled", true);
  out.nat_keepalive_s = in.value("nat_keepalive", out.nat_keepalive_s);
  out.options.fragmentation_mtu = in.value("fragmentation_mtu", out.options.fragmentation_mtu);
  out.options.window = in.value("window", out.options.window);
  out.options.max_selectors = in.value("max_selectors", out.options.max_selectors);
  out.options.mobike = in.value("mobike", out.options.mobike);
  if (const auto redirect = in.find("redirect"); redirect != in.end()) {
    RedirectLimits& limits = out.options.redirect;
    limits.most = redirect->value("max_redirects", limits.most);
    limits.period_s = redirect->value("loop_period", limits.period_s);
    limits.leave_s = redirect->value("leave_within", limits.leave_s);
  }
  out.options.crash_detection = in.value("quick_crash_detection", out.options.crash_detection);
  for (const json& one : list_of(in, "http_cert_lookup")) out.options.cert_lookup.push_back(one.get<std::string>());
  out.dpd = convert_dpd(in, {});
  for (const json& proposal : list_of(in, "proposals"))
    out.proposals.push_back(
        convert_proposal(proposal, at("/ikev2/proposals/{}", out.proposals.size()), conversion.report));
  if (std::ranges::find(out.proposals, "default", &Ikev2Proposal::name) == out.proposals.end())
    out.proposals.push_back(default_proposal());
  for (const json& policy : list_of(in, "policies")) {
    const std::string path = at("/ikev2/policies/{}/match", out.policies.size());
    const auto match = policy.find("match");
    out.policies.push_back({policy["name"].get<std::string>(),
                            match == policy.end() ? Ikev2Scope{} : convert_scope(*match, path, conversion),
                            policy.value("proposals", std::vector<std::string>{"default"})});
  }
  const auto names_legacy = [](const Ikev2Policy& policy) {
    return std::ranges::find(policy.proposals, legacy_proposal_name) != policy.proposals.end();
  };
  if (std::ranges::any_of(out.policies, names_legacy)) out.proposals.push_back(legacy_proposal());
  for (const json& keyring : list_of(in, "keyrings"))
    out.keyrings.push_back(convert_keyring(keyring, at("/ikev2/keyrings/{}", out.keyrings.size()), conversion));
  out.eap_users = convert_eap_users(in, conversion);
  for (const json& one : list_of(in, "peer_descriptions"))
    out.peer_descriptions.push_back(
        convert_peer_description(one, at("/ikev2/peer_descriptions/{}", out.peer_descriptions.size()), conversion));
  for (const json& profile : list_of(in, "profiles"))
    out.profiles.push_back(
        convert_profile(profile, at("/ikev2/profiles/{}", out.profiles.size()), out.dpd, conversion));
  return out;
}

}  // namespace postern::config
