// The guide's words for algorithms, in `show`.
#pragma once

#include <string_view>

#include "crypto/transforms.hpp"

namespace postern::ike {

[[nodiscard]] inline std::string_view cipher_name(crypto::Cipher cipher) { return crypto::ike_name(cipher); }
[[nodiscard]] inline std::string_view hash_name(crypto::Integrity integrity) { return crypto::ike_name(integrity); }
[[nodiscard]] inline std::string_view prf_name(crypto::Prf prf) { return crypto::ike_name(prf); }

}  // namespace postern::ike
