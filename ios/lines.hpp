// The lines of an IOS configuration, or of a terminal's transcript of one, as words. Pure; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postern::ios {

inline constexpr std::size_t max_line_bytes = 1024;
inline constexpr std::size_t max_line_words = 64;

struct Line {
  std::size_t number = 0;          // from 1
  std::vector<std::string> words;  // "quoted text" is one; none: the line is over the bounds
  bool prompted = false;           // it came behind a prompt
  bool indented = false;           // as `show running-config` writes the lines of a block
};

// Prompts ("Device(config-if)#"), comments ('!', "//") and remarks behind "==>" are taken off; blank lines are left
// out.
[[nodiscard]] std::vector<Line> read_lines(std::string_view text);

// `pattern` is words: a literal, which may be abbreviated and is of any case; "<name>" takes one word; "<name...>" at
// the end takes the rest, at least one. What was taken, or nothing when the line is not of that form.
[[nodiscard]] std::optional<std::vector<std::string>> match(std::string_view pattern,
                                                            const std::vector<std::string>& words);

// How many literals of `pattern` the words spell in full; of two patterns that match, the one with more is meant.
[[nodiscard]] std::size_t literals_in_full(std::string_view pattern, const std::vector<std::string>& words);

// Lower case, ASCII.
[[nodiscard]] std::string lower(std::string_view text);

// "GigabitEthernet0/0/1" of "gi0/0/1", "Gig 0/0/1" and the like; as it came when the kind of interface is unknown.
[[nodiscard]] std::string interface_name(std::string_view text);

}  // namespace postern::ios
