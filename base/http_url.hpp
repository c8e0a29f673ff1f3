// The one kind of URL that certificates are looked up at (RFC 7296 §3.6: "http:"). It comes from documents and, before
// anybody has proved anything, from peers: what could mean two things to two readers is none.
#pragma once

#include <cstddef>
#include <string_view>

namespace postern {

inline constexpr std::size_t max_url_bytes = 1024;

// "http://host[:port]/path": in small letters up to the host's end, without user, fragment, blanks, and "." or ".."
// for a part of the path, which would leave a prefix behind that it begins with.
[[nodiscard]] bool is_http_url(std::string_view text);
// A URL that ends in '/', or "http://" alone: any.
[[nodiscard]] bool is_http_prefix(std::string_view text);

}  // namespace postern
