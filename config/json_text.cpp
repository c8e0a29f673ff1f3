// The first gate: JSON text to a value, bounded, with duplicate keys refused and errors placed by line and column.
#include <algorithm>
#include <memory>

#include "config/gates.hpp"
#include "config/report.hpp"

namespace postern::config {
namespace {

using nlohmann::json;

// Builds the value itself, since nlohmann's own builder keeps the last of two equal keys in silence.
class Builder final : public json::json_sax_t {
 public:
  Builder(std::string_view text, Report& report) : text_(text), report_(report) {}
  [[nodiscard]] json take() { return std::move(root_); }

  bool null() override { return place(nullptr) != nullptr; }
  bool boolean(bool v) override { return place(v) != nullptr; }
  bool number_integer(number_integer_t v) override { return place(v) != nullptr; }
  bool number_unsigned(number_unsigned_t v) override { return place(v) != nullptr; }
  bool number_float(number_float_t v, const string_t&) override { return place(v) != nullptr; }
  bool string(string_t& v) override { return place(std::move(v)) != nullptr; }  // the lexer's own buffer: no copy stays
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(json::object()); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    Level& level = levels_.back();
    if (level.value->contains(name)) {
      const std::string path = level.path + "/" + pointer_token(name);
      report_.error(path, "this key appears twice in the same object");
    }
    level.key = std::move(name);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    report_.error("", place_of(position) + without_token(error.what()), "one JSON object");
    return false;
  }

 private:
  struct Level {
    json* value;
    std::string path;
    std::string key;
  };

  json* place(json value) {
    if (levels_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Level& level = levels_.back();
    if (level.value->is_object()) return &((*level.value)[level.key] = std::move(value));
    level.value->push_back(std::move(value));
    return &level.value->back();
  }

  bool open(json container) {
    if (levels_.size() >= max_document_depth) {
      report_.error(levels_.back().path, fmt::format("nested deeper than {} levels", max_document_depth));
      return false;
    }
    std::string path;
    if (!levels_.empty()) {
      const Level& level = levels_.back();
      path = level.path + "/" +
             (level.value->is_object() ? pointer_token(level.key) : std::to_string(level.value->size()));
    }
    levels_.push_back({place(std::move(container)), std::move(path), {}});
    return true;
  }

  bool close() {
    levels_.pop_back();
    return true;
  }

  std::string place_of(std::size_t position) const {
    const std::string_view before = text_.substr(0, position == 0 ? 0 : std::min(position - 1, text_.size()));
    const auto line = 1 + std::ranges::count(before, '\n');
    const auto newline = before.rfind('\n');
    const auto column = newline == std::string_view::npos ? before.size() + 1 : before.size() - newline;
    return fmt::format("line {}, column {}: ", line, column);
  }

  // nlohmann quotes the last token, which may be a key.
  static std::string without_token(std::string_view message) {
    const auto start = message.find("syntax error");
    if (start == std::string_view::npos) return "a number out of range";
    message.remove_prefix(start);
    return std::string(message.substr(0, message.find("; last read")));
  }

  std::string_view text_;
  Report& report_;
  json root_;
  std::vector<Level> levels_;
};

bool has_control_character(std::string_view text) {
  return std::ranges::any_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

void check_string(const std::string& text, const std::string& path, Report& report) {
  if (text.size() > max_string_bytes)
    report.error(path, fmt::format("a string of {} bytes", text.size()), fmt::format("{} bytes", max_string_bytes));
  else if (has_control_character(text))
    report.error(path, "a string with control characters", "printable text");
}

}  // namespace

void check_bounds(const json& value, const std::string& path, std::size_t depth, Report& report) {
  if (depth > max_document_depth)
    return report.error(path, fmt::format("nested deeper than {} levels", max_document_depth));
  if (value.is_string()) return check_string(value.get_ref<const std::string&>(), path, report);
  if (value.is_array())
    for (std::size_t i = 0; i < value.size(); ++i)
      check_bounds(value[i], path + "/" + std::to_string(i), depth + 1, report);
  if (value.is_object())
    for (const auto& [name, member] : value.items()) {
      const std::string member_path = path + "/" + pointer_token(name);
      check_string(name, member_path, report);
      check_bounds(member, member_path, depth + 1, report);
    }
}

Result<json, Problems> parse_json(std::string_view text) {
  Report report;
  if (text.size() > max_document_bytes) {
    report.error("", fmt::format("the document has {} bytes", text.size()),
                 fmt::format("{} bytes", max_document_bytes));
    return std::unexpected(report.take());
  }
  Builder builder(text, report);
  json::sax_parse(text.begin(), text.end(), &builder);
  json root = builder.take();
  if (!report.failed()) check_bounds(root, "", 0, report);
  if (!report.failed()) return root;
  wipe_keys(root);
  return std::unexpected(report.take());
}

}  // namespace postern::config
