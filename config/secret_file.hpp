// Key files. The rules are sshd's: a regular file that nobody but its owner can read.
#pragma once

#include <string>

#include "base/fd.hpp"
#include "config/load.hpp"
#include "config/values.hpp"

namespace postern::config {

// Hex digits, and white space behind them. The error names the file and never its content.
[[nodiscard]] Value<Secret> read_secret_file(const std::string& path, const LoadOptions& options);
// A private key's file, opened for postern-pki to read and read by nobody else: the same rules.
[[nodiscard]] Value<Fd> open_key_file(const std::string& path, const LoadOptions& options);
// The forms of parse_pre_shared_key(); white space behind the key does not belong to it.
[[nodiscard]] Value<Secret> read_pre_shared_key_file(const std::string& path, const LoadOptions& options);

}  // namespace postern::config
