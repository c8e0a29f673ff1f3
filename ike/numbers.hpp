// IANA's numbers of IKEv2, a distinct type each, and their names for logs and `show`. Unknown values are kept as they
// are.
#pragma once

#include <cstdint>
#include <string>

namespace postern::ike {

enum class ExchangeType : std::uint8_t { ike_sa_init = 34, ike_auth = 35, create_child_sa = 36, informational = 37 };

// RFC 7296 §3.2; 53 RFC 7383.
enum class PayloadType : std::uint8_t {
  none = 0,
  sa = 33,
  ke = 34,
  id_initiator = 35,
  id_responder = 36,
  certificate = 37,
  certificate_request = 38,
  auth = 39,
  nonce = 40,
  notify = 41,
  delete_ = 42,
  vendor_id = 43,
  ts_initiator = 44,
  ts_responder = 45,
  encrypted = 46,
  configuration = 47,
  eap = 48,
  encrypted_fragment = 53,
};

enum class ProtocolId : std::uint8_t { none = 0, ike = 1, ah = 2, esp = 3 };

enum class TransformType : std::uint8_t { encryption = 1, prf = 2, integrity = 3, key_exchange = 4, esn = 5 };

enum class IdType : std::uint8_t { ipv4 = 1, fqdn = 2, email = 3, ipv6 = 5, dn = 9, general_name = 10, key_id = 11 };

enum class AuthMethod : std::uint8_t {
  rsa = 1,
  psk = 2,
  dss = 3,
  ecdsa256 = 9,
  ecdsa384 = 10,
  ecdsa521 = 11,
  null = 13,
  signature = 14
};

// RFC 7427 §7.
enum class HashAlgorithm : std::uint16_t { sha1 = 1, sha256 = 2, sha384 = 3, sha512 = 4, identity = 5 };

// RFC 7296 §3.15.
enum class ConfigKind : std::uint8_t { request = 1, reply = 2, set = 3, ack = 4 };
enum class ConfigType : std::uint16_t {
  ip4_address = 1,
  ip4_netmask = 2,
  ip4_dns = 3,
  ip4_nbns = 4,
  ip4_dhcp = 6,
  application_version = 7,
  ip6_address = 8,
  ip6_dns = 10,
  ip6_dhcp = 12,
  ip4_subnet = 13,
  supported_attributes = 14,
  ip6_subnet = 15,
  unity_banner = 28672,  // of other vendors
};

enum class TsType : std::uint8_t { ipv4_range = 7, ipv6_range = 8 };

// RFC 7296 §3.10.1: below 16384 errors, from there on status.
enum class NotifyType : std::uint16_t {
  unsupported_critical_payload = 1,
  invalid_ike_spi = 4,
  invalid_major_version = 5,
  invalid_syntax = 7,
  invalid_message_id = 9,
  invalid_spi = 11,
  no_proposal_chosen = 14,
  invalid_ke_payload = 17,
  authentication_failed = 24,
  single_pair_required = 34,
  no_additional_sas = 35,
  internal_address_failure = 36,
  failed_cp_required = 37,
  ts_unacceptable = 38,
  invalid_selectors = 39,
  unacceptable_addresses = 40,
  unexpected_nat_detected = 41,
  temporary_failure = 43,
  child_sa_not_found = 44,
  initial_contact = 16384,
  set_window_size = 16385,
  additional_ts_possible = 16386,
  ipcomp_supported = 16387,
  nat_detection_source_ip = 16388,
  nat_detection_destination_ip = 16389,
  cookie = 16390,
  use_transport_mode = 16391,
  http_cert_lookup_supported = 16392,
  rekey_sa = 16393,
  esp_tfc_padding_not_supported = 16394,
  non_first_fragments_also = 16395,
  mobike_supported = 16396,
  additional_ip4_address = 16397,
  additional_ip6_address = 16398,
  no_additional_addresses = 16399,
  update_sa_addresses = 16400,
  cookie2 = 16401,
  no_nats_allowed = 16402,
  auth_lifetime = 16403,
  redirect_supported = 16406,
  redirect = 16407,
  redirected_from = 16408,
  eap_only_authentication = 16417,
  childless_ikev2_supported = 16418,
  quick_crash_detection = 16419,
  fragmentation_supported = 16430,
  signature_hash_algorithms = 16431,
  use_ppk = 16435,
  ppk_identity = 16436,
  no_ppk_auth = 16437,
};
[[nodiscard]] constexpr bool is_error(NotifyType type) { return static_cast<std::uint16_t>(type) < 16384; }

// "IKE_SA_INIT", "NO_PROPOSAL_CHOSEN", "KE": the RFC's spelling; "44444" for one that has no name here.
[[nodiscard]] std::string text(ExchangeType type);
[[nodiscard]] std::string text(PayloadType type);
[[nodiscard]] std::string text(ProtocolId protocol);
[[nodiscard]] std::string text(NotifyType type);
[[nodiscard]] std::string text(AuthMethod method);
[[nodiscard]] std::string text(IdType type);

}  // namespace postern::ike
