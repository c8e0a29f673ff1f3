// How a whole Policy goes from posternd to postern-ike: at start, at every change, and after a restart of either.
//
//   posternd                                                   postern-ike
//   encode_policy() -> {document, secrets}
//   ike.sock: {"command": "policy"} + SCM_RIGHTS document, secrets ->   decode_policy()
//             <- {"ok": true, "data": {"generation": N}}               (or "ok": false and "error": {"message"})
//   wipe_secrets()
//
// `document` is a memfd with JSON (a datagram is too small for many connections), sealed against every change.
// `secrets` is a memfd with the pre-shared keys one behind the other, sealed against any change of size alone, so that
// both sides can wipe it; the JSON names a key by offset and size. No key is ever in the JSON or in a std::string.
// A Policy replaces the one before as a whole; generations grow. One with the generation that postern-ike has already
// is the same. A posternd that came back sends its policy anew with a greater one: connections in it that say what they
// said go on undisturbed. postern-ike keeps its last Policy when posternd goes.
//
// Descriptors come in that order; the datagram with another number of them is refused. Bounds are checked (counts,
// enumerators, families, offsets), so that a wrong document is an error and no crash, but posternd is trusted.
#pragma once

#include <nlohmann/json.hpp>

#include "base/bytes.hpp"
#include "base/fd.hpp"
#include "base/result.hpp"
#include "base/secret.hpp"
#include "ike/policy.hpp"

namespace postern::ike {

inline constexpr const char* policy_command = "policy";
inline constexpr std::size_t max_policy_document_bytes = 64U << 20;
inline constexpr std::size_t max_policy_secret_bytes = 4U << 20;
inline constexpr std::size_t max_pre_shared_key_bytes = 512;

struct PolicyFiles {
  Fd document, secrets;
};

// Both files, ready to be sent. The caller wipes `secrets` when the answer is there, or when there is none.
[[nodiscard]] Result<PolicyFiles> encode_policy(const Policy& policy);

// Reads both files and wipes `secrets`, also when it fails. Maps them; no system call that the sandbox of postern-ike
// forbids (mmap, fstat, fcntl).
[[nodiscard]] Result<Policy> decode_policy(const PolicyFiles& files);

// Overwrites the file's content.
[[nodiscard]] Result<void> wipe_secrets(const Fd& secrets);

// The two halves without files, for tests. Keys are appended to `keys` in the order of the connections.
[[nodiscard]] nlohmann::json policy_to_json(const Policy& policy, std::vector<Secret>& keys);
[[nodiscard]] Result<Policy> policy_from_json(const nlohmann::json& document, Bytes secrets);

}  // namespace postern::ike
