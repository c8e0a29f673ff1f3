// show crypto ikev2 sa | session (SO-10, SO-11), and IKE's part of show crypto session (SO-03, SO-05).
#include <algorithm>

#include <fmt/format.h>

#include "ike/events.hpp"
#include "ike/selectors.hpp"
#include "ike/show.hpp"
#include "ike/show_names.hpp"

namespace postern::ike {
namespace {

using nlohmann::json;

std::uint64_t seconds(Duration duration) {
  return static_cast<std::uint64_t>(
      std::max<std::int64_t>(0, std::chrono::duration_cast<std::chrono::seconds>(duration).count()));
}

std::string hex(std::uint32_t spi) { return fmt::format("0x{:X}", spi); }

json table_or_null(std::uint32_t table) { return table == 0 ? json() : json(std::to_string(table)); }

json address_json(const IpAddress& address) { return address.is_unspecified() ? json() : json(address.text()); }

std::string_view state_text(SessionPhase phase) {
  switch (phase) {
    case SessionPhase::made: return "IDLE";
    case SessionPhase::init_sent: return "IN-NEG (IKE_SA_INIT sent)";
    case SessionPhase::init_answered: return "IN-NEG (IKE_SA_INIT answered)";
    case SessionPhase::auth_sent: return "IN-NEG (IKE_AUTH sent)";
    case SessionPhase::established: return "READY";
    case SessionPhase::closing: return "DELETE";
    case SessionPhase::closed: return "DELETED";
  }
  return "";
}

json selectors_json(const std::vector<Selector>& selectors) {
  json out = json::array();
  for (const Selector& one : selectors)
    out.push_back({{"from", one.first.text()},
                   {"to", one.last.text()},
                   {"protocol", one.protocol},
                   {"port_from", one.first_port},
                   {"port_to", one.last_port},
                   {"text", text(one)}});
  return out;
}

json child_json(const ChildView& child) {
  const crypto::Transform& transform = child.suite.transform;
  const bool ah = child.suite.protocol == ProtocolId::ah;
  const std::string hmac(hash_name(transform.integrity));
  return {{"name", child.name},
          {"interface", child.interface.empty() ? json() : json(child.interface)},
          {"flow", child.flow},
          {"base_flow", child.base_flow == 0 ? json() : json(child.base_flow)},
          {"local_ts", selectors_json(child.local)},
          {"remote_ts", selectors_json(child.remote)},
          {"esp_spi_in", hex(ah ? 0 : child.spi_in)},
          {"esp_spi_out", hex(ah ? 0 : child.spi_out)},
          {"ah_spi_in", hex(ah ? child.spi_in : 0)},
          {"ah_spi_out", hex(ah ? child.spi_out : 0)},
          {"cpi_in", hex(child.cpi_in)},
          {"cpi_out", hex(child.cpi_out)},
          {"encr", cipher_name(transform.cipher)},
          {"keysize", transform.key_bits},
          {"esp_hmac", ah ? json() : json(hmac)},
          {"ah_hmac", ah ? json(hmac) : json()},
          {"comp", child.cpi_in != 0 ? json("IPCOMP_DEFLATE") : json()},
          {"mode", child.transport ? "transport" : "tunnel"},
          {"pfs_group",
           child.suite.group == crypto::DhGroup::none ? json() : json(static_cast<unsigned>(child.suite.group))},
          {"esn", child.suite.extended_sequence},
          {"age_s", seconds(child.age)},
          {"life_s", seconds(child.lifetime)},
          {"remaining_s", seconds(child.lifetime - child.age)},
          {"life_bytes", child.lifetime_bytes == 0 ? json() : json(child.lifetime_bytes)},
          {"rekeying", child.rekeying},
          {"outbound", child.outbound}};
}

json suite_json(const std::optional<IkeSuite>& suite) {
  if (!suite) return {{"encr", nullptr}, {"keysize", 0}, {"prf", nullptr}, {"hash", nullptr}, {"dh_group", 0}};
  return {{"encr", cipher_name(suite->cipher.cipher)},
          {"keysize", suite->cipher.key_bits},
          {"prf", prf_name(suite->prf)},
          {"hash", hash_name(suite->cipher.integrity)},
          {"dh_group", static_cast<unsigned>(suite->group)}};
}

template <class T>
json texts_of(const std::vector<T>& all) {
  json out = json::array();
  for (const T& one : all) out.push_back(one.text());
  return out;
}

// What the peer has lent and told us; null: it was not asked.
json configuration_json(const AssignedConfiguration& assigned) {
  if (assigned.interface.empty()) return nullptr;
  return {{"interface", assigned.interface},
          {"addresses", texts_of(assigned.addresses)},
          {"dns", texts_of(assigned.dns)},
          {"subnets", texts_of(assigned.subnets)},
          {"banner", assigned.banner}};
}

std::string nat_text(const SessionView& view) {
  if (view.nat_local && view.nat_remote) return "detected inside and outside";
  if (view.nat_local) return "detected inside";
  return view.nat_remote ? "detected outside" : "not detected";
}

json identity_or_null(const std::optional<Identity>& identity) { return identity ? json(identity->text()) : json(); }

json sa_json(const Manager::Row& row) {
  const SessionView& view = row.session;
  const bool known_by_dpd = view.dpd.mode != DpdMode::off;
  json children = json::array();
  for (const ChildView& child : view.children) children.push_back(child_json(child));
  json out = suite_json(view.suite);
  out.update({{"tunnel_id", row.number},
              {"local", view.local.address.text()},
              {"local_port", view.local.port},
              {"remote", view.remote.address.text()},
              {"remote_port", view.remote.port},
              {"fvrf", table_or_null(view.fvrf)},
              {"ivrf", nullptr},
              {"state", state_text(view.phase)},
              {"status_description", view.phase == SessionPhase::established ? "Negotiation done" : "Negotiating"},
              {"auth_sign", view.local_auth},
              {"auth_verify", view.remote_auth},
              {"remote_subject", view.remote_subject.empty() ? json() : json(view.remote_subject)},
              {"eap_identity", view.eap_identity.empty() ? json() : json(view.eap_identity)},
              {"life_s", seconds(view.lifetime)},
              {"remaining_s", seconds(view.lifetime - view.age)},
              {"active_s", seconds(view.age)},
              {"ce_id", row.number},
              {"mib_id", row.number},
              {"local_spi", spi_text(view.initiator ? view.spi_i : view.spi_r)},
              {"remote_spi", spi_text(view.initiator ? view.spi_r : view.spi_i)},
              {"local_id", identity_or_null(view.local_identity)},
              {"remote_id", identity_or_null(view.remote_identity)},
              {"msgid",
               {{"local_req", view.next_request == 0 ? 0 : view.next_request - 1},
                {"remote_req", view.next_expected == 0 ? 0 : view.next_expected - 1},
                {"local_next", view.next_request},
                {"remote_next", view.next_expected}}},
              {"queued", {{"local", view.outstanding + view.queued}, {"remote", view.early}}},
              {"window", {{"local", view.window_in}, {"remote", view.window}}},
              {"dpd_s", known_by_dpd ? view.dpd.interval_s : 0},
              {"nat_t", nat_text(view)},
              {"fragmentation", view.fragmentation},
              {"mobike", view.mobike},
              {"other_addresses", texts_of(view.others)},
              {"ppk", view.ppk},
              {"redirect",
               {{"follows", view.follows_redirects},
                {"from", view.redirected_from.empty() ? json() : json(view.redirected_from)},
                {"to", view.redirected_to.empty() ? json() : json(view.redirected_to)}}},
              {"assigned", texts_of(view.lent)},
              {"configuration", configuration_json(view.assigned)},
              {"disconnect_revoked", false},
              {"role", view.initiator ? "initiator" : "responder"},
              {"profile", view.profile.empty() ? json() : json(view.profile)},
              {"connection", view.connection.empty() ? json() : json(view.connection)},
              {"children", std::move(children)}});
  return out;
}

// The letters of SO-05's legend that are known here.
json capabilities(const SessionView& view) {
  json out = json::array();
  if (view.dpd.mode != DpdMode::off) out.push_back("D");
  if (view.nat_local || view.nat_remote) out.push_back("N");
  if (view.fragmentation) out.push_back("F");
  return out;
}

}  // namespace

json sessions_json(const ShowInput& input, const std::optional<IpAddress>& peer) {
  json out = json::array();
  for (const Manager::Row& row : input.rows) {
    const SessionView& view = row.session;
    if (peer && view.remote.address != *peer) continue;
    const bool up = view.phase == SessionPhase::established;
    const char* const status = !up ? "DOWN-NEGOTIATING" : view.children.empty() ? "UP-IDLE" : "UP-ACTIVE";
    out.push_back({{"family", view.local.address.family() == Family::v4 ? "ipv4" : "ipv6"},
                   {"session_id", row.number},
                   {"status", status},
                   {"ike_count", 1},
                   {"child_count", view.children.size()},
                   {"sas", json::array({sa_json(row)})}});
  }
  return out;
}

namespace {

json session_row(const ShowInput& input, const Manager::Row& row) {
  const SessionView& view = row.session;
  json children = json::array();
  for (const ChildView& child : view.children) children.push_back(child_json(child));
  return {{"connection", view.connection},
          {"session_id", row.number},
          {"profile", view.profile.empty() ? json() : json(view.profile)},
          {"established", view.phase == SessionPhase::established},
          {"uptime_s", row.established ? seconds(input.now - *row.established) : 0},
          {"phase1_id", identity_or_null(view.remote_identity)},
          {"ike",
           {{"version", 2},
            {"local", view.local.address.text()},
            {"lport", view.local.port},
            {"remote", view.remote.address.text()},
            {"rport", view.remote.port},
            {"state", view.phase == SessionPhase::established ? "Active" : "Inactive"},
            {"capabilities", capabilities(view)},
            {"conn_id", row.number},
            {"lifetime_s", seconds(view.lifetime - view.age)}}},
          {"children", std::move(children)}};
}

json connections_json(const ShowInput& input) {
  json connections = json::array();
  // Those of dynamic maps are in the policy as templates alone.
  for (const Manager::Row& row : input.rows) {
    const SessionView& view = row.session;
    if (!view.of_template || view.phase != SessionPhase::established) continue;
    json flows = json::array();
    for (const ChildView& child : view.children) flows.push_back(child.flow);
    connections.push_back({{"name", view.connection},
                           {"peer", view.remote.address.text()},
                           {"profile", view.profile.empty() ? json() : json(view.profile)},
                           {"negotiating", false},
                           {"flows", std::move(flows)}});
  }
  for (const auto& connection : input.policy->connections) {
    if (connection->is_template()) continue;
    json flows = json::array();
    for (const ChildPolicy& child : connection->children) flows.push_back(child.place.flow);
    connections.push_back({{"name", connection->name},
                           {"peer", address_json(connection->remote)},
                           {"profile", connection->profile_name.empty() ? json() : json(connection->profile_name)},
                           {"negotiating", input.negotiating.contains(connection->name)},
                           {"flows", std::move(flows)}});
  }
  return connections;
}

}  // namespace

json crypto_session_json(const ShowInput& input) {
  json sessions = json::array();
  for (const Manager::Row& row : input.rows) {
    const SessionView& view = row.session;
    if (view.connection.empty() || view.phase == SessionPhase::closing || view.phase == SessionPhase::closed) continue;
    sessions.push_back(session_row(input, row));
  }
  json current = json::array();
  for (const auto& [flow, peer] : input.current_peers)
    current.push_back({{"flow", flow}, {"peer", address_json(peer)}});
  json names = json::array();
  for (const Manager::NameRow& row : input.names)
    names.push_back({{"connection", row.connection},
                     {"name", row.name},
                     {"family", row.family == Family::v4 ? "ipv4" : "ipv6"},
                     {"dynamic", row.dynamic},
                     {"address", row.address ? json(row.address->text()) : json()},
                     {"problem", row.problem}});
  return {{"sessions", std::move(sessions)},
          {"connections", connections_json(input)},
          {"current_peers", std::move(current)},
          {"names", std::move(names)}};
}

}  // namespace postern::ike
