// postern config convert: an IOS configuration as a document, its keys as files beside it.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "cli/exit_codes.hpp"

namespace postern::cli {

struct ConvertOptions {
  std::vector<std::string> interfaces;  // "GigabitEthernet0/0=eth0"
  std::string key_directory;  // where key files are made; empty: none are, the document names /etc/postern/keys
};

// The document goes to `out`, what could not be converted to `err`, each with its line. Exit::failed when a line that
// matters was not converted, or when the document is not valid; the document is printed all the same, without them.
[[nodiscard]] Result<void, Failure> convert_file(const std::string& file, const ConvertOptions& options, bool as_json,
                                                 std::ostream& out, std::ostream& err);

}  // namespace postern::cli
