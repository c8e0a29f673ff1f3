// The grammar of commands: full words, unique prefixes of them (SH-28), and the arguments behind. Pure.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.hpp"

namespace postern::cli {

enum class Action : std::uint8_t {
  ask,
  config_check,
  config_diff,
  config_apply,
  config_convert,
  pki_bundle,
  capture,
  stop,
  teardown
};

using Renderer = std::string (*)(const nlohmann::json& data);

// One command. `words` are literal; arguments follow as keyword and value ("tag M1"), or one positional value.
struct Command {
  std::string_view words;       // "show crypto map"
  std::string_view positional;  // "NUMBER", "FILE", "TRUSTPOINT FILE", "[NAME]" that may be left out, or none
  std::span<const std::string_view> keywords;
  Action action;
  Renderer render;  // of the reply's data, for `ask`, config_diff, config_apply and pki_bundle
  std::string_view help;
  bool detail = false;  // takes the word "detail": a longer text of the same data
};
[[nodiscard]] std::span<const Command> commands();

struct Parsed {
  const Command* command = nullptr;
  nlohmann::json args = nlohmann::json::object();  // of the control protocol
  std::string positional;                          // FILE
  bool detail = false;
};

// "sh cry sess" as well as "show crypto session". `stop` and `teardown` must be written out. The error is the usage
// message: what is wrong, and the candidates.
[[nodiscard]] Result<Parsed> parse_words(std::span<const std::string> words);

// Every command with its arguments and help, one a line.
[[nodiscard]] std::string command_summary();

}  // namespace postern::cli
