#include "cli/convert.hpp"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <ostream>

#include <fcntl.h>
#include <fmt/ostream.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "base/fd.hpp"
#include "cli/text.hpp"
#include "config/load.hpp"
#include "ios/convert.hpp"

namespace postern::cli {
namespace {

using nlohmann::json;
using Kept = Result<void, Failure>;

std::unexpected<Failure> refused(std::string message, std::string hint = {}) {
  return std::unexpected(Failure{Exit::failed, std::move(message), std::move(hint)});
}

Result<std::string, Failure> read_text(const std::string& file) {
  std::ifstream input(file, std::ios::binary);
  if (!input) return refused(printable(file) + ": " + std::strerror(errno));
  std::string text;
  for (char c = 0; text.size() <= ios::max_text_bytes && input.get(c);) text.push_back(c);
  return text;
}

Result<ios::Options, Failure> options_of(const ConvertOptions& given) {
  ios::Options out;
  if (!given.key_directory.empty())
    out.key_directory = std::filesystem::absolute(given.key_directory).lexically_normal().string();
  while (out.key_directory.ends_with('/')) out.key_directory.pop_back();
  for (const std::string& pair : given.interfaces) {
    const auto equals = pair.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == pair.size())
      return std::unexpected(Failure{Exit::usage, "--interface " + printable(pair) + " is not IOS=DEVICE",
                                     "for example --interface Gi0/0=eth0"});
    out.interfaces[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
  return out;
}

// For root alone, and never over a key that is there already.
Kept write_key(const std::string& path, const std::string& value) {
  const Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file)
    return refused(printable(path) + ": " + std::strerror(errno),
                   errno == EEXIST ? "move the old key away, or choose another directory" : "");
  if (::write(file.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size()))
    return refused(printable(path) + ": " + std::strerror(errno));
  return {};
}

std::string_view name_of(ios::Severity severity) {
  switch (severity) {
    case ios::Severity::error: return "error";
    case ios::Severity::warning: return "warning";
    case ios::Severity::info: return "note";
  }
  return "";
}

json notes_json(const std::vector<ios::Note>& notes) {
  json out = json::array();
  for (const ios::Note& one : notes)
    out.push_back({{"line", one.line}, {"severity", name_of(one.severity)}, {"message", one.message}});
  return out;
}

json problems_of(const config::Problems& problems) {
  json out = json::array();
  for (const config::Problem& one : problems)
    out.push_back({{"path", one.path}, {"message", one.message}, {"allowed", one.allowed}});
  return out;
}

void say_notes(const std::string& file, const std::vector<ios::Note>& notes, std::ostream& err) {
  for (const ios::Note& one : notes) {
    const std::string place = one.line == 0 ? printable(file) : fmt::format("{}:{}", printable(file), one.line);
    fmt::print(err, "{}: {}: {}\n", place, name_of(one.severity), printable(one.message));
  }
}

Kept keep_keys(const ios::Converted& converted, const ios::Options& options, bool write, std::ostream& err) {
  for (const ios::Key& key : converted.keys) {
    const std::string path = options.key_directory + "/" + key.file;
    if (!write)
      fmt::print(err, "key wanted: {} (mode 0600); --keys DIR writes it\n", printable(path));
    else if (auto written = write_key(path, key.value); !written)
      return written;
  }
  return {};
}

}  // namespace

Result<void, Failure> convert_file(const std::string& file, const ConvertOptions& given, bool as_json,
                                   std::ostream& out, std::ostream& err) {
  POSTERN_TRY(options, options_of(given));
  POSTERN_TRY(text, read_text(file));
  const ios::Converted converted = ios::convert(text, options);
  const auto loaded = config::load(converted.document, config::LoadOptions{.read_secret_files = false});
  const config::Problems& problems = loaded ? loaded->warnings : loaded.error();
  if (as_json) {
    json keys = json::array();
    for (const ios::Key& key : converted.keys) keys.push_back(options.key_directory + "/" + key.file);
    out << json{{"document", converted.document},
                {"notes", notes_json(converted.notes)},
                {"problems", problems_of(problems)},
                {"keys", keys}}
               .dump(2)
        << '\n';
  } else {
    say_notes(file, converted.notes, err);
    for (const config::Problem& one : problems) fmt::print(err, "{}\n", printable(one.text()));
    out << converted.document.dump(2) << '\n';
  }
  POSTERN_CHECK(keep_keys(converted, options, !given.key_directory.empty(), err));
  if (!converted.complete())
    return refused("the document lacks what the errors above name",
                   "put it into the document by hand; see postern.json(5)");
  if (!loaded)
    return refused("the document is not valid yet", "mend what is named above, then say postern config check");
  return {};
}

}  // namespace postern::cli
