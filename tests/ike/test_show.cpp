// What `show` says, from plain values; what a failed attempt leaves; what the log says.
#include <doctest/doctest.h>

#include "ike/events.hpp"
#include "ike/show.hpp"
#include "tests/ike/manager_lab.hpp"

using namespace postern;
using namespace postern::ike;
using nlohmann::json;

namespace {

struct Shown {
  Policy policy;
  Diagnosis diagnosis;
  std::vector<Manager::Row> rows;
  std::set<std::string> negotiating;
  Time now{std::chrono::hours(2)};

  [[nodiscard]] json ask(std::string_view command, const json& args = json::object()) const {
    ShowInput input;
    input.facts.pid = 42;
    input.facts.uptime_s = 7;
    input.facts.broker_connected = true;
    input.now = now;
    input.policy = &policy;
    input.rows = rows;
    input.negotiating = negotiating;
    input.diagnosis = &diagnosis;
    const auto shown = show(command, args, input);
    return shown ? *shown : json("unknown");
  }
};

Manager::Row session_row() {
  Manager::Row row;
  row.number = 3;
  row.established = Time{std::chrono::hours(1)};
  SessionView& view = row.session;
  view.phase = SessionPhase::established;
  view.connection = "M1 10";
  view.profile = "IPROF";
  view.initiator = true;
  view.local = {manager_lab::ip("192.0.2.1"), 4500};
  view.remote = {manager_lab::ip("192.0.2.2"), 61000};
  view.spi_i = 0xa1;
  view.spi_r = 0xb2;
  view.suite = IkeSuite{{crypto::Cipher::aes_cbc, 256, crypto::Integrity::hmac_sha512_256},
                        crypto::Prf::hmac_sha512,
                        crypto::DhGroup::ecp256};
  view.local_identity = Identity::of(view.local.address);
  view.remote_identity = Identity::of(IdType::fqdn, "gw.example.org");
  view.nat_remote = true;
  view.age = std::chrono::seconds(3600);
  view.lifetime = std::chrono::seconds(86400);
  view.next_request = 4;
  view.dpd = {DpdMode::periodic, 10, 2};
  ChildView child;
  child.id = ChildId{9};
  child.name = "M1 10 1";
  child.interface = "out0";
  child.flow = 5;
  child.spi_in = 0x9360A95;
  child.spi_out = 0x6C340600;
  child.local = {any_selector(Family::v4)};
  child.remote = {selector_of(*Prefix::parse("10.2.0.0/16"), 6, 443, 443)};
  child.suite.transform = {crypto::Cipher::aes_gcm_16, 128, crypto::Integrity::none};
  child.age = std::chrono::seconds(100);
  child.lifetime = std::chrono::seconds(3600);
  view.children = {child};
  return row;
}

Event failed_event(const char* peer, FailureKind kind, std::string offered = {}) {
  Event event;
  event.kind = EventKind::attempt_failed;
  event.connection = "M1 10";
  event.local = {manager_lab::ip("192.0.2.1"), 500};
  event.remote = {manager_lab::ip(peer), 500};
  event.text = "no common IKE proposal";
  event.failure = Failure{kind, event.text, std::move(offered), "AES-GCM-128", "encryption", "add it", false};
  return event;
}

}  // namespace

TEST_CASE("show: what is known, and what is not") {
  const Shown shown;
  for (const auto& [command, list] :
       std::initializer_list<std::pair<const char*, const char*>>{{"show crypto ikev2 sa", "sessions"},
                                                                  {"show crypto ikev2 session", "sessions"},
                                                                  {"show crypto ikev2 proposal", "proposals"},
                                                                  {"show crypto ikev2 policy", "policies"},
                                                                  {"show crypto ikev2 profile", "profiles"},
                                                                  {"show crypto ikev2 diagnose", "attempts"},
                                                                  {"show crypto isakmp sa", "sas"},
                                                                  {"show crypto isakmp peers", "peers"}}) {
    CAPTURE(command);
    const auto reply = shown.ask(command);
    CHECK(reply["ok"] == true);
    CHECK(reply["data"][list] == json::array());
  }
  CHECK(shown.ask("show crypto ikev3 sa") == "unknown");
  CHECK(shown.ask("show crypto ikev2 sa", {{"peer", "no address"}})["exit"] == 2);
  CHECK(shown.ask("show crypto ikev2 proposal", {{"name", "none such"}})["ok"] == false);
}

TEST_CASE("show ike: the process itself") {
  const auto reply = Shown().ask("show ike");
  CHECK(reply["data"]["pid"] == 42);
  CHECK(reply["data"]["uptime_s"] == 7);
  CHECK(reply["data"]["broker_connected"] == true);
  CHECK(reply["data"]["worker_connected"] == false);
  CHECK(reply["data"]["reason"].get<std::string>().find("negotiates") != std::string::npos);
}

TEST_CASE("show crypto ikev2 session: one SA with its child, as SO-11 wants the fields") {
  Shown shown;
  shown.rows = {session_row()};
  const auto sessions = shown.ask("show crypto ikev2 session")["data"]["sessions"];
  REQUIRE(sessions.size() == 1);
  CHECK(sessions[0]["status"] == "UP-ACTIVE");
  CHECK(sessions[0]["family"] == "ipv4");
  const json& sa = sessions[0]["sas"][0];
  CHECK(sa["local_spi"] == "00000000000000A1");
  CHECK(sa["remote_spi"] == "00000000000000B2");
  CHECK(sa["state"] == "READY");
  CHECK(sa["encr"] == "AES-CBC");
  CHECK(sa["keysize"] == 256);
  CHECK(sa["hash"] == "SHA512");
  CHECK(sa["dh_group"] == 19);
  CHECK(sa["remaining_s"] == 82800);
  CHECK(sa["remote_id"] == "gw.example.org");
  CHECK(sa["nat_t"] == "detected outside");
  CHECK(sa["dpd_s"] == 10);
  CHECK(sa["msgid"]["local_next"] == 4);
  CHECK(sa["children"][0]["esp_spi_in"] == "0x9360A95");
  CHECK(sa["children"][0]["remote_ts"][0]["port_from"] == 443);
  CHECK(shown.ask("show crypto ikev2 session", {{"peer", "192.0.2.9"}})["data"]["sessions"].empty());
  CHECK(shown.ask("show crypto ikev2 session", {{"peer", "192.0.2.2"}})["data"]["sessions"].size() == 1);

  shown.rows[0].session.children.clear();
  CHECK(shown.ask("show crypto ikev2 sa")["data"]["sessions"][0]["status"] == "UP-IDLE");
  shown.rows[0].session.phase = SessionPhase::auth_sent;
  CHECK(shown.ask("show crypto ikev2 sa")["data"]["sessions"][0]["status"] == "DOWN-NEGOTIATING");
}

TEST_CASE("show crypto session: IKE's part names connection, flows, capabilities and what is being negotiated") {
  Shown shown;
  shown.rows = {session_row()};
  shown.policy.connections = {
      std::make_shared<const Connection>(manager_lab::connection("M1 10", "192.0.2.1", "192.0.2.2", 5))};
  shown.negotiating = {"M1 10"};
  const auto data = shown.ask("show crypto session")["data"];
  CHECK(data["sessions"][0]["connection"] == "M1 10");
  CHECK(data["sessions"][0]["uptime_s"] == 3600);
  CHECK(data["sessions"][0]["ike"]["capabilities"] == json({"D", "N"}));
  CHECK(data["connections"][0]["flows"] == json({5}));
  CHECK(data["connections"][0]["negotiating"] == true);
  CHECK(data["sessions"][0]["children"][0]["flow"] == 5);
}

TEST_CASE("show crypto ikev2 proposal and profile: names as the guide spells them; one by name") {
  Shown shown;
  shown.policy.proposals = {{"P1",
                             {{crypto::Cipher::aes_cbc, 256}},
                             {crypto::Integrity::hmac_sha1_96},
                             {crypto::Prf::hmac_sha1},
                             {crypto::DhGroup::modp2048, crypto::DhGroup::ecp256}},
                            {"P2", {}, {}, {}, {}}};
  ProfileRow profile;
  profile.name = "PROF";
  profile.dpd = {DpdMode::on_demand, 10, 6};
  shown.policy.profiles = {profile};
  const auto all = shown.ask("show crypto ikev2 proposal")["data"]["proposals"];
  REQUIRE(all.size() == 2);
  CHECK(all[0]["encryption"] == json({"AES-CBC-256"}));
  CHECK(all[0]["integrity"] == json({"SHA96"}));
  CHECK(all[0]["groups"] == json({14, 19}));
  CHECK(shown.ask("show crypto ikev2 proposal", {{"name", "P2"}})["data"]["proposals"].size() == 1);
  CHECK(shown.ask("show crypto ikev2 profile")["data"]["profiles"][0]["dpd"]["mode"] == "on-demand");
}

TEST_CASE("diagnose: newest first, repeats counted, bounded for a peer and in all, filtered by peer") {
  Diagnosis diagnosis;
  const Diagnosis::WallTime time = std::chrono::sys_days{std::chrono::year{2026} / 1 / 2};
  diagnosis.take(failed_event("192.0.2.2", FailureKind::no_common_ike_proposal, "AES-CBC-256"), time);
  diagnosis.take(failed_event("192.0.2.3", FailureKind::wrong_key), time);
  diagnosis.take(failed_event("192.0.2.2", FailureKind::no_common_ike_proposal, "AES-CBC-256"),
                 time + std::chrono::seconds(5));
  Event quiet = failed_event("192.0.2.4", FailureKind::refused);
  quiet.failure.reset();
  diagnosis.take(quiet, time);
  const auto rows = diagnosis.to_json(std::nullopt);
  REQUIRE(rows.size() == 2);
  CHECK(rows[0]["peer"] == "192.0.2.2");
  CHECK(rows[0]["count"] == 2);
  CHECK(rows[0]["first"] == "2026-01-02T00:00:00Z");
  CHECK(rows[0]["last"] == "2026-01-02T00:00:05Z");
  CHECK(rows[0]["failure"] == "no_common_ike_proposal");
  CHECK(rows[0]["offered"] == "AES-CBC-256");
  CHECK(rows[0]["remedy"] == "add it");
  CHECK(rows[1]["failure"] == "wrong_key");
  CHECK(diagnosis.to_json(manager_lab::ip("192.0.2.3")).size() == 1);

  for (int i = 0; i < 100; ++i)
    diagnosis.take(failed_event("192.0.2.5", FailureKind::selectors, std::to_string(i)), time);
  CHECK(diagnosis.to_json(manager_lab::ip("192.0.2.5")).size() == Diagnosis::max_per_peer);
  CHECK(diagnosis.to_json(manager_lab::ip("192.0.2.2")).size() == 1);
  for (int i = 0; i < 300; ++i)
    diagnosis.take(
        failed_event(("203.0.113." + std::to_string(i % 250)).c_str(), FailureKind::selectors, std::to_string(i)),
        time);
  CHECK(diagnosis.to_json(std::nullopt).size() == Diagnosis::max_attempts);
}

TEST_CASE("a log line: every record names peer, SPIs and connection; foreign text cannot break out of its value") {
  Event event = failed_event("2001:db8::2", FailureKind::wrong_identity, "it said \"x\" \x1b[2J\nevent=ike_up");
  event.spi_i = 0xa1;
  event.spi_in = 0x1001;
  const std::string line = line_of(event);
  CHECK(line.starts_with("event=attempt_failed connection=\"M1 10\" local=192.0.2.1:500 remote=[2001:db8::2]:500 "));
  CHECK(line.find("spi_i=00000000000000A1") != std::string::npos);
  CHECK(line.find("spi_in=0x1001") != std::string::npos);
  CHECK(line.find("failure=wrong_identity") != std::string::npos);
  CHECK(line.find(R"(offered="it said \"x\" \x1B[2J\x0Aevent=ike_up")") != std::string::npos);
  CHECK(line.find('\n') == std::string::npos);
}

TEST_CASE("messages that are ignored are told at most so often") {
  EventLog log;
  Event event;
  event.kind = EventKind::message_ignored;
  const Time now{std::chrono::hours(1)};
  for (int i = 0; i < 100; ++i) log.take(event, now);
  CHECK(log.suppressed() == 90);
  log.take(event, now + std::chrono::seconds(1));
  CHECK(log.suppressed() == 90);
}
