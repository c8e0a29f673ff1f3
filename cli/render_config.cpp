// config show, diff, apply and confirm, clear crypto sa: short answers.
#include <fmt/core.h>

#include "cli/render.hpp"
#include "cli/text.hpp"

namespace postern::cli {

using nlohmann::json;

std::string render_json(const json& data) { return data.dump(2, ' ', true, json::error_handler_t::replace) + "\n"; }

std::string render_config_show(const json& data) { return render_json(data); }

std::string render_config_diff(const json& data) {
  std::string out;
  for (const json& change : list(data, "changes")) {
    const std::string name = text(change, "name");
    out += fmt::format("{} {}{}{}: {}\n", text(change, "change"), text(change, "section"), name.empty() ? "" : " ",
                       name, text(change, "applies"));
  }
  return out.empty() ? "No difference.\n" : out;
}

std::string render_config_apply(const json& data) {
  const std::string changes = list(data, "changes").empty() ? "Nothing changed.\n" : render_config_diff(data);
  const auto seconds = number(data, "confirm_within_s");
  if (seconds == 0) return changes;
  return changes + fmt::format("Goes back in {} seconds unless `postern config confirm` is said.\n", seconds);
}

std::string render_config_confirm(const json&) { return "The document in force stays.\n"; }

std::string render_clear(const json& data) {
  if (!data.is_object() || !data.contains("cleared")) return "";
  const auto count = number(data, "cleared");
  return fmt::format("{} SA pair{} cleared\n", count, count == 1 ? "" : "s");
}

}  // namespace postern::cli
