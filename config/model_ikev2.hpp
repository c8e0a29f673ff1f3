// The "ikev2" section of the document as plain structs (IKE-23..43).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/net_types.hpp"
#include "base/secret.hpp"
#include "crypto/dh.hpp"
#include "crypto/packet_cipher.hpp"
#include "crypto/prf.hpp"

namespace postern::config {

// An identity as RFC 7296 §3.5 has them; an address is host or, where a rule matches, a prefix.
enum class IdentityKind : std::uint8_t { any, address, fqdn, email, key_id, dn };
struct IdentityRule {
  IdentityKind kind = IdentityKind::any;  // dn: of our own alone, the subject of our certificate
  Prefix address;                         // kind address
  std::string text;                       // fqdn, email; key_id: its bytes
  bool operator==(const IdentityRule&) const = default;
};

struct IkeEncryption {
  crypto::Cipher cipher = crypto::Cipher::none;
  std::uint16_t key_bits = 0;
  bool operator==(const IkeEncryption&) const = default;
};
inline constexpr const char* legacy_proposal_name = "default-legacy";  // IKE-33: there when a policy names it

// Algorithms in order of preference (IKE-30). `prf` is filled in when the document does not say (IKE-35).
struct Ikev2Proposal {
  std::string name;
  std::vector<IkeEncryption> encryption;
  std::vector<crypto::Integrity> integrity;
  std::vector<crypto::Prf> prf;
  std::vector<crypto::DhGroup> groups;
  bool operator==(const Ikev2Proposal&) const = default;
};

// Whom a policy or a profile is for. Left out, as the guide has it: any local address, the global VRF.
struct Ikev2Scope {
  std::optional<IpAddress> local;
  std::optional<std::string> fvrf;  // a VRF, or "any"
  bool operator==(const Ikev2Scope&) const = default;
};

struct Ikev2Policy {
  std::string name;
  Ikev2Scope match;
  std::vector<std::string> proposals;
  bool operator==(const Ikev2Policy&) const = default;
};

// RFC 8784.
struct Ppk {
  std::string id;
  Secret key;
  bool required = true;
  bool operator==(const Ppk&) const = default;
};

struct KeyringPeer {
  std::string name;
  std::optional<Prefix> address;
  std::optional<IdentityRule> identity;  // never `any`
  Secret local_key, remote_key;          // the same, if the document has one key; empty, if it has a PPK alone
  std::optional<Ppk> ppk;
  bool operator==(const KeyringPeer&) const = default;
};
struct Keyring {
  std::string name;
  std::vector<KeyringPeer> peers;
  bool operator==(const Keyring&) const = default;
};

// IKE-58: what a person calls a peer. Printed, never interpreted.
struct PeerDescription {
  std::string peer;  // an address as IpAddress::text() writes it, or the name by which a crypto map names it
  std::string text;  // any characters: whoever prints it escapes
  bool operator==(const PeerDescription&) const = default;
};

enum class DpdMode : std::uint8_t { off, on_demand, periodic };
struct Dpd {
  DpdMode mode = DpdMode::off;
  std::uint32_t interval_s = 10, retry_s = 2;
  bool operator==(const Dpd&) const = default;
};

// IKE-39: how one end proves who it is, in the guide's words; `signature` is any key of RFC 7427.
enum class AuthMethodWord : std::uint8_t { pre_share, rsa_sig, ecdsa_sig, signature, eap };
[[nodiscard]] constexpr bool is_signature(AuthMethodWord method) {
  return method != AuthMethodWord::pre_share && method != AuthMethodWord::eap;
}
[[nodiscard]] const char* word(AuthMethodWord method);

// What peers of a profile that ask are lent and told (RFC 7296 §2.19).
struct ClientConfiguration {
  std::vector<Prefix> pools;
  std::vector<IpAddress> dns;
  std::vector<Prefix> subnets;
  std::string banner;
  bool required = false;
  bool operator==(const ClientConfiguration&) const = default;
};

// RFC 6023: whether the IKE SA comes alone, as strongSwan's words are.
enum class Childless : std::uint8_t { never, allow, prefer, force };
[[nodiscard]] const char* word(Childless childless);

// RFC 5685: whether we let a gateway send us elsewhere, and as a gateway in which exchange peers are sent elsewhere.
enum class RedirectWhen : std::uint8_t { init, auth };
[[nodiscard]] const char* word(RedirectWhen when);
struct RedirectGateway {
  std::string to;  // an address, or a host name in lower case
  RedirectWhen when = RedirectWhen::init;
  std::uint32_t above = 0;
  bool operator==(const RedirectGateway&) const = default;
};
struct RedirectProfile {
  bool follow = false;
  std::optional<RedirectGateway> gateway;
  bool operator==(const RedirectProfile&) const = default;
};
// For all peers.
struct RedirectLimits {
  std::uint32_t most = 5, period_s = 300, leave_s = 60;
  bool operator==(const RedirectLimits&) const = default;
};

// EAP: of our end when it begins, and of a peer that begins.
enum class EapMethodWord : std::uint8_t { mschapv2, md5, tls };
[[nodiscard]] const char* word(EapMethodWord method);
struct EapLocal {
  std::vector<EapMethodWord> methods;
  std::string identity;
  Secret password;
  bool operator==(const EapLocal&) const = default;
};
struct EapRemote {
  std::vector<EapMethodWord> methods;
  bool query_identity = false;
  bool operator==(const EapRemote&) const = default;
};
struct EapUser {
  std::string name;
  Secret password;
  bool operator==(const EapUser&) const = default;
};

struct Ikev2Profile {
  std::string name;
  std::vector<IdentityRule> match_remote;
  Ikev2Scope match;
  std::optional<IdentityRule> local_identity;  // else the local address (IKE-38)
  std::vector<std::string> match_certificate;  // names of certificate maps
  AuthMethodWord local_method = AuthMethodWord::pre_share, remote_method = AuthMethodWord::pre_share;
  Secret local_key, remote_key;       // inline; empty: the keyring's
  std::optional<EapLocal> eap_local;  // where that method is eap
  std::optional<EapRemote> eap_remote;
  std::optional<std::string> sign_trustpoint;       // IKE-40
  std::vector<std::string> other_sign_trustpoints;  // for peers that ask for certificates of their CAs
  std::vector<std::string> verify_trustpoints;
  bool allow_sha1 = false, rsa_pkcs1 = false;
  std::optional<std::string> keyring;
  std::uint32_t lifetime_s = 86400;
  Dpd dpd;  // the section's default filled in
  bool force_encapsulation = false;
  Childless childless = Childless::allow;
  RedirectProfile redirect;
  bool suite_b = false;  // TS-43: a promise that check_suite_b.cpp holds the document to
  std::optional<ClientConfiguration> configuration;
  bool operator==(const Ikev2Profile&) const = default;
};

// Extensions and limits, for all peers.
struct Ikev2Options {
  std::uint16_t fragmentation_mtu = 1280;  // 0: no fragments
  std::uint16_t window = 5;
  std::uint16_t max_selectors = 16;
  bool mobike = true;
  bool crash_detection = true;
  RedirectLimits redirect;
  std::vector<std::string>
      cert_lookup;  // base/http_url.hpp: what URLs of certificates begin with; empty: none is taken
  bool operator==(const Ikev2Options&) const = default;
};

struct Ikev2 {
  bool enabled = true;
  Ikev2Options options;
  std::uint32_t nat_keepalive_s = 20;  // 0: none
  Dpd dpd;
  std::vector<Ikev2Proposal> proposals;  // those of the document, and then the built-in "default"
  std::vector<Ikev2Policy> policies;
  std::vector<Keyring> keyrings;
  std::vector<EapUser> eap_users;
  std::vector<PeerDescription> peer_descriptions;
  std::vector<Ikev2Profile> profiles;
  bool operator==(const Ikev2&) const = default;
};

}  // namespace postern::config
