// RFC 5685: a gateway sends its clients to another one, in IKE_SA_INIT (§3), at the end of IKE_AUTH (§6) or later (§5).
#include "ike/redirect.hpp"

#include <fmt/format.h>

namespace postern::ike {
namespace {

// What cannot be followed changes nothing: a better message may come, and who is authentic is not believed blindly.
std::optional<GatewayIdentity> told(SessionCore& core, const NotifyPayload& notify, Bytes nonce) {
  auto to = decode_gateway(notify.data, nonce);
  std::string why = to ? std::string() : to.error().message();
  if (to && to->address) why = no_gateway(*to->address, core.local.address, core.remote.address);
  if (why.empty()) return std::move(*to);
  core.tell(EventKind::message_ignored, "REDIRECT: " + why);
  return std::nullopt;
}

}  // namespace

// --- client

// §3: towards the gateway that we were sent to, REDIRECTED_FROM says both.
void offer_redirect(SessionCore& core, Message& message) {
  core.redirect.client = core.connection->follows_redirects();
  if (!core.redirect.client) return;
  core.redirect.from = core.setup.redirected_from;
  if (core.redirect.from)
    message.add_notify(NotifyType::redirected_from, encode_gateway(*core.redirect.from));
  else
    message.add_notify(NotifyType::redirect_supported);
}

void leave_for(SessionCore& core, const GatewayIdentity& to, ExchangeType during) {
  core.emit(Redirected{to, during, core.wanted});
  core.close_now("sent to " + to.text(), true);
}

bool on_init_redirect(SessionCore& core, const Message& response) {
  const auto* const notify = response.notify(NotifyType::redirect);
  if (notify == nullptr || !core.redirect.client) return false;
  if (const auto to = told(core, *notify, core.in<InitSent>()->nonce)) leave_for(core, *to, ExchangeType::ike_sa_init);
  return true;
}

std::optional<GatewayIdentity> auth_redirect(SessionCore& core, const Message& response) {
  const auto* const notify = response.notify(NotifyType::redirect);
  return notify == nullptr || !core.redirect.client ? std::nullopt : told(core, *notify, {});
}

// §6: the IKE SA stands, and we close it.
void leave_after_auth(SessionCore& core, const GatewayIdentity& to, const Identity& peer, Time now) {
  AuthSent state = std::move(*core.in<AuthSent>());
  if (state.child) core.setup.surroundings->free_spi(state.child->spi_in);
  core.remote_identity = peer;
  established(core, now);
  core.emit(Redirected{to, ExchangeType::ike_auth, core.wanted});
  core.add_task({TaskKind::delete_ike, {}, {}, now});
}

// §5: the IKE SA goes once there is one with the other gateway.
void on_late_redirect(SessionCore& core, const Message& request) {
  const auto* const notify = request.notify(NotifyType::redirect);
  if (notify == nullptr || !core.established() || core.superseded) return;
  if (!core.redirect.client) return core.tell(EventKind::message_ignored, "REDIRECT that nobody has asked for");
  if (const auto to = told(core, *notify, {})) core.emit(Redirected{*to, ExchangeType::informational, core.wanted});
}

// --- gateway

void note_redirect_offer(SessionCore& core, const Message& request) {
  const auto* const from = request.notify(NotifyType::redirected_from);
  core.redirect.gateway = from != nullptr || request.notify(NotifyType::redirect_supported) != nullptr;
  if (from == nullptr) return;
  if (auto gateway = decode_gateway(from->data))
    core.redirect.from = std::move(*gateway);
  else
    core.tell(EventKind::message_ignored, "REDIRECTED_FROM: " + gateway.error().message());
}

// §6: also after EAP only in the last answer, when the client has proved itself.
bool redirects_in_auth(SessionCore& core, Message& reply, Time now) {
  const RedirectPolicy& policy = core.connection->redirect;
  const auto& is_full = core.setup.surroundings->is_full;
  if (!core.redirect.gateway || policy.when != RedirectWhen::auth || !is_full || !is_full(*core.connection))
    return false;
  const auto to = GatewayIdentity::parse(policy.to);
  if (!to || to->address == core.local.address || to == core.redirect.from) return false;  // §7: not to and fro
  reply.add_notify(NotifyType::redirect, encode_gateway(*to));
  core.redirect.to = *to;
  core.redirect.leave_by = now + std::chrono::seconds(policy.leave_s);
  core.tell(EventKind::redirected, "the peer is sent to " + to->text());
  return true;
}

void start_redirect(SessionCore& core, Time now) {
  if (!core.redirect.to) return;
  Message message = core.request(ExchangeType::informational);
  message.add_notify(NotifyType::redirect, encode_gateway(*core.redirect.to));
  core.tell(EventKind::redirected, "the peer is sent to " + core.redirect.to->text());
  core.send_request(std::move(message), now, Redirecting{});
}

// §5: it has time to set up what it needs there.
void redirect_answered(SessionCore& core, Time now) {
  core.redirect.leave_by = now + std::chrono::seconds(core.connection->redirect.leave_s);
}

}  // namespace postern::ike
