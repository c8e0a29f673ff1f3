// Lines of configurations and transcripts, and what abbreviates what.
#include <doctest/doctest.h>

#include "ios/lines.hpp"

using namespace postern::ios;

namespace {
std::vector<std::string> words_of(std::string_view text) {
  const auto lines = read_lines(text);
  return lines.empty() ? std::vector<std::string>{} : lines[0].words;
}
}  // namespace

TEST_CASE("prompts, comments and remarks are taken off") {
  using Words = std::vector<std::string>;
  CHECK(words_of("Device(config-crypto-map)# set peer 10.0.0.1") == Words{"set", "peer", "10.0.0.1"});
  CHECK(words_of("Router> enable") == Words{"enable"});
  CHECK(words_of(" ip address 10.0.0.1 255.0.0.0   // outside") == Words{"ip", "address", "10.0.0.1", "255.0.0.0"});
  CHECK(words_of("interface Tunnel1 ==> no address") == Words{"interface", "Tunnel1"});
  CHECK(words_of("description \"to the branch\" b") == Words{"description", "to the branch", "b"});
  CHECK(words_of("pre-shared-key a#b") == Words{"pre-shared-key", "a#b"});  // no prompt: it has a word before
  CHECK(words_of("!\n  \n.\n// all\n").empty());
}

TEST_CASE("a prompt is remembered, and lines are counted as an editor does") {
  const auto lines = read_lines("hostname a\n\nR1# show crypto map\noutput\n");
  REQUIRE(lines.size() == 3);
  CHECK(lines[1].number == 3);
  CHECK(lines[1].prompted);
  CHECK_FALSE(lines[2].prompted);
}

TEST_CASE("what is too long is named, not cut") {
  const auto lines = read_lines(std::string(max_line_bytes + 1, 'a') + "\nhostname b\n" + std::string("a ") +
                                std::string(200, ' ') + "\n");
  REQUIRE(lines.size() == 3);
  CHECK(lines[0].words.empty());
  CHECK(lines[1].number == 2);
  std::string many;
  for (std::size_t i = 0; i <= max_line_words; ++i) many += "w ";
  CHECK(read_lines(many).at(0).words.empty());
}

TEST_CASE("patterns take words, and literals may be short") {
  CHECK(match("set peer <a>", {"set", "peer", "10.0.0.1"}) == std::vector<std::string>{"10.0.0.1"});
  CHECK(match("crypto map <m>", {"cry", "ma", "M"}) == std::vector<std::string>{"M"});
  CHECK(match("encryption <names...>", {"encr", "3des", "des"}) == std::vector<std::string>{"3des", "des"});
  CHECK_FALSE(match("encryption <names...>", {"encryption"}));
  CHECK_FALSE(match("set peer <a>", {"set", "peer"}));
  CHECK_FALSE(match("set peer <a>", {"set", "peer", "a", "b"}));
  CHECK_FALSE(match("set peer <a>", {"s", "peer", "a"}));  // one letter is nobody's
  CHECK_FALSE(match("set pfs", {"set", "pfsx"}));
  CHECK(literals_in_full("set pfs <g>", {"set", "pf", "group14"}) == 1);
}

TEST_CASE("interfaces by their short names") {
  CHECK(interface_name("gi0/0/1") == "GigabitEthernet0/0/1");
  CHECK(interface_name("Ethernet0/0") == "Ethernet0/0");
  CHECK(interface_name("tu7") == "Tunnel7");
  CHECK(interface_name("loopback0") == "Loopback0");
  CHECK(interface_name("eth0.5") == "Ethernet0.5");
  CHECK(interface_name("wlan0") == "wlan0");
}
