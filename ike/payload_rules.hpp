// Which payloads a message must and may hold (RFC 7296 appendix C), as data.
#pragma once

#include <optional>
#include <string>

#include "ike/message.hpp"

namespace postern::ike {

// A message that the rules of its exchange and direction forbid: INVALID_SYNTAX, and the words for the log. Error-only
// responses (one error notify) are legal in every exchange. CREATE_CHILD_SA is told apart by its contents: a REKEY_SA
// notify, or an SA payload whose protocol is IKE.
[[nodiscard]] std::optional<std::string> broken_rule(const Message& message);

}  // namespace postern::ike
