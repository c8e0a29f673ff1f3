// Keys: files that are safe to read, and nowhere a trace of key material.
#include <filesystem>
#include <fstream>

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/render.hpp"
#include "tests/config/good_document.hpp"

namespace postern::config {
namespace {

namespace fs = std::filesystem;
const std::string cipher = "/crypto_maps/0/entries/0/session_key/inbound/esp/cipher";

struct Directory {
  fs::path path;
  Directory() {
    char name[] = "/tmp/postern-test-XXXXXX";
    path = ::mkdtemp(name);
  }
  ~Directory() { fs::remove_all(path); }
  [[nodiscard]] std::string write(const char* name, const std::string& text, mode_t mode = 0600) const {
    const std::string file = path / name;
    std::ofstream(file) << text;
    ::chmod(file.c_str(), mode);
    return file;
  }
};

nlohmann::json with_file(const std::string& file) { return good_with(cipher, nlohmann::json{{"file", file}}); }

std::string hex_of(Bytes bytes) {
  std::string out;
  for (const std::byte b : bytes) out += fmt::format("{:02x}", std::to_integer<unsigned>(b));
  return out;
}

}  // namespace

TEST_CASE("a key file gives the same key as its text inline") {
  const Directory directory;
  for (const char* const ending : {"", "\n", "\r\n", "  \n\n"}) {
    const auto loaded = load(with_file(directory.write("k", std::string(key_a) + ending)));
    if (!loaded) FAIL(to_text(loaded.error()));
    CHECK(hex_of(loaded->document.crypto_maps[0].entries[0].keys.inbound.cipher_key.bytes()) == key_a);
    CHECK(equal(loaded->document, load(good())->document));
  }
}

TEST_CASE("a key file that is not safe or not right is refused with its path") {
  const Directory directory;
  const std::string good_file = directory.write("good", key_a);
  REQUIRE(::symlink(good_file.c_str(), (directory.path / "link").c_str()) == 0);
  REQUIRE(::mkfifo((directory.path / "fifo").c_str(), 0600) == 0);
  const auto refused = [&](const std::string& file, const std::string& words) {
    CAPTURE(file);
    check_refused(with_file(file), cipher + "/file", words);
    CHECK(to_text(problems_of(with_file(file))).find(file) != std::string::npos);
  };
  for (const mode_t mode : {0640U, 0604U, 0660U, 0620U, 0644U, 0601U})
    refused(directory.write("open", key_a, mode), fmt::format("mode {:04o}", mode));
  refused(directory.path / "absent", "No such file");
  refused(directory.path / "link", "symbolic link");
  refused(directory.path / "fifo", "not a regular file");
  refused(directory.path, "not a regular file");
  refused("relative/key", "not an absolute path");
  refused(directory.write("empty", ""), "holds no key");
  refused(directory.write("blank", "\n\n"), "holds no key");
  refused(directory.write("odd", "abc"), "odd number");
  refused(directory.write("text", "zz"), "not a hex digit");
  refused(directory.write("two", std::string(key_a) + "\n" + key_a), "holds no key");
  refused(directory.write("large", std::string(5000, 'a')), "5000 bytes");
  const std::string file = directory.write("short", "0011");
  check_refused(with_file(file), cipher, "file " + file);
  check_accepted(with_file(good_file));
}

TEST_CASE("a key file of somebody else is refused") {
  if (::geteuid() != 0) return;
  const Directory directory;
  const std::string file = directory.write("k", key_a);
  REQUIRE(::chown(file.c_str(), 65534, 65534) == 0);
  check_refused(with_file(file), cipher + "/file", "belongs to user 65534");
  LoadOptions options;
  options.secret_owner = 65534;
  CHECK(load(with_file(file), options).has_value());
}

TEST_CASE("without reading files, a document can still be checked") {
  const auto loaded = load(with_file("/etc/postern/absent"), {.read_secret_files = false});
  if (!loaded) FAIL(to_text(loaded.error()));
  CHECK(loaded->document.crypto_maps[0].entries[0].keys.inbound.cipher_key.empty());
}

TEST_CASE("no message holds key material, whatever is wrong around it") {
  const std::string needle = std::string(key_a).substr(4, 10);
  const auto clean = [&](const nlohmann::json& document) {
    const auto problems = problems_of(document);
    REQUIRE(!problems.empty());
    const std::string text = to_text(problems);
    CAPTURE(text);
    CHECK(text.find(needle) == std::string::npos);
    CHECK(text.find("a4a5a6a7") == std::string::npos);
  };
  const std::string esp = "/crypto_maps/0/entries/0/session_key/inbound/esp";
  clean(good_with(cipher, std::string(key_a) + "0"));                 // odd
  clean(good_with(cipher, std::string(key_a) + "zz"));                // no digits
  clean(good_with(cipher, std::string(key_a) + "00"));                // length
  clean(good_with(esp + "/" + key_a, 1));                             // as a key's name
  clean(good_with(std::string("/") + key_a, 1));                      // as a name at the top
  clean(good_with("/crypto_maps/0/entries/0/transform_set", key_a));  // in the wrong place
  clean(good_with("/crypto_maps/0/entries/0/peer", key_a));
  clean(good_with("/crypto_maps/0/entries/0/type", key_a));
  clean(good_with("/acls/0/name", std::string(key_a) + " "));
  clean(good_with("/tunnels/0/source", key_a));
  clean(good_with(cipher, nlohmann::json{{"file", "/x"}, {key_a, 1}}));
}

TEST_CASE("the rendered document masks every key and the differ shows none") {
  auto loaded = load(good());
  const std::string text = render(loaded->document).dump();
  CHECK(text.find(std::string(key_a).substr(0, 8)) == std::string::npos);
  CHECK(text.find(std::string(auth_a).substr(0, 8)) == std::string::npos);
  std::size_t masks = 0;
  for (auto at = text.find(masked_secret); at != std::string::npos; at = text.find(masked_secret, at + 1)) ++masks;
  CHECK(masks == 12);
  const auto other = load(good_with(cipher, "ffffffffffffffffffffffffffffffff"));
  const auto changes = diff(loaded->document, other->document);
  REQUIRE(changes.size() == 1);
  CHECK(changes[0].text() == "changed crypto_maps M1 10");
}

TEST_CASE("a document with inline keys that others can read is warned of") {
  const Directory directory;
  const auto warnings = [&](mode_t mode) {
    return load_file(directory.write("c.json", good().dump(), mode))->warnings.size();
  };
  CHECK(warnings(0644) == 1);
  CHECK(warnings(0600) == 0);
}

}  // namespace postern::config
