// show crypto ikev2 proposal | policy | profile (SO-23 and its relatives).
#include <fmt/format.h>

#include "ike/show.hpp"
#include "ike/show_names.hpp"

namespace postern::ike {

using nlohmann::json;

json proposals_json(const Policy& policy, const std::string& name) {
  json out = json::array();
  for (const IkeProposal& proposal : policy.proposals) {
    if (!name.empty() && proposal.name != name) continue;
    json encryption = json::array(), integrity = json::array(), prf = json::array(), groups = json::array();
    for (const EncryptionChoice& one : proposal.encryption)
      encryption.push_back(fmt::format("{}-{}", cipher_name(one.cipher), one.key_bits));
    for (const auto one : proposal.integrity) integrity.push_back(hash_name(one));
    for (const auto one : proposal.prf) prf.push_back(prf_name(one));
    for (const auto one : proposal.groups) groups.push_back(static_cast<unsigned>(one));
    out.push_back({{"name", proposal.name},
                   {"encryption", std::move(encryption)},
                   {"integrity", std::move(integrity)},
                   {"prf", std::move(prf)},
                   {"groups", std::move(groups)},
                   {"default", proposal.name.starts_with("default")}});
  }
  return out;
}

json policies_json(const Policy& policy, const std::string& name) {
  json out = json::array();
  for (const PolicyRow& row : policy.policies) {
    if (!name.empty() && row.name != name) continue;
    out.push_back({{"name", row.name},
                   {"match_local", row.match_local.empty() ? json("any") : json(row.match_local)},
                   {"match_fvrf", row.match_fvrf.empty() ? json() : json(row.match_fvrf)},
                   {"proposals", row.proposals}});
  }
  return out;
}

json profiles_json(const Policy& policy, const std::string& name) {
  json out = json::array();
  for (const ProfileRow& row : policy.profiles) {
    if (!name.empty() && row.name != name) continue;
    json dpd;
    if (row.dpd.mode != DpdMode::off)
      dpd = {{"interval_s", row.dpd.interval_s},
             {"retry_s", row.dpd.retry_s},
             {"mode", row.dpd.mode == DpdMode::periodic ? "periodic" : "on-demand"}};
    out.push_back({{"name", row.name},
                   {"match_remote", row.match_remote},
                   {"local_identity", row.local_identity.empty() ? json() : json(row.local_identity)},
                   {"keyring", row.keyring.empty() ? json() : json(row.keyring)},
                   {"local_authentication", row.local_authentication},
                   {"remote_authentication", row.remote_authentication},
                   {"lifetime_s", row.lifetime_s},
                   {"dpd", std::move(dpd)}});
  }
  return out;
}

}  // namespace postern::ike
