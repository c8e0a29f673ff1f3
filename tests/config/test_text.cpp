// The first gate: syntax, bounds, duplicate keys.
#include <fstream>

#include "tests/config/good_document.hpp"

namespace postern::config {
namespace {

Problems text_problems(const std::string& text) {
  auto loaded = load_text(text);
  return loaded ? Problems{} : loaded.error();
}

std::string nested(std::size_t depth) {
  std::string out = R"({"version": 1, "acls": )";
  for (std::size_t i = 0; i < depth; ++i) out += "[";
  for (std::size_t i = 0; i < depth; ++i) out += "]";
  return out + "}";
}

}  // namespace

TEST_CASE("text: what is no JSON is refused at its line and column") {
  struct Row {
    const char* text;
    const char* words;
  };
  const Row rows[] = {
      {"", "line 1, column 1"},
      {"{\n  \"version\": 1,\n  oops\n}", "line 3, column 3"},
      {"{\"version\": 1} x", "line 1, column 16"},
      {"{\"version\": }", "line 1, column 13"},
      {"{\"version\": 1e999}", "out of range"},
      {"{\"version\": \"\xff\"}", "line 1"},
      {"{\"version\": \"a\nb\"}", "line 1"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    const auto problems = text_problems(row.text);
    REQUIRE(problems.size() == 1);
    CHECK(problems[0].path.empty());
    CHECK(problems[0].message.find(row.words) != std::string::npos);
  }
  CHECK(text_problems(R"({"version": 1})").empty());
}

TEST_CASE("text: a syntax error next to a key does not repeat the key") {
  for (const std::string& text :
       {std::string("{\"version\": 1, \"x\": ") + key_a + "}", std::string("{\"version\": 1, \"x\": \"") + key_a + "}",
        std::string("{\"version\": 1, \"") + key_a + "\" 1}", std::string("{\"x\": 1") + key_a + "e99999999}"}) {
    const auto problems = text_problems(text);
    REQUIRE(!problems.empty());
    CHECK(to_text(problems).find("8899aabb") == std::string::npos);
    CHECK(to_text(problems).find("0011223344556677") == std::string::npos);
  }
}

TEST_CASE("text: duplicate keys are named with their path") {
  const auto problems =
      text_problems(R"({"version": 1, "acls": [], "system": {"hostname": "a", "hostname": "b"}, "acls": []})");
  CHECK(at_path(problems, "/system/hostname") != nullptr);
  CHECK(at_path(problems, "/acls") != nullptr);
  CHECK(problems.size() == 2);
  CHECK(text_problems(R"({"version": 1, "system": {"hostname": "a"}, "acls": []})").empty());
}

TEST_CASE("text: depth, size and string length are bounded, and the bound itself is not refused for it") {
  CHECK(to_text(text_problems(nested(max_document_depth))).find("nested deeper") != std::string::npos);
  CHECK(to_text(text_problems(nested(100000))).find("nested deeper") != std::string::npos);
  CHECK(to_text(text_problems(nested(max_document_depth - 1))).find("nested deeper") == std::string::npos);
  CHECK(to_text(text_problems(std::string(max_document_bytes + 1, ' '))).find("bytes") != std::string::npos);
  CHECK(to_text(text_problems(R"({"version": 1})" + std::string(max_document_bytes - 14, ' '))).empty());
  auto document = good();
  document["system"]["hostname"] = std::string(max_string_bytes + 1, 'a');
  check_refused(document, "/system/hostname", "string of 1025 bytes");
  document["system"]["hostname"] = std::string(63, 'a');
  check_accepted(document);
}

TEST_CASE("text: control characters are refused in keys and values") {
  check_refused(good_with("/crypto_maps/0/entries/0/peer", std::string("192.0.2.2\0x", 11)),
                "/crypto_maps/0/entries/0/peer", "control");
  check_refused(good_with("/a\x1b[2J", 1), "/a?[2J", "control");
  check_accepted(good_with("/crypto_maps/0/entries/0/peer", "192.0.2.2"));
}

TEST_CASE("text: a file must be regular and there") {
  CHECK(to_text(load_file("/nonexistent/x").error()).find("No such file") != std::string::npos);
  CHECK(to_text(load_file("/dev/null").error()).find("not a regular file") != std::string::npos);
  CHECK(to_text(load_file("/tmp").error()).find("not a regular file") != std::string::npos);
}

TEST_CASE("text: every shipped example is accepted") {
  for (const char* const name : {"lab-n1.json", "lab-n2.json", "lab-n1-ikev2.json", "lab-n2-ikev2.json",
                                 "lab-n1-ah.json", "lab-n2-ah.json", "all-keys.json"}) {
    CAPTURE(name);
    const auto loaded = load_file(std::string(POSTERN_EXAMPLES) + "/" + name, {.read_secret_files = false});
    if (!loaded) FAIL(to_text(loaded.error()));
  }
}

}  // namespace postern::config
