// Pre-shared keys against quantum computers (RFC 8784): a PPK that both ends know is mixed into SK_d, SK_pi and SK_pr,
// and so into all keys but those of IKE_SA_INIT's IKE SA itself.
#include <algorithm>

#include <fmt/format.h>

#include "ike/session_core.hpp"

namespace postern::ike {
namespace {

// §5.1: an id without structure, and one that names a key which both ends hold: they are the same to us.
constexpr std::byte id_opaque{1}, id_fixed{2};

std::optional<std::string> id_in(const NotifyPayload& notify) {
  if (notify.data.size() < 2 || (notify.data[0] != id_opaque && notify.data[0] != id_fixed)) return std::nullopt;
  std::string out;
  for (const std::byte b : Bytes(notify.data).subspan(1)) out += static_cast<char>(b);
  return out;
}

bool has_ppk(const Connection& connection) {
  return !connection.ppk.id.empty() ||
         std::ranges::any_of(connection.identity_keys, [](const PeerKey& one) { return !one.ppk.id.empty(); });
}

// IKE-36: of who the peer says it is. (An initiator does not know yet, and uses the first one's.)
const Ppk& ppk_with(const Connection& connection, const std::optional<Identity>& peer) {
  static const Ppk none;
  if (!peer) return connection.ppk;
  const auto keys = keys_with(connection, *peer);
  return keys ? keys->ppk : none;
}

Failure not_quantum_safe(std::string summary, bool by_peer) {
  Failure out;
  out.kind = FailureKind::wrong_key;
  out.by_peer = by_peer;
  out.summary = std::move(summary);
  out.remedy = "give both ends the same `ppk` under the same id, or `required: false` in the keyring";
  return out;
}

}  // namespace

void offer_ppk(const Connection& connection, Message& message) {
  if (!connection.ppk.id.empty()) message.add_notify(NotifyType::use_ppk);
}

void answer_ppk(SessionCore& core, const std::vector<std::shared_ptr<const Connection>>& between,
                const Message& request, Message& reply) {
  core.may_use_ppk = request.notify(NotifyType::use_ppk) != nullptr &&
                     std::ranges::any_of(between, [](const auto& one) { return has_ppk(*one); });
  if (core.may_use_ppk) reply.add_notify(NotifyType::use_ppk);
}

Result<void, Failure> note_ppk(SessionCore& core, const Message& response) {
  const Ppk& own = core.connection->ppk;
  core.may_use_ppk = !own.id.empty() && response.notify(NotifyType::use_ppk) != nullptr;
  if (own.required && !own.id.empty() && !core.may_use_ppk)
    return std::unexpected(not_quantum_safe("the peer knows nothing of PPKs, which the keyring demands", true));
  return {};
}

Result<void> mix_in_ppk(SessionCore& core, const Ppk& ppk) {
  POSTERN_TRY(mixed, mix_ppk(core.suite.prf, ppk.key, core.keys));
  core.unmixed.emplace(std::exchange(core.keys.d, std::move(mixed.d)), std::exchange(core.keys.pi, std::move(mixed.pi)),
                       std::exchange(core.keys.pr, std::move(mixed.pr)));
  core.uses_ppk = true;
  return {};
}

void say_ppk(const SessionCore& core, const AuthSent& state, Message& request) {
  if (!core.uses_ppk) return;
  Octets id{id_fixed};
  const Bytes name = as_bytes(core.connection->ppk.id);
  id.insert(id.end(), name.begin(), name.end());
  request.add_notify(NotifyType::ppk_identity, std::move(id));
  if (!state.no_ppk_auth.empty()) request.add_notify(NotifyType::no_ppk_auth, state.no_ppk_auth);
}

Result<void, Failure> settle_ppk(SessionCore& core, const AuthSent& state, const Message& response) {
  auto unmixed = std::exchange(core.unmixed, std::nullopt);
  if (!core.uses_ppk || response.notify(NotifyType::ppk_identity) != nullptr) return {};
  if (state.no_ppk_auth.empty() || !unmixed)
    return std::unexpected(not_quantum_safe("the peer answers without the PPK, which the keyring demands", true));
  core.keys.d = std::move(unmixed->d);
  core.keys.pi = std::move(unmixed->pi);
  core.keys.pr = std::move(unmixed->pr);
  core.uses_ppk = false;
  return {};
}

Result<void, Failure> choose_ppk(SessionCore& core, std::vector<std::shared_ptr<const Connection>>& candidates,
                                 Message& request) {
  // §3: with EAP the PPK is named beside AUTH, when EAP is over.
  if (core.may_use_ppk && request.find<AuthPayload>(PayloadType::auth) == nullptr) return {};
  const auto* const named = core.may_use_ppk ? request.notify(NotifyType::ppk_identity) : nullptr;
  const auto id = named == nullptr ? std::nullopt : id_in(*named);
  const auto* const id_payload = request.find<IdPayload>(PayloadType::id_initiator);
  const auto peer = id_payload ? std::optional(Identity{id_payload->type, id_payload->data}) : core.remote_identity;
  const auto own = [&](const auto& one) -> const Ppk& { return ppk_with(*one, peer); };
  const auto known = std::ranges::find_if(candidates, [&](const auto& one) { return id && own(one).id == *id; });
  if (known != candidates.end()) {
    const Ppk ppk = own(*known);
    std::erase_if(candidates, [&](const auto& one) { return own(one).id != ppk.id || !(own(one).key == ppk.key); });
    if (const auto mixed = mix_in_ppk(core, ppk); !mixed)
      return std::unexpected(not_quantum_safe(mixed.error().message(), false));
    core.unmixed.reset();
    return {};
  }
  std::erase_if(candidates, [&](const auto& one) { return own(one).required; });
  if (candidates.empty())
    return std::unexpected(
        not_quantum_safe(id ? fmt::format("the peer names a PPK that its keyring does not have: {}", *id)
                            : "the peer uses no PPK, which the keyring demands",
                         false));
  if (named == nullptr) return {};
  // §4: it may have said how it would prove itself without.
  const auto* const without = request.notify(NotifyType::no_ppk_auth);
  if (without == nullptr) return std::unexpected(not_quantum_safe("the peer demands a PPK that is not known", false));
  for (Payload& p : request.payloads)
    if (auto* const auth = std::get_if<AuthPayload>(&p.body)) auth->data = without->data;
  return {};
}

}  // namespace postern::ike
