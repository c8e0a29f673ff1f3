// From an IOS configuration, or the part of one that is about IPsec, to a configuration document: `postern config
// convert`. What the document cannot say is reported with its line, never left out in silence. Pure; any thread.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace postern::ios {

inline constexpr std::size_t max_text_bytes = 4U << 20;
inline constexpr std::size_t max_notes = 1000;

enum class Severity : std::uint8_t {
  error,    // a line that matters is not in the document: what it asks for will not happen
  warning,  // in the document, but read it: a misspelling, a guess, a thing that IOS does otherwise
  info,     // of no meaning here
};

struct Note {
  std::size_t line = 0;  // from 1; 0: the whole text
  Severity severity = Severity::error;
  std::string message;
  bool operator==(const Note&) const = default;
};

// A key of the text, on its way into a file of its own: documents do not hold keys that were in another file before.
struct Key {
  std::string file;   // name without directory, as the document's {"file": ...} has it behind `key_directory`
  std::string value;  // as it stood there; never printed
};

struct Options {
  std::string key_directory = "/etc/postern/keys";
  std::map<std::string, std::string> interfaces;  // IOS name, in full and in any case, to the Linux device
};

struct Converted {
  nlohmann::json document;
  std::vector<Note> notes;  // by line
  std::vector<Key> keys;    // of distinct file names

  [[nodiscard]] bool complete() const;  // no note is an error
};

[[nodiscard]] Converted convert(std::string_view text, const Options& options = {});

}  // namespace postern::ios
