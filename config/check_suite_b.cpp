// TS-43: what an IKEv2 profile that is labelled suite B may be used with. The label is a promise about all of it, so
// each part that does not keep it is refused by itself.
#include <algorithm>
#include <array>

#include "config/check.hpp"
#include "config/ikev2_lookup.hpp"
#include "crypto/transforms.hpp"

namespace postern::config {
namespace {

using crypto::Cipher;
using crypto::DhGroup;
using crypto::Integrity;
using crypto::Prf;

constexpr std::array ike_ciphers{Cipher::aes_cbc, Cipher::aes_gcm_16};
constexpr std::array esp_ciphers{Cipher::aes_gcm_16, Cipher::aes_gmac};
constexpr std::array hashes{Integrity::hmac_sha256_128, Integrity::hmac_sha384_192, Integrity::hmac_sha512_256};
constexpr std::array prfs{Prf::hmac_sha256, Prf::hmac_sha384, Prf::hmac_sha512};
constexpr std::array groups{DhGroup::ecp256, DhGroup::ecp384, DhGroup::ecp521};

template <class T>
bool among(const T& all, typename T::value_type one) {
  return std::ranges::find(all, one) != all.end();
}

void refuse(Check& check, const std::string& path, const std::string& what, const Ikev2Profile& profile,
            const char* instead) {
  if (!check.report.failed_at(path))
    check.report.error(
        path, fmt::format("{} is not of suite B, and IKEv2 profile {} is labelled so", what, profile.name), instead);
}

void check_group(Check& check, const std::string& path, DhGroup group, const Ikev2Profile& profile) {
  if (among(groups, group)) return;
  const auto* const named = crypto::find_group(static_cast<std::uint16_t>(group));
  refuse(check, path, fmt::format("group {} ({})", static_cast<unsigned>(group), named ? named->name : "?"), profile,
         "group 19, 20 or 21");
}

void check_offer(Check& check, const std::string& path, const Ikev2Proposal& proposal, const Ikev2Profile& profile) {
  for (std::size_t i = 0; i < proposal.encryption.size(); ++i) {
    const auto& [cipher, bits] = proposal.encryption[i];
    if (!among(ike_ciphers, cipher))
      refuse(check, at("{}/encryption/{}", path, i), std::string(crypto::find_cipher(cipher, bits)->ike_word), profile,
             "aes-cbc or aes-gcm of 128, 192 or 256 bits");
  }
  for (std::size_t i = 0; i < proposal.integrity.size(); ++i)
    if (!among(hashes, proposal.integrity[i]))
      refuse(check, at("{}/integrity/{}", path, i),
             std::string(crypto::find_integrity(proposal.integrity[i])->ike_word), profile, "sha256, sha384 or sha512");
  for (std::size_t i = 0; i < proposal.prf.size(); ++i)
    if (!among(prfs, proposal.prf[i]))
      refuse(check, at("{}/prf/{}", path, i), "PRF " + std::string(crypto::ike_name(proposal.prf[i])), profile,
             "sha256, sha384 or sha512");
  for (std::size_t i = 0; i < proposal.groups.size(); ++i)
    check_group(check, at("{}/group/{}", path, i), proposal.groups[i], profile);
}

// What this end would offer and take; the built-in proposals have algorithms that are not of suite B.
void check_policy(Check& check, const SuiteBUse& use, const Ikev2Profile& profile, const Ikev2Ends& ends) {
  const Ikev2& ikev2 = check.document.ikev2;
  const Ikev2Policy* const policy = policy_for(ikev2, ends);
  const auto written = check.source["ikev2"].find("proposals");
  const std::size_t count = written == check.source["ikev2"].end() ? 0 : written->size();
  if (policy == nullptr)
    return refuse(check, use.path, "the built-in proposal \"default\"", profile, "an IKEv2 policy for these ends");
  for (const std::string& name : policy->proposals) {
    const auto index = index_of(ikev2.proposals, name);
    if (index && *index < count)
      check_offer(check, at("/ikev2/proposals/{}", *index), ikev2.proposals[*index], profile);
    else if (index || name == legacy_proposal_name)
      refuse(check, use.path, "the built-in proposal \"" + name + "\"", profile, "a proposal of the document");
  }
}

void check_method(Check& check, const std::string& path, AuthMethodWord method, const Ikev2Profile& profile) {
  if (method != AuthMethodWord::ecdsa_sig) refuse(check, path + "/method", word(method), profile, "ecdsa-sig");
}

}  // namespace

void check_suite_b(Check& check) {
  for (std::size_t i = 0; i < check.document.ikev2.profiles.size(); ++i) {
    const Ikev2Profile& profile = check.document.ikev2.profiles[i];
    if (!profile.suite_b) continue;
    const std::string path = at("/ikev2/profiles/{}", i);
    check_method(check, path + "/authentication/local", profile.local_method, profile);
    check_method(check, path + "/authentication/remote", profile.remote_method, profile);
  }
}

void check_suite_b_use(Check& check, const SuiteBUse& use, const Ikev2Profile* profile, const Ikev2Ends& ends) {
  if (profile == nullptr || !profile->suite_b) return;
  check_policy(check, use, *profile, ends);
  if (use.pfs) check_group(check, use.pfs_path, *use.pfs, *profile);
  for (const std::string& name : use.sets) {
    const TransformSet* const set = find_named(check.document.transform_sets, name);
    if (set != nullptr && (set->has_ah() || !among(esp_ciphers, set->transform.cipher)))
      refuse(check, use.sets_path, "transform set " + name, *profile, "esp-gcm or esp-gmac, without AH");
  }
}

}  // namespace postern::config
