// The command line tool, apart from main(): tests run it in their own process.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "cli/exit_codes.hpp"

namespace postern::cli {

// Where it finds nodes and posternd.
struct Surroundings {
  std::string run_directory;      // /run/postern
  std::string program_directory;  // of posternd
};

// `arguments` without the program's name. Data goes to `out`, what went wrong and what to do next to `err`.
[[nodiscard]] Exit run(const std::vector<std::string>& arguments, const Surroundings& surroundings, std::ostream& out,
                       std::ostream& err);

}  // namespace postern::cli
