// config show, config apply, clear crypto sa: short answers.
#include <fmt/core.h>

#include "cli/render.hpp"
#include "cli/text.hpp"

namespace postern::cli {

using nlohmann::json;

std::string render_json(const json& data) { return data.dump(2, ' ', true, json::error_handler_t::replace) + "\n"; }

std::string render_config_show(const json& data) { return render_json(data); }

std::string render_config_apply(const json& data) {
  std::string out;
  for (const json& change : list(data, "changes"))
    out += fmt::format("{} {} {}\n", text(change, "change"), text(change, "section"), text(change, "name"));
  return out.empty() ? "Nothing changed.\n" : out;
}

std::string render_clear(const json& data) {
  if (!data.is_object() || !data.contains("cleared")) return "";
  const auto count = number(data, "cleared");
  return fmt::format("{} SA pair{} cleared\n", count, count == 1 ? "" : "s");
}

}  // namespace postern::cli
