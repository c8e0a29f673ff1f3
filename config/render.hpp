// A Document back to JSON, secrets masked, and what differs between two documents. Pure; any thread.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "config/model.hpp"

namespace postern::config {

inline constexpr const char* masked_secret = "********";

// The whole document in the shape of the schema, defaults written out, every key masked_secret.
[[nodiscard]] nlohmann::json render(const Document& document);

enum class ChangeKind : std::uint8_t { added, removed, changed };

// When a change counts, as the guide has it (CM-19, TS-37, MAN-11).
enum class Applies : std::uint8_t {
  at_once,           // policy, devices, routes; flows that are gone take their SAs with them
  next_negotiation,  // SAs that are up go on as they are until they are rekeyed or cleared
  next_clear,        // manual SAs: `clear crypto sa`
  next_start,        // of the worker
};

// One object that differs. `section` is the top-level key ("crypto_maps", "tunnels", "ipsec/transform_sets"), `name`
// the object's own name ("M1 10" for a map entry, "Tunnel0" for a tunnel, "" for sections that are one object).
struct Change {
  ChangeKind kind = ChangeKind::changed;
  std::string section;
  std::string name;
  Applies applies = Applies::at_once;
  bool operator==(const Change&) const = default;

  [[nodiscard]] std::string text() const;  // "changed crypto_maps M1 10"
};

// By object, in the order of the schema's sections; keys are compared too (in constant time) but never shown.
[[nodiscard]] std::vector<Change> diff(const Document& before, const Document& after);
[[nodiscard]] bool equal(const Document& a, const Document& b);
[[nodiscard]] nlohmann::json to_json(const std::vector<Change>& changes);

}  // namespace postern::config
