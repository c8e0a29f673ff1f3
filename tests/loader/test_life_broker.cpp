#include <cstring>
#include <optional>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.hpp"
#include "loader/broker.hpp"

using namespace postern;
using namespace postern::loader;

namespace {

Result<Fd> a_descriptor() { return Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

BrokerOpeners openers(int& opened) {
  return {[&opened](std::uint32_t, Family, std::uint16_t) { return ++opened, a_descriptor(); },
          [&opened](std::uint32_t, Family) { return ++opened, a_descriptor(); },
          [&opened](std::uint32_t, Family) { return ++opened, a_descriptor(); },
          [&opened](const std::string&) { return ++opened, a_descriptor(); }};
}

BrokerGrant ike_grant() { return {"postern-ike", {500, 4500}, {0, 10}, false, false, {}}; }

BrokerRequest worker_channel() {
  BrokerRequest request;
  request.kind = BrokerKind::worker_channel;
  return request;
}

BrokerRequest udp(std::uint16_t port, std::uint32_t vrf = 0, std::uint8_t family = 4) {
  BrokerRequest request;
  request.kind = BrokerKind::udp_socket;
  request.port = port;
  request.vrf = vrf;
  request.family = family;
  return request;
}

BrokerRequest tun(const char* name) {
  BrokerRequest request;
  request.kind = BrokerKind::tun;
  std::memcpy(request.name.data(), name, std::strlen(name));
  return request;
}

struct Ends {
  Fd ours, childs;
  Ends() {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    ours = Fd(ends[0]);
    childs = Fd(ends[1]);
  }
};

struct Answer {
  BrokerReply reply;
  bool descriptor = false;
};
std::optional<Answer> receive(const Fd& from) {
  Answer answer;
  iovec part{&answer.reply, sizeof answer.reply};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (::recvmsg(from.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != sizeof answer.reply) return std::nullopt;
  if (const cmsghdr* const rights = CMSG_FIRSTHDR(&message)) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(rights), sizeof fd);
    const Fd owned(fd);
    answer.descriptor = static_cast<bool>(owned);
  }
  return answer;
}

}  // namespace

TEST_CASE("what a child may have, and what it may not") {
  spdlog::set_level(spdlog::level::off);
  struct Row {
    const char* what;
    BrokerRequest request;
    int code;  // 0: given
  };
  BrokerRequest raw_esp = udp(0), raw_icmp = udp(0), named = udp(500), other_version = udp(500), reserved = udp(500),
                unknown = udp(500);
  raw_esp.kind = BrokerKind::raw_esp;
  raw_icmp.kind = BrokerKind::raw_icmp;
  named.name[0] = 'x';
  other_version.version = broker_version + 1;
  reserved.reserved = 1;
  unknown.kind = static_cast<BrokerKind>(77);
  const Row rows[] = {
      {"UDP 500", udp(500), 0},
      {"UDP 4500 in a VRF, IPv6", udp(4500, 10, 6), 0},
      {"another port", udp(53), EPERM},
      {"port 0", udp(0), EPERM},
      {"another VRF", udp(500, 11), EPERM},
      {"no such family", udp(500, 0, 5), EINVAL},
      {"a name where none belongs", named, EINVAL},
      {"raw ESP", raw_esp, EPERM},
      {"raw ICMP", raw_icmp, EPERM},
      {"a tunnel", tun("Tunnel0"), EPERM},
      {"another version", other_version, EINVAL},
      {"reserved field", reserved, EINVAL},
      {"unknown kind", unknown, EINVAL},
      {"a channel to the worker", worker_channel(), EPERM},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    int opened = 0;
    Broker broker(Fd{}, ike_grant(), openers(opened));
    const auto answer = broker.answer(row.request);
    CHECK((answer ? 0 : answer.error().code) == row.code);
    CHECK(opened == (row.code == 0 ? 1 : 0));  // a refusal opens nothing
  }
}

TEST_CASE("the channel to the worker: where it is granted, and with nothing else in the request") {
  spdlog::set_level(spdlog::level::off);
  int opened = 0, made = 0;
  BrokerGrant grant = ike_grant();
  grant.worker_channel = true;
  BrokerOpeners all = openers(opened);
  all.worker_channel = [&made] { return ++made, a_descriptor(); };
  Broker broker(Fd{}, grant, all);
  CHECK(broker.answer(worker_channel()));
  BrokerRequest with_port = worker_channel(), named = worker_channel();
  with_port.port = 500;
  named.name[0] = 'x';
  CHECK(broker.answer(with_port).error().code == EINVAL);
  CHECK(broker.answer(named).error().code == EINVAL);
  CHECK(made == 1);
  CHECK(opened == 0);
}

TEST_CASE("a grant that changes holds from then on") {
  spdlog::set_level(spdlog::level::off);
  int opened = 0;
  Broker broker(Fd{}, BrokerGrant{"child", {}, {}, false, false, {}}, openers(opened));
  CHECK(broker.answer(udp(500)).error().code == EPERM);
  broker.set_grant(ike_grant());
  CHECK(broker.answer(udp(500)));
  broker.set_grant(BrokerGrant{"child", {}, {}, false, false, {}});
  CHECK(broker.answer(udp(500)).error().code == EPERM);
  CHECK(opened == 1);
}

TEST_CASE("tunnels by their exact names alone") {
  spdlog::set_level(spdlog::level::off);
  int opened = 0;
  BrokerGrant grant{"child", {}, {0}, false, false, {"Tunnel0"}};
  Broker broker(Fd{}, grant, openers(opened));
  CHECK(broker.answer(tun("Tunnel0")));
  for (const char* bad : {"Tunnel1", "Tunnel", "../etc", "Tunnel0/"})
    CHECK(broker.answer(tun(bad)).error().code == EPERM);
  BrokerRequest trailing = tun("Tunnel0");
  trailing.name[10] = 'x';
  CHECK(broker.answer(trailing).error().code == EINVAL);
  BrokerRequest unterminated = tun("Tunnel0");
  unterminated.name.fill('T');
  CHECK(broker.answer(unterminated).error().code == EINVAL);
  CHECK(broker.answer(tun("")).error().code == EINVAL);
  BrokerRequest with_port = tun("Tunnel0");
  with_port.port = 1;
  CHECK(broker.answer(with_port).error().code == EINVAL);
  CHECK(opened == 1);
}

TEST_CASE("over the socket: the descriptor travels with a good answer and with no other") {
  spdlog::set_level(spdlog::level::off);
  int opened = 0;
  Ends ends;
  Broker broker(std::move(ends.ours), ike_grant(), openers(opened));
  BrokerRequest good = udp(500), bad = udp(22);
  good.id = 7;
  bad.id = 8;
  REQUIRE(::send(ends.childs.get(), &good, sizeof good, 0) == sizeof good);
  REQUIRE(::send(ends.childs.get(), &bad, sizeof bad, 0) == sizeof bad);
  REQUIRE(broker.serve());
  const auto first = receive(ends.childs), second = receive(ends.childs);
  REQUIRE(first);
  REQUIRE(second);
  CHECK(first->reply.id == 7);
  CHECK(first->reply.code == 0);
  CHECK(first->descriptor);
  CHECK(second->reply.id == 8);
  CHECK(second->reply.code == EPERM);
  CHECK(!second->descriptor);
}

TEST_CASE("a child that sends something else is dropped") {
  int opened = 0;
  for (const std::size_t size : {std::size_t{1}, sizeof(BrokerRequest) - 1, sizeof(BrokerRequest) + 1}) {
    Ends ends;
    Broker broker(std::move(ends.ours), ike_grant(), openers(opened));
    const std::string bytes(size, '\1');
    REQUIRE(::send(ends.childs.get(), bytes.data(), bytes.size(), 0) > 0);
    const auto served = broker.serve();
    REQUIRE(!served);
    CHECK(served.error().code == EPROTO);
  }
  Ends ends;
  Broker broker(std::move(ends.ours), ike_grant(), openers(opened));
  CHECK(broker.serve());  // nothing there yet
  ends.childs.reset();
  CHECK(!broker.serve());
  CHECK(opened == 0);
}

TEST_CASE("a child cannot have descriptors without end") {
  int opened = 0;
  Ends ends;
  Broker broker(std::move(ends.ours), ike_grant(), openers(opened));
  std::uint32_t given = 0, refused = 0;
  for (std::uint32_t i = 0; i < Broker::max_descriptors + 5; ++i) {
    const BrokerRequest request = udp(500);
    REQUIRE(::send(ends.childs.get(), &request, sizeof request, 0) == sizeof request);
    REQUIRE(broker.serve());
    const auto answer = receive(ends.childs);
    REQUIRE(answer);
    ++(answer->reply.code == 0 ? given : refused);
    if (answer->reply.code != 0) CHECK(answer->reply.code == EMFILE);
  }
  CHECK(given == Broker::max_descriptors);
  CHECK(refused == 5);
}

TEST_CASE(
    "an address that a peer lends a tunnel: granted by itself, of the family that is said, without a descriptor") {
  spdlog::set_level(spdlog::level::off);
  int opened = 0;
  std::vector<std::string> told;
  BrokerOpeners all = openers(opened);
  all.tunnel_address = [&](const std::string& name, Family family,
                           const std::optional<IpAddress>& address) -> Result<void> {
    told.push_back(name + (family == Family::v4 ? " 4 " : " 6 ") + (address ? address->text() : "none"));
    if (name == "Tunnel9") return fail("no such tunnel", EPERM);
    return {};
  };
  const auto ask = [](const char* name, std::uint8_t family, const char* address) {
    BrokerRequest request = tun(name);
    request.kind = BrokerKind::tunnel_address;
    request.family = family;
    if (address != nullptr) request.address = IpAddress::parse(address)->mapped();
    return request;
  };
  BrokerGrant grant{"child", {}, {0}, false, false, {"Tunnel0"}};
  Broker without(Fd{}, grant, all);
  CHECK(without.answer(ask("Tunnel0", 4, "10.0.0.1")).error().code == EPERM);
  CHECK(told.empty());
  grant.tunnel_addresses = true;
  Broker broker(Fd{}, grant, all);
  for (const auto& [family, address] : {std::pair{4, "10.0.0.1"}, {6, "2001:db8::1"}, {4, nullptr}}) {
    const auto answer = broker.answer(ask("Tunnel0", static_cast<std::uint8_t>(family), address));
    REQUIRE(answer);
    CHECK_FALSE(static_cast<bool>(*answer));
  }
  CHECK(told == std::vector<std::string>{"Tunnel0 4 10.0.0.1", "Tunnel0 6 2001:db8::1", "Tunnel0 4 none"});
  CHECK(broker.answer(ask("Tunnel9", 4, "10.0.0.1")).error().code == EPERM);  // the opener's word
  told.clear();
  BrokerRequest port = ask("Tunnel0", 4, "10.0.0.1"), vrf = port, plain_tun = tun("Tunnel0");
  port.port = 1;
  vrf.vrf = 10;
  plain_tun.address = IpAddress::parse("10.0.0.1")->mapped();
  for (const BrokerRequest& bad :
       {port, vrf, plain_tun, ask("Tunnel0", 6, "10.0.0.1"), ask("Tunnel0", 4, "2001:db8::1"),
        ask("Tunnel0", 0, nullptr), ask("", 4, "10.0.0.1")})
    CHECK(broker.answer(bad).error().code == EINVAL);
  CHECK(told.empty());
  CHECK(opened == 0);
}
