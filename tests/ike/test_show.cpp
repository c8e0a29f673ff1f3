#include <doctest/doctest.h>

#include "ike/show.hpp"

using postern::ike::answer;
using postern::ike::DaemonFacts;

TEST_CASE("show: what postern-ike answers, and what it refuses") {
  const DaemonFacts facts{42, 7, true, 3};
  struct Row {
    const char* request;
    bool ok;
    const char* list;  // an empty list expected under this key
  };
  const Row rows[] = {
      {R"({"command":"show crypto ikev2 sa"})", true, "sas"},
      {R"({"command":"show crypto ikev2 session"})", true, "sessions"},
      {R"({"command":"show crypto isakmp sa"})", true, "sas"},
      {R"({"command":"show crypto isakmp peers"})", true, "peers"},
      {R"({"command":"show crypto ikev3 sa"})", false, nullptr},
      {R"({"command":7})", false, nullptr},
      {R"(["show ike"])", false, nullptr},
      {R"({"command":"show ike")", false, nullptr},
      {"", false, nullptr},
  };
  for (const Row& row : rows) {
    CAPTURE(row.request);
    const auto reply = answer(row.request, facts);
    CHECK(reply["ok"] == row.ok);
    if (!row.ok) {
      CHECK(reply["exit"] == 2);
      CHECK(!reply["error"]["message"].get<std::string>().empty());
      continue;
    }
    CHECK(reply["data"][row.list].is_array());
    CHECK(reply["data"][row.list].empty());
    CHECK(reply["data"]["reason"].get<std::string>().find("no IKE policy") != std::string::npos);
  }
}

TEST_CASE("show ike: the daemon's own state") {
  const auto reply = answer(R"({"command":"show ike"})", {42, 7, true, 3});
  REQUIRE(reply["ok"] == true);
  CHECK(reply["data"]["pid"] == 42);
  CHECK(reply["data"]["uptime_s"] == 7);
  CHECK(reply["data"]["broker_connected"] == true);
  CHECK(reply["data"]["versions"].empty());
  CHECK(answer(R"({"command":"show ike"})", {42, 7, false, 3})["data"]["broker_connected"] == false);
}
