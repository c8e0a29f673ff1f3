#include "ike/broker_client.hpp"

#include <algorithm>
#include <utility>

#include <sys/socket.h>

#include "base/descriptors.hpp"

namespace postern::ike {
namespace {

struct Answer {
  BrokerReply reply;
  std::vector<Fd> descriptors;
};

Result<Answer> receive(int socket) {
  Answer answer;
  iovec part{&answer.reply, sizeof answer.reply};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0) return fail_errno("broker: receive");
  answer.descriptors = take_descriptors(message);
  if (got != sizeof answer.reply) return fail("broker: posternd is gone", ECONNRESET);
  return answer;
}

Result<Fd> descriptor_of(Answer answer, bool expected) {
  if (answer.reply.code != 0) return fail("broker: refused", answer.reply.code);
  if (!expected) return Fd();
  if (answer.descriptors.empty()) return fail("broker: an answer without a descriptor", EPROTO);
  return std::move(answer.descriptors.front());
}

}  // namespace

Result<void> BrokerClient::ask(BrokerRequest request, Take take) {
  if (!socket_) return fail("broker: posternd has not given one", ENOTCONN);
  request.id = next_id_++;
  if (::send(socket_.get(), &request, sizeof request, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
    return fail_errno("broker: ask");
  waiting_[request.id] = {std::move(take), request.kind != BrokerKind::tunnel_address};
  return {};
}

Result<void> BrokerClient::udp_socket(std::uint32_t vrf, Family family, std::uint16_t port, Take take) {
  BrokerRequest request;
  request.kind = BrokerKind::udp_socket;
  request.vrf = vrf;
  request.family = family == Family::v4 ? std::uint8_t{4} : std::uint8_t{6};
  request.port = port;
  return ask(request, std::move(take));
}

Result<void> BrokerClient::worker_channel(Take take) {
  BrokerRequest request;
  request.kind = BrokerKind::worker_channel;
  return ask(request, std::move(take));
}

Result<void> BrokerClient::pki_channel(Take take) {
  BrokerRequest request;
  request.kind = BrokerKind::pki_channel;
  return ask(request, std::move(take));
}

Result<void> BrokerClient::tunnel_address(const std::string& interface, Family family,
                                          const std::optional<IpAddress>& address, Take take) {
  BrokerRequest request;
  request.kind = BrokerKind::tunnel_address;
  request.family = family == Family::v4 ? std::uint8_t{4} : std::uint8_t{6};
  if (interface.size() >= request.name.size()) return fail("broker: not the name of a tunnel", EINVAL);
  std::ranges::copy(interface, request.name.begin());
  if (address) request.address = address->mapped();
  return ask(request, std::move(take));
}

Result<void> BrokerClient::resolver_channel(Take take) {
  BrokerRequest request;
  request.kind = BrokerKind::resolver_channel;
  return ask(request, std::move(take));
}

Result<void> BrokerClient::on_ready() {
  for (;;) {
    auto answer = receive(socket_.get());
    if (!answer && (answer.error().code == EAGAIN || answer.error().code == EINTR)) return {};
    if (!answer) return std::unexpected(answer.error());
    const auto known = waiting_.find(answer->reply.id);
    if (known == waiting_.end()) continue;
    const Waiting waiting = std::move(known->second);
    waiting_.erase(known);
    waiting.take(descriptor_of(std::move(*answer), waiting.for_descriptor));
  }
}

}  // namespace postern::ike
