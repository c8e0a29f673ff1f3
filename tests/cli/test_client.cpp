// The whole tool against a fake node: what it asks, what it prints, where, and how it ends.
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include "cli/postern.hpp"
#include "tests/cli/fake_node.hpp"

namespace postern::cli {
namespace {

using nlohmann::json;

struct Outcome {
  Exit exit;
  std::string out, err;
};

Outcome postern(const RunDirectory& run_directory, const std::vector<std::string>& arguments) {
  ::unsetenv("POSTERN_NODE");
  std::ostringstream out, err;
  const Exit exit = run(arguments, {run_directory.path, run_directory.path / "bin"}, out, err);
  return {exit, out.str(), err.str()};
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::string success(const json& data) { return json{{"ok", true}, {"data", data}}.dump() + "\n"; }
std::string failure(const json& error, int exit) {
  return json{{"ok", false}, {"error", error}, {"exit", exit}}.dump() + "\n";
}

}  // namespace

TEST_CASE("the request is one line, the answer's data is printed as text or as JSON") {
  const json data = {{"sessions", json::array()}};
  const RunDirectory run_directory;
  for (const bool as_json : {false, true}) {
    std::string asked;
    std::filesystem::remove_all(run_directory.path / "N1");
    Outcome outcome;
    {
      const FakeNode node(run_directory, "N1", [&](const std::string& line, int connection) {
        asked = line;
        FakeNode::send_all(connection, success(data));
      });
      outcome = postern(run_directory,
                        as_json ? std::vector<std::string>{"sh", "cry", "sess", "int", "out0", "--json"}
                                : std::vector<std::string>{"--node", "N1", "sh", "cry", "sess", "int", "out0"});
    }
    CHECK(json::parse(asked) == json{{"command", "show crypto session"}, {"args", {{"interface", "out0"}}}});
    CHECK(outcome.exit == Exit::ok);
    CHECK(outcome.err.empty());
    CHECK(outcome.out == (as_json ? data.dump(2) + "\n" : "Crypto session current status\n"));
  }
}

TEST_CASE("exit codes and hints") {
  struct Row {
    std::string answer;
    Exit exit;
    const char* words;
  };
  const Row rows[] = {
      {failure({{"message", "there is no Tunnel9"}}, 1), Exit::failed, "postern: there is no Tunnel9\n"},
      {failure({{"message", "missing"}, {"path", "/acls/0"}}, 1), Exit::failed, "/acls/0: missing"},
      {failure({{"message", "/a: x\n/b: y\n"}, {"path", "/a"}, {"problems", json::array()}}, 1), Exit::failed,
       "postern: /a: x\n/b: y\n"},
      {failure({{"message", "unknown argument"}}, 2), Exit::usage, "unknown argument"},
      {failure({{"message", "not permitted"}}, 4), Exit::not_permitted, "not permitted"},
      {failure({{"message", "odd"}}, 77), Exit::failed, "odd"},
      {failure({{"message", "\x1b[2J"}}, 1), Exit::failed, "\\x1B[2J"},
      {"{\"ok\": tr\n", Exit::failed, "not understood"},
      {"[]\n", Exit::failed, "not understood"},
      {"", Exit::failed, "closed the connection"},
      {success({{"devices", 1}}), Exit::failed, "another shape"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.answer);
    const RunDirectory run_directory;
    const FakeNode node(run_directory, "N1", FakeNode::text(row.answer));
    const auto outcome = postern(run_directory, {"show", "dataplane"});
    CAPTURE(outcome.err);
    CHECK(outcome.exit == row.exit);
    CHECK(outcome.out.empty());
    CHECK(has(outcome.err, row.words));
  }
}

TEST_CASE("which node: the only one, $POSTERN_NODE, --node, or a question") {
  const RunDirectory run_directory;
  auto outcome = postern(run_directory, {"show", "dataplane"});
  CHECK(outcome.exit == Exit::not_running);
  CHECK(has(outcome.err, "start one: posternd"));
  outcome = postern(run_directory, {"--node", "N7", "show", "dataplane"});
  CHECK(outcome.exit == Exit::not_running);
  CHECK(has(outcome.err, "systemctl start posternd@N7"));
  outcome = postern(run_directory, {"--node", "../x", "show", "dataplane"});
  CHECK(outcome.exit == Exit::usage);
  std::filesystem::create_directory(run_directory.path / "N1");
  outcome = postern(run_directory, {"show", "dataplane"});
  CHECK(outcome.exit == Exit::not_running);
  CHECK(has(outcome.err, "node N1 is not running"));
  std::filesystem::create_directory(run_directory.path / "N2");
  outcome = postern(run_directory, {"show", "dataplane"});
  CHECK(outcome.exit == Exit::usage);
  CHECK(has(outcome.err, "N1, N2"));
  ::setenv("POSTERN_NODE", "N2", 1);
  std::ostringstream out, err;
  CHECK(run({"show", "dataplane"}, {run_directory.path, ""}, out, err) == Exit::not_running);
  CHECK(has(err.str(), "node N2"));
  ::unsetenv("POSTERN_NODE");
}

TEST_CASE("usage: what the command line itself gets wrong") {
  const RunDirectory run_directory;
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{},
                                             {"sh"},
                                             {"--colour"},
                                             {"show", "dataplane", "-c", "3"},
                                             {"capture", "--side", "left"},
                                             {"capture", "-c", "x"},
                                             {"--node"}}) {
    const auto outcome = postern(run_directory, arguments);
    CAPTURE(outcome.err);
    CHECK(outcome.exit == Exit::usage);
    CHECK(outcome.out.empty());
    CHECK(!outcome.err.empty());
  }
  CHECK(has(postern(run_directory, {"--help"}).out, "show crypto ipsec sa"));
  CHECK(postern(run_directory, {"--help"}).exit == Exit::ok);
  CHECK(has(postern(run_directory, {"--version"}).out, "postern 0."));
}

TEST_CASE("config check works offline, config apply sends a whole document and no broken one") {
  const RunDirectory run_directory;
  const std::string good = POSTERN_EXAMPLES "/all-keys.json", bad = run_directory.path / "bad.json";
  std::ofstream(bad) << R"({"version": 1, "colour": "red"})";
  auto outcome = postern(run_directory, {"config", "check", good, "--skip-secrets"});
  CHECK(outcome.exit == Exit::ok);
  CHECK(outcome.out == good + " is valid\n");
  outcome = postern(run_directory, {"config", "check", bad});
  CHECK(outcome.exit == Exit::failed);
  CHECK(has(outcome.err, "/colour: unknown key"));
  outcome = postern(run_directory, {"--json", "config", "check", bad});
  CHECK(outcome.exit == Exit::failed);
  CHECK(json::parse(outcome.out)["errors"][0]["path"] == "/colour");

  std::string asked;
  {
    const FakeNode node(run_directory, "N1", [&](const std::string& line, int connection) {
      asked = line;
      FakeNode::send_all(
          connection,
          success({{"changes", {{{"change", "added"}, {"section", "acls"}, {"name", "WEB"}, {"applies", "at once"}}}},
                   {"confirm_within_s", 60}}));
    });
    outcome = postern(run_directory, {"config", "apply", bad});
    CHECK(outcome.exit == Exit::failed);
    CHECK(has(outcome.err, "nothing was changed"));
    outcome = postern(run_directory, {"config", "apply", good, "--confirm", "60"});
    CHECK(postern(run_directory, {"config", "diff", good, "--confirm", "60"}).exit == Exit::usage);
    CHECK(postern(run_directory, {"config", "apply", good, "--confirm", "0"}).exit == Exit::usage);
  }
  CHECK(outcome.exit == Exit::ok);
  CHECK(outcome.out == "added acls WEB: at once\nGoes back in 60 seconds unless `postern config confirm` is said.\n");
  std::ifstream in(good);
  CHECK(json::parse(asked) ==
        json{{"command", "config apply"}, {"args", {{"document", json::parse(in)}, {"confirm", 60}}}});
}

TEST_CASE("teardown: by the node, and by posternd beside us when no node runs") {
  const RunDirectory run_directory;
  std::filesystem::create_directory(run_directory.path / "bin");
  const std::string program = run_directory.path / "bin" / "posternd", log = run_directory.path / "log";
  const auto install = [&](int status) {
    std::ofstream(program) << "#!/bin/sh\necho \"$@\" > " << log << "\nexit " << status << "\n";
    REQUIRE(::chmod(program.c_str(), 0755) == 0);
  };
  CHECK(postern(run_directory, {"--node", "N1", "teardown"}).exit == Exit::failed);  // no posternd there
  install(0);
  CHECK(postern(run_directory, {"--node", "N1", "teardown"}).exit == Exit::ok);
  std::string said;
  std::getline(std::ifstream(log), said);
  CHECK(said == "--name N1 --teardown");
  install(5);
  const auto failed = postern(run_directory, {"--node", "N1", "teardown"});
  CHECK(failed.exit == Exit::failed);
  CHECK(has(failed.err, "--teardown failed"));
  // A node that refuses is not torn down behind its back.
  std::filesystem::remove(log);
  const FakeNode node(run_directory, "N1", FakeNode::text(failure({{"message", "not permitted"}}, 4)));
  CHECK(postern(run_directory, {"--node", "N1", "teardown"}).exit == Exit::not_permitted);
  CHECK(!std::filesystem::exists(log));
}

}  // namespace postern::cli
