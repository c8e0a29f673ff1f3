// Whole conversations between two strongSwan 5.9.8, and the keys that it logged at level 4 (charon's filelog, IKE and
// CHD): IKE_SA_INIT, IKE_AUTH with a shared key, a child rekeyed with PFS, the IKE SA rekeyed, deletions. Messages as
// captured, without the non-ESP marker, request and response in turn. Hexadecimal.
#pragma once

#include <array>
#include <string_view>

#include "ike/negotiate.hpp"

namespace postern::ike::strongswan {

enum MessageIndex : std::size_t {
  init_request,
  init_response,
  auth_request,
  auth_response,
  rekey_child_request,
  rekey_child_response,
  delete_child_request,
  delete_child_response,
  rekey_ike_request,
  rekey_ike_response,
  delete_old_ike_request,
  delete_old_ike_response,
  delete_ike_request,  // in the new IKE SA, from here on
  delete_ike_response,
  message_count
};

struct IkeSa {
  std::string_view shared, skeyseed, d, ai, ar, ei, er, pi, pr;
};
struct ChildSa {
  std::string_view shared, initiator_cipher, initiator_integrity, responder_cipher, responder_integrity;
};

struct Run {
  const char* name;
  IkeSuite suite;
  crypto::Transform esp;
  std::array<std::string_view, message_count> messages;
  IkeSa first, second;
  std::string_view shared_key, id_i, id_r, auth_i, auth_r;  // id_*: RestOfInitIDPayload
  ChildSa child, child_with_pfs;
  std::string_view nat_input, nat_hash;  // SPIi | SPIr | address | port
};
const Run& cbc();
const Run& gcm();

}  // namespace postern::ike::strongswan
