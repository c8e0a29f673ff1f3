// What the EAP methods have in common with the two ends that run them (ike/eap_server.hpp, ike/eap_peer.hpp). Each
// method is one file with its two halves. Sans-IO: packets in, steps out; no clock, no memory of its own beyond the one
// conversation.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/secret.hpp"
#include "ike/eap_packet.hpp"
#include "pki/questions.hpp"

namespace postern::ike {

enum class EapFault : std::uint8_t {
  wrong_password,    // of the peer: what it sent does not follow from the password that we know
  unknown_user,      // nobody has that name here
  no_common_method,  // the other end takes none of ours
  refused,           // the other end says no
  not_authentic,     // the server does not know the password, or its certificate is not one that we trust
  malformed,         // not what the method's packets look like, or not their turn
  too_long,          // more rounds or bytes than we take
  internal,          // no random numbers, no algorithm, no password of ours
};
struct EapFailure {
  EapFault fault{};
  std::string detail;  // for a person; nothing of a password
};

// What a method wants next. `more`: `data` goes to the other end, behind the type. `ask`: postern-pki is to be asked,
// and its answer to be told.
struct EapMethodStep {
  enum class Kind : std::uint8_t { more, done, failed, ask } kind{};
  Octets data;
  EapFailure failure;
  std::optional<pki::TlsQuestion> question = {};

  static EapMethodStep send(Octets data) { return {Kind::more, std::move(data), {}, {}}; }
  static EapMethodStep ask(pki::TlsQuestion question) { return {Kind::ask, {}, {}, std::move(question)}; }
  static EapMethodStep done() { return {Kind::done, {}, {}, {}}; }
  static EapMethodStep fail(EapFault fault, std::string detail) {
    return {Kind::failed, {}, {fault, std::move(detail)}, {}};
  }
};

// For a variant of methods, or of none yet.
template <class... Ts>
struct EapEither : Ts... {
  using Ts::operator()...;
};

using EapRandom = std::function<Result<void>(MutableBytes)>;
// A user's password; nothing: nobody has that name.
using EapUsers = std::function<std::optional<Secret>(std::string_view name)>;

// What a half of a method may lean on. Borrowed; outlives it.
struct EapServerContext {
  EapRandom random;
  EapUsers password;
  std::string server_name;          // is told to the peer
  std::optional<std::string> user;  // as the peer's EAP-Identity has it, or its IDi; nothing: the method will say
  pki::TlsQuestion tls = {};        // EAP-TLS: by which trustpoints
};
struct EapPeerContext {
  EapRandom random;
  std::string user;
  Secret password;
  pki::TlsQuestion tls = {};
};

}  // namespace postern::ike
