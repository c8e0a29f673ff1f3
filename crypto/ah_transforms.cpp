// The words of AH: those of ESP's authenticators, with another beginning.
#include "crypto/ah_transforms.hpp"

#include "crypto/transforms.hpp"

namespace postern::crypto {
namespace {

constexpr std::string_view ah_prefix = "ah-", esp_prefix = "esp-";

}  // namespace

Result<TransformSizes> ah_sizes_of(Integrity integrity) {
  const NamedTransform* const row = find_integrity(integrity);
  if (row == nullptr) return fail("AH wants an authenticator");
  TransformSizes sizes;
  sizes.integrity_key_bytes = row->sizes.integrity_key_bytes;
  sizes.icv_bytes = row->sizes.icv_bytes;
  return sizes;
}

Integrity find_ah_transform(std::string_view word) {
  if (!word.starts_with(ah_prefix)) return Integrity::none;
  const NamedTransform* const row =
      find_transform(std::string(esp_prefix) + std::string(word.substr(ah_prefix.size())));
  return row != nullptr && row->cipher == Cipher::none ? row->integrity : Integrity::none;
}

std::string ah_text(Integrity integrity) {
  const NamedTransform* const row = find_integrity(integrity);
  return row == nullptr ? "none" : std::string(ah_prefix) + std::string(row->name.substr(esp_prefix.size()));
}

}  // namespace postern::crypto
