// The gates of config/load, in the order they are passed. Each reports all it finds and never throws on hostile input.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "config/load.hpp"
#include "config/report.hpp"

namespace postern::config {

// Depth, string length, control characters. `depth` of the document itself is 0.
void check_bounds(const nlohmann::json& value, const std::string& path, std::size_t depth, Report& report);

// valijson decides by config/schema.json; the messages are ours. After it passes, types and required keys can be relied
// on.
void check_schema(const nlohmann::json& document, Report& report);

// Values: addresses, prefixes, ports, transforms, keys. Objects keep the document's order, so that an index is a path;
// what cannot be read is reported and left at its default.
[[nodiscard]] Document convert(const nlohmann::json& document, const LoadOptions& options, Report& report);

// Meaning: names, references, the rules of manual keying, addresses, SPIs. Works on the document's order.
void check_meaning(const Document& document, const nlohmann::json& source, Report& report);

// Overwrites every string under a "session_key", a "pre_shared_key" or an "authentication".
void wipe_keys(nlohmann::json& value);

}  // namespace postern::config
