// crypto pki bundle TRUSTPOINT FILE: what has to be under a trustpoint's bundle_url (RFC 7296 §3.6), as a file.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "base/result.hpp"
#include "cli/exit_codes.hpp"

namespace postern::cli {

// `data`: the node's answer, the bundle in hex digits. The file is readable by all; "-" is standard output.
[[nodiscard]] Result<void, Failure> write_bundle(const nlohmann::json& data, const std::string& file);

}  // namespace postern::cli
