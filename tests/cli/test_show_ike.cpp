// What negotiates: postern-ike's data through posternd's builders to text, against golden files and SV-22's statuses.
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <doctest/doctest.h>

#include "cli/render.hpp"
#include "ike/selectors.hpp"
#include "ike/show.hpp"
#include "loader/show.hpp"
#include "tests/cli/node_view_fixture.hpp"

namespace postern::cli {
namespace {

using nlohmann::json;

void check_golden(const std::string& name, const std::string& text) {
  CAPTURE(name);
  const std::string path = std::string(POSTERN_GOLDEN) + "/" + name;
  if (std::getenv("POSTERN_WRITE_GOLDEN") != nullptr) std::ofstream(path) << text;
  std::ifstream in(path);
  std::stringstream stored;
  stored << in.rdbuf();
  CHECK(text == stored.str());
}

ike::Selector range(const char* prefix, std::uint8_t protocol = 0, std::uint16_t first = 0,
                    std::uint16_t last = 65535) {
  return ike::selector_of(*Prefix::parse(prefix), protocol, first, last);
}

// postern-ike with one peer up and one on its way.
struct Ike {
  ike::Policy policy;
  ike::Diagnosis diagnosis;
  std::vector<ike::Manager::Row> rows;
  std::set<std::string> negotiating;
  Time now{std::chrono::seconds(10000)};

  Ike() {
    ike::Connection connection;
    connection.name = "M1 10 out0";
    connection.profile_name = "PROF";
    connection.remote = *IpAddress::parse("192.0.2.2");
    ike::ChildPolicy child;
    child.name = "M1 10 1";
    child.place.flow = 1;
    connection.children = {child};
    policy.generation = 4;
    policy.connections = {std::make_shared<const ike::Connection>(connection)};
    policy.proposals = {{"P1",
                         {{crypto::Cipher::aes_cbc, 256}, {crypto::Cipher::aes_gcm_16, 128}},
                         {crypto::Integrity::hmac_sha512_256},
                         {crypto::Prf::hmac_sha512},
                         {crypto::DhGroup::ecp256, crypto::DhGroup::modp2048}}};
    policy.policies = {{"POL", "", "", {"P1"}}};
    ike::ProfileRow profile;
    profile.name = "PROF";
    profile.keyring = "KR";
    profile.local_authentication = profile.remote_authentication = "pre-share";
    profile.match_remote = {"address 192.0.2.2/32"};
    profile.dpd = {ike::DpdMode::periodic, 10, 2};
    policy.profiles = {profile};
    rows = {up()};
  }
  static ike::Manager::Row up() {
    ike::Manager::Row row;
    row.number = 1;
    row.established = Time{std::chrono::seconds(9767)};
    ike::SessionView& view = row.session;
    view.phase = ike::SessionPhase::established;
    view.connection = "M1 10 out0";
    view.profile = "PROF";
    view.initiator = true;
    view.local = {*IpAddress::parse("192.0.2.1"), 4500};
    view.remote = {*IpAddress::parse("192.0.2.2"), 61000};
    view.spi_i = 0x750CBE827434A245;
    view.spi_r = 0x4353FEDBABEBF24C;
    view.suite = ike::IkeSuite{{crypto::Cipher::aes_cbc, 256, crypto::Integrity::hmac_sha512_256},
                               crypto::Prf::hmac_sha512,
                               crypto::DhGroup::ecp256};
    view.local_identity = ike::Identity::of(view.local.address);
    view.remote_identity = ike::Identity::of(ike::IdType::fqdn, "gw.example.org");
    view.local_auth = "RSA-PSS with SHA-256";
    view.remote_auth = "PSK";
    view.nat_remote = true;
    view.age = std::chrono::seconds(233);
    view.lifetime = std::chrono::seconds(86400);
    view.next_request = 2;
    view.next_expected = 1;
    view.dpd = {ike::DpdMode::periodic, 10, 2};
    ike::ChildView child;
    child.id = ike::ChildId{9};
    child.name = "M1 10 1";
    child.interface = "out0";
    child.flow = 1;
    child.spi_in = 4098;
    child.spi_out = 4097;
    child.local = {range("10.1.0.0/16")};
    child.remote = {range("10.2.0.0/17", 6, 443, 443)};
    child.suite = {{crypto::Cipher::aes_cbc, 128, crypto::Integrity::hmac_sha256_128}, false, crypto::DhGroup::ecp384};
    child.age = std::chrono::seconds(233);
    child.lifetime = std::chrono::seconds(3600);
    view.children = {child};
    return row;
  }
  [[nodiscard]] json ask(const char* command, const json& args = json::object()) const {
    ike::ShowInput input;
    input.facts.pid = 4712;
    input.facts.uptime_s = 3725;
    input.facts.broker_connected = input.facts.worker_connected = true;
    input.facts.sockets = {{0, Family::v4, 500}, {0, Family::v4, 4500}};
    input.now = now;
    input.policy = &policy;
    input.rows = rows;
    input.negotiating = negotiating;
    input.diagnosis = &diagnosis;
    const auto shown = ike::show(command, args, input);
    REQUIRE(shown);
    REQUIRE((*shown)["ok"] == true);
    return (*shown)["data"];
  }
};

// The fixed node, with its IPv4 map negotiated.
loader::NodeView negotiated_view(const Ike& ike) {
  loader::NodeView view = fixed_view();
  view.document.crypto_maps[0].entries[0].negotiated = true;
  loader::FlowView& flow = view.flows[0];
  flow.negotiated = true;
  flow.owner = "M1 10 out0";
  for (auto* const sa : {&flow.inbound, &flow.outbound}) {
    (*sa)->parameters.hard_bytes =
        4608000ULL * 1024 + (sa == &flow.inbound ? inbound_grace_bytes : 0);  // as postern-ike installs them
    (*sa)->parameters.replay_window = 64;
    (*sa)->parameters.udp_encapsulation = true;
    (*sa)->parameters.remote_port = 61000;
  }
  view.ike = ike.ask("show crypto session");
  return view;
}

json shown(const char* command, const loader::NodeView& view, const json& args = json::object()) {
  const auto data = loader::show(command, args, view);
  if (!data) FAIL(data.error().message());
  return *data;
}

json detailed(json data) {
  data["detail"] = true;
  return data;
}

ike::Event failed(const char* peer, ike::FailureKind kind, const char* summary, const char* offered,
                  const char* accepted, const char* differs, const char* remedy, bool by_peer, bool initiator) {
  ike::Event event;
  event.kind = ike::EventKind::attempt_failed;
  event.connection = "M1 10 out0";
  event.local = {*IpAddress::parse("192.0.2.1"), 500};
  event.remote = {*IpAddress::parse(peer), 500};
  event.initiator = initiator;
  event.failure = ike::Failure{kind, summary, offered, accepted, differs, remedy, by_peer};
  return event;
}

}  // namespace

TEST_CASE("golden: negotiated SAs in show crypto session [detail] and show crypto ipsec sa (SO-03, SO-05, SO-07)") {
  const loader::NodeView view = negotiated_view(Ike());
  const json session = shown("show crypto session", view, {{"interface", "out0"}});
  check_golden("ike_crypto_session.txt", render_crypto_session(session));
  check_golden("ike_crypto_session_detail.txt", render_crypto_session(detailed(session)));
  check_golden("ike_crypto_session.json", render_json(session));
  const json sa = shown("show crypto ipsec sa", view, {{"map", "M1"}});
  check_golden("ike_crypto_ipsec_sa.txt", render_crypto_ipsec_sa(sa));
  check_golden("ike_crypto_ipsec_sa.json", render_json(sa));
}

TEST_CASE("golden: show crypto ikev2 sa and session, short and detail (SO-10, SO-11)") {
  const Ike ike;
  const json data = ike.ask("show crypto ikev2 session");
  check_golden("ikev2_session.txt", render_ikev2_session(data));
  check_golden("ikev2_session_detail.txt", render_ikev2_session(detailed(data)));
  check_golden("ikev2_session.json", render_json(data));
  check_golden("ikev2_sa.txt", render_ikev2_sa(ike.ask("show crypto ikev2 sa")));
}

TEST_CASE("golden: show crypto ikev2 proposal, policy, profile (SO-23); show ike") {
  const Ike ike;
  check_golden("ikev2_proposal.txt", render_ikev2_proposals(ike.ask("show crypto ikev2 proposal")));
  check_golden("ikev2_policy.txt", render_ikev2_policies(ike.ask("show crypto ikev2 policy")));
  check_golden("ikev2_profile.txt", render_ikev2_profiles(ike.ask("show crypto ikev2 profile")));
  check_golden("ike.txt", render_ike(ike.ask("show ike")));
}

TEST_CASE("golden: show crypto ikev2 diagnose tells what was offered, accepted, different, and what to do") {
  Ike ike;
  const ike::Diagnosis::WallTime time = std::chrono::sys_days{std::chrono::year{2026} / 1 / 2};
  ike.diagnosis.take(
      failed("192.0.2.2", ike::FailureKind::no_common_ike_proposal, "no common IKE proposal",
             "AES-CBC-256 / HMAC-SHA256-128 / PRF-HMAC-SHA256 / group 19", "AES-GCM-128 / PRF-HMAC-SHA256 / group 19",
             "encryption", "add aes-cbc-256 to proposal P1, or aes-gcm-128 at the peer", false, false),
      time);
  ike.diagnosis.take(failed("2001:db8::2", ike::FailureKind::wrong_key, "the pre-shared keys differ", "", "", "",
                            "set the same key at both ends", true, true),
                     time + std::chrono::seconds(60));
  for (int i = 0; i < 3; ++i)
    ike.diagnosis.take(failed("192.0.2.7", ike::FailureKind::no_answer_after_float, "silent after the float to 4500",
                              "", "", "", "let UDP port 4500 through", false, true),
                       time + std::chrono::seconds(90 + i));
  const json data = ike.ask("show crypto ikev2 diagnose");
  check_golden("ikev2_diagnose.txt", render_ikev2_diagnose(data));
  check_golden("ikev2_diagnose.json", render_json(data));
  CHECK(render_ikev2_diagnose(ike.ask("show crypto ikev2 diagnose", {{"peer", "192.0.2.99"}})) ==
        "No attempt has failed.\n");
}

TEST_CASE("IKE-58: the description of a peer is printed, escaped, by --json as it is; another's, or none, is not") {
  loader::NodeView view = negotiated_view(Ike());
  const auto shown_as = [&](std::vector<config::PeerDescription> all) {
    view.document.ikev2.peer_descriptions = std::move(all);
    return shown("show crypto session", view, {{"interface", "out0"}});
  };
  const json before = shown_as({});
  const std::string peer = before["sessions"][0]["peer"]["address"];
  CHECK(before["sessions"][0]["peer"]["description"].is_null());
  CHECK(render_crypto_session(detailed(before)).find("      Desc: (none)\n") != std::string::npos);

  const std::string evil = "Head\x1b[2J office\r\nInterface: forged\x7f\xc2\x9b";
  const json described = shown_as({{"192.0.2.250", "somebody else"}, {peer, evil}});
  CHECK(described["sessions"][0]["peer"]["description"] == evil);
  const std::string words = render_crypto_session(detailed(described));
  CHECK(words.find("      Desc: Head\\x1B[2J office\\x0D\\x0AInterface: forged\\x7F") != std::string::npos);
  CHECK(words.find('\x1b') == std::string::npos);
  CHECK(words.find("\nInterface: forged") == std::string::npos);
  CHECK(render_crypto_session(described).find("Head") == std::string::npos);  // detail alone has the line
  CHECK(render_json(described).find('\x1b') == std::string::npos);

  CHECK(shown_as({{"192.0.2.250", "somebody else"}})["sessions"][0]["peer"]["description"].is_null());
  CHECK(shown_as({}) == before);
}

TEST_CASE("SV-22: the status of a negotiated session") {
  struct Row {
    const char* status;
    bool session, established, children, sas, negotiating;
  };
  const Row rows[] = {
      {"UP-ACTIVE", true, true, true, true, false},          {"UP-IDLE", true, true, false, false, false},
      {"UP-NO-IKE", false, false, false, true, false},       {"UP-NO-IKE", true, false, false, true, true},
      {"DOWN-NEGOTIATING", true, false, false, false, true}, {"DOWN-NEGOTIATING", false, false, false, false, true},
      {"DOWN", false, false, false, false, false},
  };
  for (const Row& row : rows) {
    CAPTURE(row.status);
    Ike ike;
    if (!row.session) ike.rows.clear();
    if (row.session && !row.established) {
      ike.rows[0].session.phase = ike::SessionPhase::init_sent;
      ike.rows[0].established.reset();
    }
    if (row.session && !row.children) ike.rows[0].session.children.clear();
    if (row.negotiating) ike.negotiating = {"M1 10 out0"};
    loader::NodeView view = negotiated_view(ike);
    if (!row.sas) {
      view.flows[0].inbound.reset();
      view.flows[0].outbound.reset();
    }
    CHECK(shown("show crypto session", view, {{"peer", "192.0.2.2"}})["sessions"][0]["status"] == row.status);
  }
}

TEST_CASE("without an answer of postern-ike the data plane's part is shown") {
  loader::NodeView view = negotiated_view(Ike());
  view.ike = nullptr;
  const json session = shown("show crypto session", view, {{"interface", "out0"}})["sessions"][0];
  CHECK(session["status"] == "UP-NO-IKE");
  CHECK(session["flows"][0]["in"]["life_s"].is_null());
  CHECK(session["flows"][0]["in"]["life_kb"] == 4608000 - 88);
  CHECK(render_crypto_session(detailed({{"sessions", {session}}})).find("Capabilities") == std::string::npos);
}

TEST_CASE("answers of commands") {
  CHECK(render_clear_session({{"cleared", 1}}) == "1 session cleared\n");
  CHECK(render_connect({{"connections", 2}, {"started", 1}}).starts_with("1 of 2 connections started"));
  CHECK(render_connect({{"connections", 1}, {"started", 0}}) == "1 connection is up\n");
  CHECK(render_rekey({{"rekeyed", 2}}) == "rekey of 2 IKE SAs begun\n");
  CHECK(render_redirect({{"to", "gw2.example"}, {"matched", 3}, {"redirected", 2}}) ==
        "2 of 3 sessions sent to gw2.example\n");
  CHECK(render_debug({{"debug", true}}) == "IKEv2 debugging is on\n");
  CHECK(render_debug({{"debug", false}}) == "IKEv2 debugging is off\n");
}

}  // namespace postern::cli
