// SH-28: unique prefixes of command words; what is ambiguous or unknown lists what could be meant.
#include <sstream>

#include <doctest/doctest.h>

#include "cli/words.hpp"

namespace postern::cli {
namespace {

std::vector<std::string> split(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> out;
  for (std::string word; in >> word;) out.push_back(word);
  return out;
}

Result<Parsed> parse(const std::string& line) { return parse_words(split(line)); }

}  // namespace

TEST_CASE("abbreviations mean their full form") {
  struct Row {
    const char* given;
    const char* full;
  };
  const Row rows[] = {
      {"show access-lists", "show access-lists"},
      {"sh acc", "show access-lists"},
      {"show ip access-lists 101", "show access-lists"},
      {"show ipv6 access-list V6", "show access-lists"},
      {"cl cry sa en 192.0.2.2 esp 0x1001", "clear crypto sa"},
      {"show crypto map", "show crypto map"},
      {"sh cry map", "show crypto map"},
      {"sh cr m", "show crypto map"},
      {"sho crypt ma", "show crypto map"},
      {"s c m", "show crypto map"},
      {"sh cry sess", "show crypto session"},
      {"sh cry s", "show crypto session"},
      {"show cry session", "show crypto session"},
      {"sh cry ips sa", "show crypto ipsec sa"},
      {"sh cry ipsec s", "show crypto ipsec sa"},
      {"sh c ip sa", "show crypto ipsec sa"},
      {"show crypto map ipsec sa", "show crypto ipsec sa"},
      {"sh cry map ips sa", "show crypto ipsec sa"},
      {"sh cry map int out0", "show crypto map"},
      {"show cry ikev2 session", "show crypto ikev2 session"},
      {"sh cry ik se", "show crypto ikev2 session"},
      {"sh cry ikev2 sa", "show crypto ikev2 sa"},
      {"sh cry is p", "show crypto isakmp peers"},
      {"sh cry isa sa", "show crypto isakmp sa"},
      {"sh data", "show dataplane"},
      {"sh d", "show dataplane"},
      {"sh int tun 1", "show interface tunnel"},
      {"sh int tun1", "show interface tunnel"},
      {"show interface Tunnel1", "show interface tunnel"},
      {"show interfaces tunnel 1", "show interface tunnel"},
      {"sh in t 1", "show interface tunnel"},
      {"clear crypto sa", "clear crypto sa"},
      {"cl cry sa", "clear crypto sa"},
      {"cl c sa", "clear crypto sa"},
      {"cl cry se", "clear crypto session"},
      {"sh cry ikev2 pol", "show crypto ikev2 policy"},
      {"sh cry ikev2 prof X", "show crypto ikev2 profile"},
      {"sh cry ik prop", "show crypto ikev2 proposal"},
      {"sh cry ik d", "show crypto ikev2 diagnose"},
      {"cry ses con peer 192.0.2.2", "crypto session connect"},
      {"cry pki bun CORP file", "crypto pki bundle"},
      {"cry ses rek peer 192.0.2.2", "crypto session rekey"},
      {"cry ses red to 192.0.2.3 peer 192.0.2.2", "crypto session redirect"},
      {"deb cry ik", "debug crypto ikev2"},
      {"no deb c i", "no debug crypto ikev2"},
      {"und all", "undebug all"},
      {"sh cry sess det", "show crypto session"},
      {"config show", "config show"},
      {"conf sh", "config show"},
      {"conf ch /x", "config check"},
      {"conf app /x", "config apply"},
      {"conf d /x", "config diff"},
      {"conf conv /x", "config convert"},
      {"conf conf", "config confirm"},
      {"cap", "capture"},
      {"stop", "stop"},
      {"teardown", "teardown"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.given);
    const auto parsed = parse(row.given);
    if (!parsed) FAIL(parsed.error().message());
    CHECK(parsed->command->words == row.full);
  }
}

TEST_CASE("what is not unique, not whole or not known is refused with the candidates") {
  struct Row {
    const char* given;
    const char* words;
  };
  const Row rows[] = {
      {"", "a command is missing"},
      {"c", "ambiguous: capture, clear, config, crypto"},
      {"cl c s", "ambiguous: sa, session"},
      {"sh cry ik p", "ambiguous: policy, profile, proposal"},
      {"sh cry ik prof a b", "usage: postern show crypto ikev2 profile [NAME]"},
      {"sh cry ips sa det", "unexpected \"det\""},
      {"cry ses con seq ten", "not a number"},
      {"co", "next one of: apply, check, confirm, convert, diff, show"},
      {"sh", "next one of: access-lists, crypto, dataplane, ike, interface"},
      {"cl cry sa entry 192.0.2.2 esp", "[entry ADDRESS esp|ah SPI]"},
      {"cl cry sa entry 192.0.2.2 tcp 0x1001", "[entry ADDRESS esp|ah SPI]"},
      {"cl cry sa entry 192.0.2.2 esp 0xzz", "not an SPI"},
      {"sh i", "ambiguous: ike, interface"},
      {"sh cry i", "ambiguous: ikev2, ipsec, isakmp"},
      {"sh cry is", "next one of: peers, sa"},
      {"sh cry weather", "one of: dynamic-map, ikev2, ipsec, isakmp, map, pki, session"},
      {"st", "not known"},
      {"tear", "not known"},
      {"reload", "not known"},
      {"sh int tun", "usage: postern show interface tunnel NUMBER"},
      {"sh int tun x", "not a number"},
      {"sh int tun 1 2", "usage"},
      {"sh int tun -1", "not a number"},
      {"sh cry map tag", "unexpected \"tag\""},
      {"sh cry map colour red", "unexpected \"colour\""},
      {"sh data 1", "unexpected \"1\""},
      {"conf check", "usage: postern config check FILE"},
      {"conf check a b", "usage"},
      {"cry pki bun CORP", "usage: postern crypto pki bundle TRUSTPOINT FILE"},
      {"cry pki bun CORP a b", "usage"},
      {"sh\x1b[2J", "\\x1B"},
      {"clear crypto sa spi 0xzz", "not an SPI"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.given);
    const auto parsed = parse(row.given);
    REQUIRE(!parsed);
    CAPTURE(parsed.error().message());
    CHECK(parsed.error().message().find(row.words) != std::string::npos);
  }
}

TEST_CASE("arguments reach the control protocol") {
  CHECK(parse("sh cry map tag M1 int out0")->args == nlohmann::json{{"tag", "M1"}, {"interface", "out0"}});
  CHECK(parse("sh cry ips sa peer 192.0.2.2")->args == nlohmann::json{{"peer", "192.0.2.2"}});
  CHECK(parse("sh int tun7")->args == nlohmann::json{{"number", 7}});
  CHECK(parse("cl cry sa spi 0x1001")->args == nlohmann::json{{"spi", 4097}});
  CHECK(parse("cl cry sa spi 4097 peer 192.0.2.2")->args == nlohmann::json{{"spi", 4097}, {"peer", "192.0.2.2"}});
  CHECK(parse("sh cry ikev2 prof PROF")->args == nlohmann::json{{"name", "PROF"}});
  CHECK(parse("sh cry ikev2 prof")->args == nlohmann::json::object());
  CHECK(parse("cry ses con map M1 seq 10")->args == nlohmann::json{{"map", "M1"}, {"sequence", 10}});
  CHECK(parse("conf ch /etc/x.json")->positional == "/etc/x.json");
  CHECK(parse("sh data")->args == nlohmann::json::object());
}

TEST_CASE("detail is a matter of the text alone, wherever it stands") {
  for (const char* const given : {"sh cry sess det", "sh cry sess detail int out0", "sh cry sess int out0 d"}) {
    CAPTURE(given);
    CHECK(parse(given)->detail);
    CHECK(!parse(given)->args.contains("detail"));
  }
  CHECK(parse("sh cry sess int detail")->args == nlohmann::json{{"interface", "detail"}});
  CHECK(!parse("sh cry sess int detail")->detail);
  CHECK(!parse("sh cry sess")->detail);
}

TEST_CASE("every command is in the summary") {
  for (const Command& command : commands()) CHECK(command_summary().find(command.words) != std::string::npos);
}

}  // namespace postern::cli
