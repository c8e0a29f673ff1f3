// Arbitrary text as an IOS configuration: no crash, bounded notes, keys only where keys go, and a document that config/
// can judge.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "config/load.hpp"
#include "ios/convert.hpp"

namespace {

using namespace postern;

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const ios::Converted got = ios::convert(text);
  require(got.notes.size() <= ios::max_notes + 64);
  for (const ios::Key& key : got.keys)
    require(!key.file.empty() && key.file.find('/') == std::string::npos && key.file.front() != '.');
  // Bytes that are no UTF-8 cannot be in a document; that is the writer's error, not a crash.
  const std::string written = got.document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  const auto loaded = config::load_text(written, {.read_secret_files = false});
  if (!loaded) require(!loaded.error().empty());
  return 0;
}
