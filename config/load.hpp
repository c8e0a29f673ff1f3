// From JSON text to a checked Document. One pass of four gates, each of which reports everything it finds:
//   syntax (bounded, duplicate keys refused) -> schema (config/schema.json) -> values (addresses, keys, ports) ->
//   meaning.
// Pure but for the secret files it reads. Hostile input is bounded in size, depth and string length. Any thread.
// No message ever holds key material or the text of a value that may be a key.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.hpp"
#include "config/model.hpp"

namespace postern::config {

inline constexpr std::size_t max_document_bytes = 4U << 20;
inline constexpr std::size_t max_document_depth = 24;
inline constexpr std::size_t max_string_bytes = 1024;
// Rules of all access lists of one crypto map; what the BPF classifier holds (tests compare with maps/abi.h).
inline constexpr std::size_t max_map_rules = 4096;

enum class Severity : std::uint8_t { error, warning };

// One finding. `path` is a JSON pointer into the document ("/crypto_maps/0/entries/1/peer", "" for the whole of it),
// `message` what is wrong, `allowed` what is allowed there (may be empty when the message says it all).
struct Problem {
  std::string path;
  std::string message;
  std::string allowed;
  Severity severity = Severity::error;
  bool operator==(const Problem&) const = default;

  // "/acls/0/rules/0/source: ... (allowed: ...)"; warnings in the guide's form, with a percent sign in front (TS-31).
  [[nodiscard]] std::string text() const;
};
using Problems = std::vector<Problem>;

struct LoadOptions {
  // false: {"file": ...} is checked for shape alone and its key is left empty; for a check by someone who may not read
  // it.
  bool read_secret_files = true;
  // Owner a secret file must have besides root; -1: the caller's effective uid.
  long secret_owner = -1;
  // true: Loaded::text is filled in.
  bool keep_text = false;
};

struct Loaded {
  Document document;
  Problems warnings;
  Secret text;  // the document as it came, as JSON in one line: with it the same document can be put in force again
};

// Errors are Severity::error and, behind them, the warnings found on the way. Never empty.
[[nodiscard]] Result<Loaded, Problems> load_text(std::string_view text, const LoadOptions& options = {});
// Takes the document by value and wipes the strings of its keys.
[[nodiscard]] Result<Loaded, Problems> load(nlohmann::json document, const LoadOptions& options = {});
// Reads the file first: regular, at most max_document_bytes. Inline keys in a file that others can read are warned of.
[[nodiscard]] Result<Loaded, Problems> load_file(const std::string& path, const LoadOptions& options = {});

// The file's text through parse_json: what load_file() does before it checks.
[[nodiscard]] Result<nlohmann::json, Problems> read_json_file(const std::string& path);

// Text only: bounds, syntax with line and column, duplicate keys. For a document that goes on to posternd (config
// apply).
[[nodiscard]] Result<nlohmann::json, Problems> parse_json(std::string_view text);

// All problems, one a line, errors first.
[[nodiscard]] std::string to_text(const Problems& problems);

// The shipped JSON Schema, as embedded at build time.
[[nodiscard]] std::string_view schema_text();

}  // namespace postern::config
