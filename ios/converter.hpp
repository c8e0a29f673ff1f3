// What the commands of every mode write into: the document, the notes, the keys. One conversion, one thread.
#pragma once

#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "ios/convert.hpp"
#include "ios/lines.hpp"

namespace postern::ios {

using Words = std::vector<std::string>;
class Converter;

// One command of a mode: `taken` is what its pattern's <...> took, in order.
struct Command {
  std::string_view pattern;
  void (*apply)(Converter&, const Words& taken);
};

enum class Mode : std::uint8_t {
  global,
  access_list,
  transform_set,
  map_entry,
  proposal,
  policy,
  keyring,
  keyring_peer,
  ikev2_profile,
  ipsec_profile,
  interface,
  tunnel,
  skipped,  // a block of what is not converted
  output,   // what a `show` printed, up to the next prompt
};

class Converter {
 public:
  explicit Converter(const Options& options) : options_(options) {}

  // Whether the text indents the lines of a block.
  void indentation(bool used) { indentation_ = used; }
  void take(const Line& line);
  [[nodiscard]] Converted finish();

  // Begins a block whose commands write below `block` of the document.
  void enter(Mode mode, nlohmann::json::json_pointer block);
  void leave_block() { enter(Mode::global, nlohmann::json::json_pointer()); }
  // What follows, up to the next global command, is passed over; the reason has been said.
  void skip_block() { enter(Mode::skipped, nlohmann::json::json_pointer()); }
  [[nodiscard]] nlohmann::json& here() { return document_[block_]; }
  [[nodiscard]] nlohmann::json& at(const nlohmann::json::json_pointer& place) { return document_[place]; }
  [[nodiscard]] const nlohmann::json::json_pointer& block() const { return block_; }

  // The element of the array at `list` with that name, made at its end when there is none yet.
  [[nodiscard]] nlohmann::json::json_pointer named(const nlohmann::json::json_pointer& list, const std::string& name);

  void error(std::string message) { note(Severity::error, std::move(message)); }
  void warning(std::string message) { note(Severity::warning, std::move(message)); }
  void info(std::string message) { note(Severity::info, std::move(message)); }

  // {"file": ...} of a key; its value goes into Converted::keys. `purpose` names the file.
  [[nodiscard]] nlohmann::json key(const std::string& purpose, std::string value);
  // The Linux device of an interface of IOS. Without one in the options, an error and the name as it came.
  [[nodiscard]] std::string device(std::string_view ios_name);

 private:
  bool obey(std::span<const std::span<const Command>> tables, const Words& words);
  [[nodiscard]] bool leave(const Words& words);
  void not_converted(const Words& words);
  void note(Severity severity, std::string message);

  const Options& options_;
  nlohmann::json document_ = {{"version", 1}};
  nlohmann::json::json_pointer block_;
  Mode mode_ = Mode::global;
  bool indentation_ = false;
  std::size_t line_ = 0;
  std::vector<Note> notes_;
  std::vector<Key> keys_;
  std::set<std::string> key_files_, devices_asked_;
};

// The commands of each mode; those of the global one come from several files.
[[nodiscard]] std::span<const Command> access_list_commands();
[[nodiscard]] std::span<const Command> transform_set_commands();
[[nodiscard]] std::span<const Command> map_entry_commands();
[[nodiscard]] std::span<const Command> entry_or_profile_commands();
[[nodiscard]] std::span<const Command> proposal_commands();
[[nodiscard]] std::span<const Command> policy_commands();
[[nodiscard]] std::span<const Command> keyring_commands();
[[nodiscard]] std::span<const Command> keyring_peer_commands();
[[nodiscard]] std::span<const Command> ikev2_profile_commands();
[[nodiscard]] std::span<const Command> ipsec_profile_commands();
[[nodiscard]] std::span<const Command> interface_commands();
[[nodiscard]] std::span<const Command> tunnel_commands();
[[nodiscard]] std::span<const Command> global_access_list_commands();
[[nodiscard]] std::span<const Command> global_ipsec_commands();
[[nodiscard]] std::span<const Command> global_ikev2_commands();
[[nodiscard]] std::span<const Command> global_interface_commands();

// A whole number, else an error that names `what`.
[[nodiscard]] std::optional<std::uint64_t> number(Converter& converter, std::string_view what, const std::string& word);
// "10.1.0.1/16" of an address and a network mask; an error when it is none.
[[nodiscard]] std::optional<std::string> prefix(Converter& converter, const std::string& address,
                                                const std::string& mask);

}  // namespace postern::ios
