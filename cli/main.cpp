#include <filesystem>
#include <iostream>

#include "cli/control_client.hpp"
#include "cli/postern.hpp"

int main(int argc, char** argv) {
  std::error_code ignored;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", ignored);
  const char* const libexec = std::getenv("POSTERN_LIBEXEC");
  const postern::cli::Surroundings around{postern::cli::default_run_directory,
                                          libexec != nullptr ? std::string(libexec) : program.parent_path().string()};
  return static_cast<int>(postern::cli::run({argv + 1, argv + argc}, around, std::cout, std::cerr));
}
