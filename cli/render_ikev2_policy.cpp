// show crypto ikev2 proposal | policy | profile (SO-23 and its relatives), show crypto ikev2 diagnose.
#include <fmt/core.h>

#include "cli/render.hpp"
#include "cli/text.hpp"

namespace postern::cli {
namespace {

using nlohmann::json;

std::string joined(const json& object, const char* key) {
  std::string out;
  for (const json& one : list(object, key)) {
    const std::string word = one.is_string() ? printable(one.get<std::string>()) : one.dump();
    out += (out.empty() ? "" : " ") + word;
  }
  return out.empty() ? "(none)" : out;
}

std::string line(const char* label, const std::string& value) { return fmt::format("     {:<11}: {}\n", label, value); }

std::string dpd_text(const json& profile) {
  const json& dpd = profile.at("dpd");
  if (dpd.is_null()) return "Disabled";
  return fmt::format("interval {}, retry-interval {}, {}", number(dpd, "interval_s"), number(dpd, "retry_s"),
                     text(dpd, "mode"));
}

// A text of several lines, each under the label's column.
std::string labelled(const char* label, const json& attempt, const char* key) {
  std::string rest = text(attempt, key);
  if (rest.empty()) return "";
  return fmt::format("    {:<15}{}\n", label, rest);
}

}  // namespace

std::string render_ikev2_proposals(const json& data) {
  std::string out;
  for (const json& proposal : list(data, "proposals")) {
    out += " IKEv2 proposal: " + text(proposal, "name") + (flag(proposal, "default") ? " (default)" : "") + "\n";
    out += line("Encryption", joined(proposal, "encryption")) + line("Integrity", joined(proposal, "integrity")) +
           line("PRF", joined(proposal, "prf")) + line("DH Group", joined(proposal, "groups"));
  }
  return out.empty() ? "There is no IKEv2 proposal.\n" : out;
}

std::string render_ikev2_policies(const json& data) {
  std::string out;
  for (const json& policy : list(data, "policies")) {
    out += " IKEv2 policy : " + text(policy, "name") + "\n";
    out += fmt::format("      Match fvrf : {}\n      Match address local : {}\n", text(policy, "match_fvrf", "global"),
                       text(policy, "match_local"));
    for (const json& proposal : list(policy, "proposals"))
      out += "      Proposal    : " + printable(proposal.get<std::string>()) + "\n";
  }
  return out.empty() ? "There is no IKEv2 policy.\n" : out;
}

std::string render_ikev2_profiles(const json& data) {
  std::string out;
  for (const json& profile : list(data, "profiles")) {
    out += "IKEv2 profile: " + text(profile, "name") + "\n Match criteria:\n  Identities:\n";
    for (const json& match : list(profile, "match_remote")) out += "   " + printable(match.get<std::string>()) + "\n";
    out += fmt::format(" Local identity: {}\n Remote identity: none\n", text(profile, "local_identity", "address"));
    out += fmt::format(" Local authentication method: {}\n Remote authentication method(s): {}\n",
                       text(profile, "local_authentication"), text(profile, "remote_authentication"));
    out += fmt::format(" Keyring: {}\n Lifetime: {} seconds\n DPD: {}\n", text(profile, "keyring", "none"),
                       number(profile, "lifetime_s"), dpd_text(profile));
  }
  return out.empty() ? "There is no IKEv2 profile.\n" : out;
}

namespace {

std::string peer_text(const json& attempt) {
  const std::string name = text(attempt, "peer_name"), at = address(text(attempt, "peer"));
  if (name.empty()) return at;
  return text(attempt, "failure") == "unresolved" ? name : name + " (" + at + ")";
}

}  // namespace

std::string render_ikev2_diagnose(const json& data) {
  std::string out;
  for (const json& attempt : list(data, "attempts")) {
    const bool initiator = text(attempt, "role") == "initiator";
    out += fmt::format("{}Peer {} port {}, local {} port {}, we {}\n", out.empty() ? "" : "\n", peer_text(attempt),
                       number(attempt, "peer_port"), address(text(attempt, "local")), number(attempt, "local_port"),
                       initiator ? "initiated" : "answered");
    if (const auto connection = text(attempt, "connection"); !connection.empty()) {
      const auto child = text(attempt, "child");
      out += fmt::format("    {:<15}{}{}\n", "connection:", connection, child.empty() ? "" : ", child " + child);
    }
    const auto count = number(attempt, "count");
    out += fmt::format("    {:<15}{}{}\n", "when:", text(attempt, "last"),
                       count > 1 ? fmt::format(", {} times since {}", count, text(attempt, "first")) : "");
    out += fmt::format("    {:<15}{} ({}, {})\n", "failed:", text(attempt, "summary"), text(attempt, "failure"),
                       text(attempt, "said_by") == "peer" ? "the peer says so" : "we say so");
    out += labelled("peer offers:", attempt, "offered") + labelled("we accept:", attempt, "accepted") +
           labelled("difference:", attempt, "differs") + labelled("to do:", attempt, "remedy");
  }
  return out.empty() ? "No attempt has failed.\n" : out;
}

}  // namespace postern::cli
