// Certificates and keys in files, for documents that name them.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include <stdlib.h>
#include <sys/stat.h>

namespace postern::config {

// Files of one test, gone with it.
struct PkiFiles {
  std::string directory = [] {
    char name[] = "/tmp/postern-pki-XXXXXX";
    return std::string(::mkdtemp(name));
  }();
  ~PkiFiles() { std::filesystem::remove_all(directory); }
  std::string put(const char* name, const std::string& text, mode_t mode) const {
    const std::string path = directory + "/" + name;
    std::ofstream(path) << text;
    ::chmod(path.c_str(), mode);
    return path;
  }
};

}  // namespace postern::config
