// Arbitrary bytes as a configuration: no crash, no key in a message, and what is accepted renders to a document that
// differs from it by nothing but its masks.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "config/load.hpp"
#include "config/render.hpp"

namespace {

using namespace postern::config;
using nlohmann::json;

void require(bool holds) {
  if (!holds) std::abort();
}

// Inline keys under a session_key.
void collect_keys(const json& value, bool inside, std::vector<std::string>& out) {
  if (!value.is_structured()) return;
  for (const auto& [name, member] : value.items()) {
    const bool is_key = inside && (name == "cipher" || name == "authenticator") && member.is_string();
    if (is_key && member.get_ref<const std::string&>().size() >= 16) out.push_back(member.get<std::string>());
    if (value.is_object()) collect_keys(member, inside || name == "session_key", out);
    if (value.is_array()) collect_keys(member, inside, out);
  }
}

// The same text with other characters of the same kind for the key's.
std::string with_another_key(std::string_view text, const std::string& key) {
  std::string other = key;
  for (char& c : other) c = c == '1' ? '2' : '1';
  std::string out(text);
  for (auto at = out.find(key); at != std::string::npos; at = out.find(key, at + other.size()))
    out.replace(at, key.size(), other);
  return out;
}

std::string messages_of(std::string_view text) {
  const auto loaded = load_text(text, {.read_secret_files = false});
  return to_text(loaded ? loaded->warnings : loaded.error());
}

// A key stands in no message. What the messages hold without the key in the document is the program's own text, or
// somebody's name that is the key as well.
void check_messages(std::string_view text, const std::string& messages) {
  const auto document = parse_json(text);
  if (!document) return;
  std::vector<std::string> keys;
  collect_keys(*document, false, keys);
  for (const std::string& key : keys) {
    if (messages.find(key) == std::string::npos) continue;
    if (text.find(key) != text.rfind(key)) continue;
    require(messages_of(with_another_key(text, key)).find(key) != std::string::npos);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const LoadOptions options{.read_secret_files = false};  // a fuzzer must not open what it makes up
  const auto loaded = load_text(text, options);
  if (!loaded) {
    require(!loaded.error().empty());
    check_messages(text, to_text(loaded.error()));
    return 0;
  }
  check_messages(text, to_text(loaded->warnings));
  require(equal(loaded->document, loaded->document));
  const json rendered = render(loaded->document);
  const auto again = load(rendered, options);
  if (again) {
    require(diff(loaded->document, again->document).empty());
  } else {
    for (const Problem& problem : again.error())
      require(problem.severity == Severity::warning || problem.message.starts_with("is a masked key") ||
              problem.path.ends_with("/authenticator"));
  }
  return 0;
}
