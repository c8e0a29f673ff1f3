// Configuration payloads of a peer (RFC 7296 §2.19, §3.15), as the session takes them. The first byte chooses: who
// asks, and what this end's document says. Each record behind it is a length and the body of one payload, of a message
// of its own: of a peer that asks (one IKE SA, message for message), or of one that answers us. Whatever comes, a peer
// holds at most one address of each family, all of them of the pools, each lent once and taken back once; its selectors
// are within them; we hold no address that the document does not take; and what is said can be read again.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "ike/address_pool.hpp"
#include "ike/selectors.hpp"
#include "ike/session_core.hpp"

namespace postern::ike {
namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

Prefix network(const char* text) { return *Prefix::parse(text); }
bool inside(const Prefix& outer, const IpAddress& one) {
  return outer.address.family() == one.family() && !(one < outer.first()) && !(outer.last() < one);
}
bool inside(const std::vector<Prefix>& outer, const IpAddress& one) {
  return std::ranges::any_of(outer, [&](const Prefix& each) { return inside(each, one); });
}
bool one_of_each_family(const std::vector<IpAddress>& all) {
  return all.size() <= 2 && (all.size() < 2 || all[0].family() != all[1].family());
}

Session::Setup setup_of(Surroundings* surroundings) {
  return {surroundings, {*IpAddress::parse("192.0.2.2"), 500}, {*IpAddress::parse("192.0.2.1"), 500}, 0, false, {}};
}

void check_readable(const Message& message) {
  for (const Payload& one : message.payloads)
    require(one.type != PayloadType::configuration ||
            parse_payload(PayloadType::configuration, encode_payload(one)).has_value());
}

// The message of a record; nothing: the codec refuses it, or there is none.
std::optional<Message> next(ByteReader& in) {
  const std::size_t size = in.u8();
  const Octets body = octets(in.take(std::min(size, in.remaining())));
  auto payload = parse_payload(PayloadType::configuration, body);
  if (!payload) return std::nullopt;
  const auto* const parsed = std::get_if<ConfigurationPayload>(&payload->body);
  require(parsed != nullptr && parsed->attributes.size() <= max_config_attributes);
  Message out{{1, 2, ExchangeType::ike_auth, true, false, 1}, {}};
  out.payloads.push_back(std::move(*payload));
  return out;
}

// We lend.
void run_responder(unsigned choice, ByteReader in) {
  std::size_t lent = 0;
  AddressPools pools;
  Surroundings surroundings;
  surroundings.lend_address = [&](const Prefix& pool, const std::string& owner, const auto& wanted) {
    auto out = pools.take(pool, owner, wanted);
    lent += out ? 1 : 0;
    return out;
  };
  surroundings.take_address_back = [&](const IpAddress& one, const std::string& owner) {
    require(lent-- > 0);
    pools.give_back(one, owner);
  };
  auto connection = std::make_shared<Connection>();
  ClientConfiguration& tells = connection->configuration;
  if ((choice & 1U) != 0) tells.pools.push_back(network("10.1.9.0/30"));
  if ((choice & 2U) != 0) tells.pools.push_back(network("2001:db8:9::/126"));
  if ((choice & 4U) != 0) tells.pools.push_back(network("10.1.8.0/31"));
  if ((choice & 8U) != 0) tells.dns = {*IpAddress::parse("10.2.0.53"), *IpAddress::parse("2001:db8::53")};
  if ((choice & 16U) != 0) tells.subnets = {network("10.2.0.0/16"), network("2001:db8:2::/48"), network("0.0.0.0/0")};
  if ((choice & 32U) != 0) tells.banner = "welcome";
  tells.required = (choice & 64U) != 0;
  SessionCore core(setup_of(&surroundings), false);
  core.connection = connection;
  core.remote_identity = Identity::of(core.remote.address);
  const Selector all[] = {any_selector(Family::v4), any_selector(Family::v6)};
  while (in.remaining() > 0) {
    const auto request = next(in);
    if (!request) continue;
    Message reply, later;
    const auto refused = configure_peer(core, *request, reply);
    require(!refused || reply.find<ConfigurationPayload>(PayloadType::configuration) == nullptr);
    require(refused != NotifyType::internal_address_failure || (core.lent.empty() && !tells.pools.empty()));
    require(one_of_each_family(core.lent) && pools.lent() == core.lent.size() && lent == core.lent.size());
    for (const IpAddress& one : core.lent) require(inside(tells.pools, one));
    const auto allowed = within_lent(core, all);
    require(core.lent.empty() ? allowed.size() == 2 : allowed.size() == core.lent.size());
    answer_configuration(*request, later);
    check_readable(reply);
    check_readable(later);
  }
  give_addresses_back(core);
  require(pools.lent() == 0 && lent == 0 && core.lent.empty());
}

// We are lent.
void run_initiator(unsigned choice, ByteReader in) {
  Surroundings surroundings;
  if ((choice & 4U) != 0)
    surroundings.held_address = [](const std::string&, Family family) -> std::optional<IpAddress> {
      return *IpAddress::parse(family == Family::v4 ? "10.1.9.1" : "2001:db8:9::1");
    };
  ChildPolicy tunnel;
  tunnel.interface = "Tunnel0";
  if ((choice & 1U) != 0) tunnel.ask.push_back(network("10.1.0.0/16"));
  if ((choice & 2U) != 0) tunnel.ask.push_back(network("2001:db8:9::/48"));
  auto connection = std::make_shared<Connection>();
  connection->children = {tunnel};
  SessionCore core(setup_of(&surroundings), true);
  core.connection = connection;
  Message question;
  ask_for_configuration(core, question);
  require(question.payloads.size() == (tunnel.ask.empty() ? 0 : 1));
  for (const Payload& one : question.payloads)
    require(std::ranges::any_of(std::get<ConfigurationPayload>(one.body).attributes, [](const ConfigAttribute& each) {
      return each.type == ConfigType::ip4_address || each.type == ConfigType::ip6_address;
    }));
  check_readable(question);
  while (in.remaining() > 0) {
    auto answer = next(in);
    if (!answer) continue;
    const bool error = (choice & 8U) != 0;
    if (error) answer->add_notify(NotifyType::internal_address_failure);
    const auto taken = take_configuration(core, *answer);
    const AssignedConfiguration& told = core.assigned;
    require(taken.has_value() || (!taken.error().summary.empty() && !taken.error().remedy.empty()));
    require(!error || tunnel.ask.empty() || !taken);
    require(one_of_each_family(told.addresses));
    for (const IpAddress& one : told.addresses) require(inside(tunnel.ask, one));
    require(!taken || tunnel.ask.empty() || !told.addresses.empty());
    require(told.dns.size() <= 16 && told.subnets.size() <= 16 && told.banner.size() <= 1024);
    require(std::ranges::all_of(told.banner, [](char c) { return c >= 0x20 && c < 0x7f; }));
  }
  drop_configuration(core);
  require(core.assigned.addresses.empty());
}

}  // namespace
}  // namespace postern::ike

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  postern::ByteReader in(std::as_bytes(std::span(data, size)));
  const unsigned choice = in.u8();
  if (!in.ok() || size > 8192) return 0;
  if ((choice & 128U) == 0)
    postern::ike::run_responder(choice, in);
  else
    postern::ike::run_initiator(choice, in);
  return 0;
}
