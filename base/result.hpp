// Errors by value: std::expected everywhere, no exception past construction, no bool, no -1.
#pragma once

#include <cerrno>
#include <cstring>
#include <expected>
#include <string>
#include <utility>

namespace postern {

// What went wrong, for a person: `what` names the operation and its object ("bind XSK eth1 queue 0"), `code` is an
// errno value or 0. A room whose callers branch on the kind of failure has its own closed enum instead (crypto, worker,
// ike).
struct Error {
  std::string what;
  int code = 0;

  [[nodiscard]] std::string message() const { return code == 0 ? what : what + ": " + std::strerror(code); }
};

template <class T = void, class E = Error>
using Result = std::expected<T, E>;

[[nodiscard]] inline std::unexpected<Error> fail(std::string what, int code = 0) {
  return std::unexpected(Error{std::move(what), code});
}
[[nodiscard]] inline std::unexpected<Error> fail_errno(std::string what) { return fail(std::move(what), errno); }

}  // namespace postern

// Returns the error of `expression` to the caller, else is the value. The one TRY of the tree.
#define POSTERN_TRY(variable, expression)                                       \
  auto variable##_or = (expression);                                            \
  if (!variable##_or) return std::unexpected(std::move(variable##_or.error())); \
  auto variable = std::move(*variable##_or)

#define POSTERN_CHECK(expression)                                                                           \
  do {                                                                                                      \
    if (auto checked_or = (expression); !checked_or) return std::unexpected(std::move(checked_or.error())); \
  } while (false)
