// Node view to JSON to text, against the stored files in golden/. A changed layout is looked at, and then stored with
// POSTERN_WRITE_GOLDEN=1 test_cli.
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <doctest/doctest.h>

#include "cli/render.hpp"
#include "config/load.hpp"
#include "loader/show.hpp"
#include "tests/cli/node_view_fixture.hpp"

namespace postern::cli {
namespace {

using loader::NodeView;
using nlohmann::json;

std::string stored(const std::string& name) {
  std::ifstream in(std::string(POSTERN_GOLDEN) + "/" + name);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

void check_golden(const std::string& name, const std::string& text) {
  CAPTURE(name);
  if (std::getenv("POSTERN_WRITE_GOLDEN") != nullptr) std::ofstream(std::string(POSTERN_GOLDEN) + "/" + name) << text;
  CHECK(text == stored(name));
}

json data_of(const char* command, const json& args, const NodeView& view) {
  auto data = loader::show(command, args, view);
  if (!data) FAIL(data.error().message());
  return *data;
}

std::string error_of(const char* command, const json& args, const NodeView& view) {
  const auto data = loader::show(command, args, view);
  return data ? "" : data.error().message();
}

}  // namespace

TEST_CASE("golden: text and JSON of every show") {
  struct Row {
    const char* file;
    const char* command;
    json args;
    std::string (*render)(const json&);
  };
  const Row rows[] = {
      {"crypto_map", "show crypto map", json::object(), render_crypto_map},
      {"crypto_ipsec_sa", "show crypto ipsec sa", json::object(), render_crypto_ipsec_sa},
      {"crypto_session", "show crypto session", json::object(), render_crypto_session},
      {"interface_tunnel0", "show interface tunnel", {{"number", 0U}}, render_interface_tunnel},
      {"interface_tunnel1", "show interface tunnel", {{"number", 1U}}, render_interface_tunnel},
      {"dataplane", "show dataplane", json::object(), render_dataplane},
      {"config", "config show", json::object(), render_config_show},
  };
  const NodeView view = fixed_view();
  for (const Row& row : rows) {
    const json data = data_of(row.command, row.args, view);
    check_golden(row.file + std::string(".txt"), row.render(data));
    check_golden(row.file + std::string(".json"), render_json(data));
  }
}

TEST_CASE("golden: SO-06 of every form of entry; SO-22 and SO-24, templates with and without a list") {
  auto loaded = config::load_file(POSTERN_EXAMPLES "/all-keys.json", {.read_secret_files = false});
  if (!loaded) FAIL(config::to_text(loaded.error()));
  NodeView view = fixed_view();
  view.document = std::move(loaded->document);
  view.flows.clear();
  const json map = data_of("show crypto map", json::object(), view),
             dynamic = data_of("show crypto dynamic-map", json::object(), view),
             sets = data_of("show crypto ipsec transform-set", json::object(), view);
  check_golden("all_crypto_map.txt", render_crypto_map(map));
  check_golden("all_crypto_map.json", render_json(map));
  check_golden("crypto_dynamic_map.txt", render_crypto_dynamic_map(dynamic));
  check_golden("crypto_dynamic_map.json", render_json(dynamic));
  check_golden("crypto_ipsec_transform_set.txt", render_crypto_ipsec_transform_set(sets));
  check_golden("crypto_ipsec_transform_set.json", render_json(sets));
  CHECK(error_of("show crypto dynamic-map", {{"tag", "NONE"}}, view).find("no dynamic map") != std::string::npos);
  CHECK(!error_of("show crypto ipsec transform-set", {{"tag", "NONE"}}, view).empty());
}

TEST_CASE("show: no key material, text or JSON") {
  const NodeView view = fixed_view();
  std::ifstream in(POSTERN_EXAMPLES "/lab-n1.json");
  const json document = json::parse(in);
  const std::string key = document["crypto_maps"][0]["entries"][0]["session_key"]["inbound"]["esp"]["cipher"];
  for (const char* const command : {"show crypto map", "show crypto ipsec sa", "show crypto ipsec transform-set",
                                    "show crypto session", "show dataplane", "config show"})
    CHECK(data_of(command, json::object(), view).dump().find(key.substr(0, 8)) == std::string::npos);
}

TEST_CASE("show: filters, and what they do not find") {
  const NodeView view = fixed_view();
  struct Row {
    const char* command;
    json args;
    const char* list;
    std::size_t count;
  };
  const Row rows[] = {
      {"show crypto map", json::object(), "maps", 4},
      {"show crypto map", {{"tag", "M1"}}, "maps", 1},
      {"show crypto map", {{"tag", "Tunnel0-head-0"}}, "maps", 1},
      {"show crypto map", {{"interface", "out0"}}, "maps", 2},
      {"show crypto map", {{"interface", "out0"}, {"tag", "M6"}}, "maps", 1},
      {"show crypto ipsec sa", json::object(), "interfaces", 4},
      {"show crypto ipsec sa", {{"interface", "out0"}}, "interfaces", 2},
      {"show crypto ipsec sa", {{"map", "M6"}}, "interfaces", 1},
      {"show crypto ipsec sa", {{"peer", "2001:DB8:FF:0::2"}}, "interfaces", 2},
      {"show crypto ipsec transform-set", {{"tag", "T1"}}, "transform_sets", 1},
      {"show crypto session", json::object(), "sessions", 4},
      {"show crypto session", {{"interface", "Tunnel0"}}, "sessions", 1},
  };
  for (const Row& row : rows) {
    CAPTURE(row.args.dump());
    CHECK(data_of(row.command, row.args, view)[row.list].size() == row.count);
  }
  CHECK(!error_of("show crypto map", {{"tag", "nobody"}}, view).empty());
  CHECK(!error_of("show crypto map", {{"tag", "M1"}, {"interface", "in0"}}, view).empty());
  CHECK(!error_of("show crypto ipsec sa", {{"peer", "192.0.2.9"}}, view).empty());
  CHECK(!error_of("show crypto ipsec transform-set", {{"tag", "T9"}}, view).empty());
  CHECK(!error_of("show crypto ipsec sa", {{"peer", "nobody"}}, view).empty());
  CHECK(!error_of("show crypto session", {{"interface", "in0"}}, view).empty());
  CHECK(!error_of("show crypto session", {{"colour", "red"}}, view).empty());
  CHECK(!error_of("show crypto map", {{"tag", 7}}, view).empty());
  CHECK(!error_of("show interface tunnel", {{"number", 9U}}, view).empty());
  CHECK(!error_of("show interface tunnel", json::object(), view).empty());
  CHECK(!error_of("show weather", json::object(), view).empty());
}

TEST_CASE("show crypto session: status follows both SAs") {
  NodeView view = fixed_view();
  const auto status = [&](const char* interface) {
    return data_of("show crypto session", {{"interface", interface}}, view)["sessions"][0]["status"];
  };
  CHECK(status("Tunnel0") == "UP-NO-IKE");
  view.flows[2].outbound.reset();
  CHECK(status("Tunnel0") == "DOWN");
  CHECK(status("Tunnel1") == "DOWN");
}

TEST_CASE("show interface tunnel: the line follows admin state and SAs (SV-08)") {
  NodeView view = fixed_view();
  const auto line = [&] { return render_interface_tunnel(data_of("show interface tunnel", {{"number", 0U}}, view)); };
  CHECK(line().starts_with("Tunnel0 is up, line protocol is up\n"));
  view.flows[2].inbound.reset();
  CHECK(line().starts_with("Tunnel0 is up, line protocol is down\n"));
  view.devices[3].admin_up = false;
  CHECK(line().starts_with("Tunnel0 is administratively down, line protocol is down\n"));
}

TEST_CASE("show dataplane: the balance adds up what the parts say") {
  NodeView view = fixed_view();
  const json balance = data_of("show dataplane", json::object(), view)["balance"];
  CHECK(balance["in"] == 210);
  CHECK(balance["out"] == 205);
  CHECK(balance["drops"] == 4);
  CHECK(balance["held"] == 1);
  CHECK(balance["difference"] == 0);
  view.worker_drops[POSTERN_DROP_bad_icv] = 0;
  CHECK(data_of("show dataplane", json::object(), view)["balance"]["difference"] == 3);
}

TEST_CASE("show: flows whose objects are gone are left out") {
  NodeView view = fixed_view();
  view.document.tunnels.clear();
  view.document.crypto_maps[0].entries[0].sequence = 20;
  CHECK(data_of("show crypto session", json::object(), view)["sessions"].size() == 1);
  CHECK(data_of("show crypto ipsec sa", json::object(), view)["interfaces"].size() == 1);
  view.document.acls.clear();
  CHECK(data_of("show crypto session", json::object(), view)["sessions"].empty());
}

TEST_CASE("show: names from outside cannot write on the terminal") {
  NodeView view = fixed_view();
  view.devices[0].plain_side = "tap";
  view.devices[0].plain_side_reason = "\x1b[2J\nDrops: none";
  view.state = "degraded: \x07\xc2\x9b";
  const std::string text = render_dataplane(data_of("show dataplane", json::object(), view));
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(text.find('\x07') == std::string::npos);
  CHECK(text.find("\nDrops: none") == std::string::npos);
  CHECK(text.find("\\x1B[2J\\x0ADrops: none") != std::string::npos);
}

}  // namespace postern::cli
