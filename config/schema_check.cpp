// The second gate. valijson judges; its contexts tell where, and explain() says in our words what is wrong there.
#include <optional>
#include <set>

#include <nlohmann/json.hpp>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validation_results.hpp>
#include <valijson/validator.hpp>

#include "config/gates.hpp"

namespace postern::config {
namespace {

using nlohmann::json;
using Adapter = valijson::adapters::NlohmannJsonAdapter;

struct Shipped {
  json text;
  valijson::Schema schema;

  Shipped() : text(json::parse(schema_text())) {
    valijson::SchemaParser parser(valijson::SchemaParser::kDraft7);
    parser.populateSchema(Adapter(text), schema);
  }
};

const Shipped& shipped() {
  static const Shipped instance;
  return instance;
}

bool has_type(const json& value, std::string_view type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "integer") return value.is_number_integer();
  if (type == "boolean") return value.is_boolean();
  return false;
}

// `type` of a schema node is one name or a list.
bool type_fits(const json& node, const json& value) {
  const auto type = node.find("type");
  if (type == node.end()) return true;
  if (type->is_string()) return has_type(value, type->get_ref<const std::string&>());
  return std::any_of(type->begin(), type->end(), [&](const json& t) { return has_type(value, t.get<std::string>()); });
}

// Follows $ref, and takes the branch of anyOf that is meant by the value's type; null when none is.
const json* resolve(const json* node, const json& value) {
  while (node->contains("$ref"))
    node = &shipped().text.at(json::json_pointer((*node)["$ref"].get<std::string>().substr(1)));
  const auto branches = node->find("anyOf");
  if (branches == node->end()) return node;
  for (const json& branch : *branches)
    if (const json* const meant = resolve(&branch, value); type_fits(*meant, value)) return meant;
  return node;
}

std::string join(const json& list) {
  std::string out;
  for (const json& one : list)
    out += (out.empty() ? "" : ", ") + (one.is_string() ? "\"" + one.get<std::string>() + "\"" : one.dump());
  return out;
}

std::string keys_of(const json& properties) {
  std::string out;
  for (const auto& [name, schema] : properties.items()) out += (out.empty() ? "" : ", ") + name;
  return out;
}

std::string type_words(const json& node) {
  const json& types = node.contains("anyOf") ? node["anyOf"] : node["type"];
  const auto word = [](const json& t) {
    return t.is_object() ? (*resolve(&t, json()))["type"].get<std::string>() : t.get<std::string>();
  };
  if (types.is_string()) return word(types);
  std::string out;
  for (const json& t : types) out += (out.empty() ? "" : " or ") + word(t);
  return out;
}

std::string name_of_type(const json& value) {
  if (value.is_number_float()) return "a number with a fraction or beyond 64 bits";
  if (value.is_number()) return "an integer";
  if (value.is_array()) return "a list";
  if (value.is_object()) return "an object";
  if (value.is_null()) return "null";
  return value.is_string() ? "a string" : "true or false";
}

class Explainer {
 public:
  Explainer(std::string path, const json& value, const json& named, const json& node, Report& report)
      : path_(std::move(path)), value_(value), named_(named), node_(node), report_(report) {}

  void explain() {
    if (!type_fits(node_, value_) || (node_.contains("anyOf") && !node_.contains("type"))) return wrong_type();
    if (node_.contains("enum") && std::find(node_["enum"].begin(), node_["enum"].end(), value_) == node_["enum"].end())
      return not_in_list();
    if (value_.is_object()) return members();
    if (value_.is_array()) return bounds(value_.size(), "minItems", "maxItems", "items");
    if (value_.is_string()) return text();
    if (value_.is_number_integer()) return number();
  }

 private:
  void wrong_type() {
    const auto mismatch = named_.find("x-mismatch");
    const std::string what = "is " + name_of_type(value_);
    report_.error(path_, mismatch == named_.end() ? what : what + ": " + mismatch->get<std::string>(),
                  type_words(node_));
  }

  void not_in_list() {
    const std::string shown =
        value_.is_string() ? quoted(path_, value_.get_ref<const std::string&>()) : "the value given";
    report_.error(path_, shown + " is not known", join(node_["enum"]));
  }

  void members() {
    const json& properties = node_["properties"];
    for (const auto& [name, member] : value_.items())
      if (!properties.contains(name)) {
        const std::string shown = quoted(path_, name);
        const bool hidden = shown.front() != '"';
        const json hints = node_.value("x-unknown", json::object());
        report_.error(path_ + "/" + (hidden ? std::string("?") : pointer_token(name)),
                      hints.value(name, std::string("unknown key")), keys_of(properties));
      }
    for (const json& name : node_.value("required", json::array()))
      if (!value_.contains(name.get<std::string>()))
        report_.error(path_ + "/" + name.get<std::string>(), "is missing",
                      properties[name.get<std::string>()].value("description", ""));
    bounds(value_.size(), "minProperties", "maxProperties", "keys");
  }

  void text() {
    const std::string& given = value_.get_ref<const std::string&>();
    const std::size_t low = node_.value("minLength", std::size_t{0}), high = node_.value("maxLength", max_string_bytes);
    if (given.size() < low || given.size() > high) return bounds(given.size(), "minLength", "maxLength", "characters");
    if (node_.contains("pattern"))
      report_.error(path_, quoted(path_, given) + " has characters that may not stand here", help());
  }

  void number() {
    const std::string range =
        fmt::format("{} to {}", node_.value("minimum", json()).dump(), node_.value("maximum", json()).dump());
    report_.error(path_, value_.dump() + " is out of range", range);
  }

  void bounds(std::size_t size, const char* low, const char* high, const char* unit) {
    const std::size_t least = node_.value(low, std::size_t{0}), most = node_.value(high, max_document_bytes);
    if (size >= least && size <= most) return;
    report_.error(path_, fmt::format("has {} {}", size, unit), fmt::format("{} to {}", least, most));
  }

  std::string help() const { return node_.value("description", std::string(node_["pattern"])); }

  std::string path_;
  const json& value_;
  const json& named_;  // the property's own node, before $ref
  const json& node_;   // what constrains the value
  Report& report_;
};

// Walks document and schema side by side along valijson's context ("<root>", "[acls]", "[0]"), and explains the place.
void explain_at(const std::vector<std::string>& context, const json& document, Report& report) {
  const json* value = &document;
  const json* named = &shipped().text;
  const json* node = named;
  std::string path;
  for (std::size_t i = 1; i < context.size(); ++i) {
    const std::string token = context[i].substr(1, context[i].size() - 2);
    if (value->is_object()) {
      const auto member = value->find(token);
      if (member == value->end() || !node->contains("properties") || !(*node)["properties"].contains(token)) return;
      named = &(*node)["properties"][token];
      value = &*member;
    } else if (value->is_array()) {
      const std::size_t index = std::strtoul(token.c_str(), nullptr, 10);
      if (index >= value->size() || !node->contains("items")) return;
      named = &(*node)["items"];
      value = &(*value)[index];
    } else {
      return;
    }
    path += "/" + pointer_token(token);
    node = resolve(named, *value);
  }
  Explainer(path, *value, *named, *node, report).explain();
}

}  // namespace

void check_schema(const json& document, Report& report) {
  valijson::Validator validator(valijson::Validator::kStrongTypes);
  valijson::ValidationResults results;
  if (validator.validate(shipped().schema, Adapter(document), &results)) return;
  std::set<std::vector<std::string>> seen;
  for (const auto& error : results)
    if (seen.insert(error.context).second) explain_at(error.context, document, report);
  // The judge said no, so the document is refused even where no narrower words were found.
  if (!report.failed()) report.error("", "does not fit the JSON Schema", "see docs/CONFIG.md");
}

}  // namespace postern::config
