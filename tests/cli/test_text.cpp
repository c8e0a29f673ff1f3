#include <doctest/doctest.h>

#include "cli/render.hpp"
#include "cli/text.hpp"

namespace postern::cli {

TEST_CASE("printable: control characters and broken UTF-8 are escaped, text is not") {
  CHECK(printable("out0 (wan) ~") == "out0 (wan) ~");
  CHECK(printable("Zürich – 東京") == "Zürich – 東京");
  CHECK(printable("a\x1b]0;x\x07") == "a\\x1B]0;x\\x07");
  CHECK(printable("a\nb\tc\rd\x7f") == "a\\x0Ab\\x09c\\x0Dd\\x7F");
  CHECK(printable(std::string("a\0b", 3)) == "a\\x00b");
  CHECK(printable("\xc2\x9b"
                  "31m") == "\\xC2\\x9B31m");             // C1 CSI
  CHECK(printable("\xe2\x80\xae") == "\\xE2\\x80\\xAE");  // right-to-left override
  CHECK(printable("\xff\xc3") == "\\xFF\\xC3");           // no UTF-8
  CHECK(printable("\xc0\xaf") == "\\xC0\\xAF");           // overlong
}

TEST_CASE("addresses in the guide's notations") {
  CHECK(address_and_mask("10.1.0.0/16") == "10.1.0.0/255.255.0.0");
  CHECK(address_and_mask("0.0.0.0/0") == "0.0.0.0/0.0.0.0");
  CHECK(address_and_mask("10.1.0.2/32") == "10.1.0.2/255.255.255.255");
  CHECK(address_and_mask("2001:db8::/32") == "2001:DB8::/32");
  CHECK(address_and_wildcard("10.1.0.0/16") == "10.1.0.0 0.0.255.255");
  CHECK(address_and_wildcard("10.1.0.2/32") == "host 10.1.0.2");
  CHECK(address_and_wildcard("any") == "any");
  CHECK(address_and_wildcard("10.1.0.1 0.0.255.254") == "10.1.0.1 0.0.255.254");
  CHECK(address_and_wildcard("2001:db8::1/128") == "host 2001:DB8::1");
  CHECK(selector("::/0", 0, 0) == "::/0/0/0");
  CHECK(selector("10.0.0.0/8", 17, 53) == "10.0.0.0/255.0.0.0/17/53");
}

TEST_CASE("numbers in the guide's notations") {
  CHECK(spi("0x4776A36B") == "0x4776A36B(1198957419)");
  CHECK(spi("0xFFFFFFFF") == "0xFFFFFFFF(4294967295)");
  CHECK(spi("") == "0x0(0)");
  CHECK(clock(233) == "00:03:53");
  CHECK(clock(360000) == "100:00:00");
}

TEST_CASE("members that are not there or are of another type do not throw") {
  const nlohmann::json object = {{"n", 7}, {"s", "x"}, {"z", nullptr}};
  CHECK(text(object, "s") == "x");
  CHECK(text(object, "n") == "7");
  CHECK(text(object, "z", "(none)") == "(none)");
  CHECK(text(object, "absent", "(none)") == "(none)");
  CHECK(number(object, "s") == 0);
  CHECK(list(object, "n").empty());
  CHECK(!flag(object, "n"));
}

TEST_CASE("JSON output is ASCII without control characters") {
  const std::string out = render_json({{"a", "\x1b\x7f\xc2\x9b\xff"}});
  for (const char c : out) CHECK((c == '\n' || (c >= 0x20 && c < 0x7f)));
}

}  // namespace postern::cli
