#include "loader/broker.hpp"

#include <algorithm>
#include <optional>
#include <span>

#include <sys/socket.h>

#include "base/log.hpp"
#include "base/send_descriptors.hpp"

namespace postern::loader {
namespace {

constexpr int max_requests_a_turn = 16;  // a child that asks without end must not hold up the loop

template <class T>
bool holds(const std::vector<T>& all, const T& one) {
  return std::ranges::find(all, one) != all.end();
}

template <class T>
bool all_zero(const std::array<T, 16>& bytes) {
  return std::ranges::all_of(bytes, [](T one) { return one == T{}; });
}

// The name up to its NUL; an error when it has none or carries bytes behind it.
Result<std::string> name_of(const BrokerRequest& request) {
  const auto end = std::ranges::find(request.name, '\0');
  if (end == request.name.end() || end == request.name.begin()) return fail("broker: bad name", EINVAL);
  if (!std::all_of(end, request.name.end(), [](char c) { return c == '\0'; })) return fail("broker: bad name", EINVAL);
  return std::string(request.name.begin(), end);
}

Result<Family> family_of(const BrokerRequest& request) {
  if (request.family == 4) return Family::v4;
  if (request.family == 6) return Family::v6;
  return fail("broker: bad address family", EINVAL);
}

// The kinds that are asked for without any field.
struct ChannelKind {
  const char* what;
  bool BrokerGrant::* granted;
  std::function<Result<Fd>()> BrokerOpeners::* opener;
};
std::optional<ChannelKind> channel_of(BrokerKind kind) {
  switch (kind) {
    case BrokerKind::worker_channel:
      return ChannelKind{"a channel to the worker", &BrokerGrant::worker_channel, &BrokerOpeners::worker_channel};
    case BrokerKind::pki_channel:
      return ChannelKind{"a channel to postern-pki", &BrokerGrant::pki_channel, &BrokerOpeners::pki_channel};
    case BrokerKind::resolver_channel:
      return ChannelKind{"a channel to postern-resolver", &BrokerGrant::resolver_channel,
                         &BrokerOpeners::resolver_channel};
    default: return std::nullopt;
  }
}

Result<void> reply(int socket, std::uint64_t id, const Result<Fd>& outcome) {
  BrokerReply body{id, outcome ? 0 : (outcome.error().code == 0 ? EIO : outcome.error().code), 0};
  const int fd = outcome ? outcome->get() : -1;
  if (send_descriptors(socket, std::as_bytes(std::span(&body, 1)), {&fd, fd >= 0 ? 1U : 0U}) < 0)
    return fail_errno("broker: answer");
  return {};
}

}  // namespace

Result<Fd> Broker::answer(const BrokerRequest& request) {
  if (request.version != broker_version || request.reserved != 0) return fail("broker: bad request", EINVAL);
  if (given_ >= max_descriptors) return fail("broker: too many descriptors", EMFILE);
  const auto refuse = [&](const char* what) {
    spdlog::warn("broker: {} asked for {} and may not have it", grant_.child, what);
    return fail(std::string("broker: not granted: ") + what, EPERM);
  };
  if (request.kind == BrokerKind::tunnel_address) {
    POSTERN_TRY(name, name_of(request));
    POSTERN_TRY(family, family_of(request));
    const auto address = IpAddress::from_mapped(request.address);
    const bool none = all_zero(request.address);
    if (request.vrf != 0 || request.port != 0 || (!none && address.family() != family))
      return fail("broker: bad request", EINVAL);
    if (!grant_.tunnel_addresses || !openers_.tunnel_address) return refuse("an address of a tunnel");
    POSTERN_CHECK(openers_.tunnel_address(name, family, none ? std::nullopt : std::optional(address)));
    return Fd();
  }
  if (!all_zero(request.address)) return fail("broker: bad request", EINVAL);
  if (request.kind == BrokerKind::tun) {
    POSTERN_TRY(name, name_of(request));
    if (request.vrf != 0 || request.port != 0 || request.family != 0) return fail("broker: bad request", EINVAL);
    if (!holds(grant_.tuns, name)) return refuse("a tunnel device");
    return openers_.tun(name);
  }
  if (const auto channel = channel_of(request.kind)) {
    if (request.vrf != 0 || request.port != 0 || request.family != 0 || !all_zero(request.name))
      return fail("broker: bad request", EINVAL);
    const auto& open = openers_.*channel->opener;
    if (!(grant_.*channel->granted) || !open) return refuse(channel->what);
    return open();
  }
  POSTERN_TRY(family, family_of(request));
  if (!all_zero(request.name)) return fail("broker: bad request", EINVAL);
  switch (request.kind) {
    case BrokerKind::udp_socket:
      if (!holds(grant_.udp_ports, request.port) || !holds(grant_.vrfs, request.vrf)) return refuse("a UDP socket");
      return openers_.udp_socket(request.vrf, family, request.port);
    case BrokerKind::raw_esp:
    case BrokerKind::raw_icmp: {
      if (request.port != 0) return fail("broker: bad request", EINVAL);
      const bool esp = request.kind == BrokerKind::raw_esp;
      if (!(esp ? grant_.raw_esp : grant_.raw_icmp) || !holds(grant_.vrfs, request.vrf)) return refuse("a raw socket");
      return (esp ? openers_.raw_esp : openers_.raw_icmp)(request.vrf, family);
    }
    case BrokerKind::worker_channel:
    case BrokerKind::pki_channel:
    case BrokerKind::tunnel_address:
    case BrokerKind::resolver_channel:
    case BrokerKind::tun: break;
  }
  return fail("broker: unknown kind", EINVAL);
}

Result<void> Broker::serve() {
  for (int served = 0; served < max_requests_a_turn; ++served) {
    BrokerRequest request;
    iovec part{&request, sizeof request};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;  // no control buffer: descriptors that a child sends are closed by the kernel
    const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return {};
    if (got < 0) return fail_errno("broker: receive");
    if (got == 0) return fail("broker: " + grant_.child + " closed its socket", ECONNRESET);
    if (got != sizeof request || (message.msg_flags & MSG_TRUNC) != 0)
      return fail("broker: " + grant_.child + " sent something that is no request", EPROTO);
    const auto outcome = answer(request);
    if (outcome && *outcome) ++given_;
    POSTERN_CHECK(reply(socket_.get(), request.id, outcome));
  }
  return {};
}

}  // namespace postern::loader
