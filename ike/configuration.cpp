// The configuration payload (RFC 7296 §2.19, §3.15): what a peer that asks is lent and told, and what we ask for.
#include <algorithm>
#include <bit>

#include "ike/selectors.hpp"
#include "ike/session_core.hpp"

namespace postern::ike {
namespace {

Octets address_octets(const IpAddress& address) {
  const auto mapped = address.mapped();
  const Bytes bytes = std::as_bytes(std::span(mapped));
  return octets(address.family() == Family::v4 ? bytes.last(4) : bytes);
}

std::optional<IpAddress> address_in(const Octets& value) {
  if (value.size() == 4) return IpAddress::v4(ByteReader(value).u32());
  if (value.size() < 16) return std::nullopt;
  std::array<std::uint8_t, 16> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = std::to_integer<std::uint8_t>(value[i]);
  return IpAddress::from_mapped(bytes);
}

// §3.15.1: an IPv6 address or network goes with the length of its prefix.
Octets with_length(const IpAddress& address, std::uint8_t length) {
  Octets out = address_octets(address);
  out.push_back(static_cast<std::byte>(length));
  return out;
}

Octets netmask_of(const Prefix& prefix) {
  Octets out(4);
  ByteWriter(out).u32(prefix.length == 0 ? 0 : ~std::uint32_t{0} << (32U - prefix.length));
  return out;
}

std::string owner_of(const SessionCore& core) {
  return core.connection->profile_name + " " + core.remote_identity->text();
}

// Of the first pool of the family that has one left. An IKE SA has one of each family.
std::optional<IpAddress> lend(SessionCore& core, Family family, const Octets& wanted) {
  const auto has = std::ranges::find(core.lent, family, [](const IpAddress& one) { return one.family(); });
  if (has != core.lent.end()) return *has;
  if (!core.setup.surroundings->lend_address) return std::nullopt;
  for (const Prefix& pool : core.connection->configuration.pools) {
    if (pool.address.family() != family) continue;
    const auto address = core.setup.surroundings->lend_address(pool, owner_of(core), address_in(wanted));
    if (!address) continue;
    core.lent.push_back(*address);
    return address;
  }
  return std::nullopt;
}

void tell_networks(const ClientConfiguration& configuration, ConfigurationPayload& reply) {
  for (const Prefix& one : configuration.subnets) {
    if (one.address.family() == Family::v4) {
      Octets value = address_octets(one.address);
      const Octets mask = netmask_of(one);
      value.insert(value.end(), mask.begin(), mask.end());
      reply.attributes.push_back({ConfigType::ip4_subnet, std::move(value)});
    } else {
      reply.attributes.push_back({ConfigType::ip6_subnet, with_length(one.address, one.length)});
    }
  }
  for (const IpAddress& one : configuration.dns)
    reply.attributes.push_back(
        {one.family() == Family::v4 ? ConfigType::ip4_dns : ConfigType::ip6_dns, address_octets(one)});
  if (!configuration.banner.empty())
    reply.attributes.push_back({ConfigType::unity_banner, octets(as_bytes(configuration.banner))});
}

std::optional<Prefix> network_in(const ConfigAttribute& one) {
  if (one.type == ConfigType::ip6_subnet && one.value.size() == 17) {
    const auto length = std::to_integer<std::uint8_t>(one.value.back());
    return length <= 128 ? std::optional(Prefix{*address_in(one.value), length}) : std::nullopt;
  }
  if (one.type != ConfigType::ip4_subnet || one.value.size() != 8) return std::nullopt;
  ByteReader in(one.value);
  const auto address = IpAddress::v4(in.u32());
  const std::uint32_t mask = in.u32();
  const int length = std::countl_one(mask);
  if (std::popcount(mask) != length) return std::nullopt;
  return Prefix{address, static_cast<std::uint8_t>(length)};
}

// The tunnel that wants addresses: one of a connection at most (config/check_ikev2.cpp).
const ChildPolicy* asking(const Connection& connection) {
  const auto found = std::ranges::find_if(connection.children, [](const ChildPolicy& one) { return !one.ask.empty(); });
  return found == connection.children.end() ? nullptr : &*found;
}

bool asks_for(const ChildPolicy& child, Family family) {
  return std::ranges::any_of(child.ask, [&](const Prefix& one) { return one.address.family() == family; });
}

bool may_be_lent(const ChildPolicy& child, const IpAddress& address) {
  return std::ranges::any_of(child.ask, [&](const Prefix& one) {
    return one.address.family() == address.family() && !(address < one.first()) && !(one.last() < address);
  });
}

Failure not_configured(const ChildPolicy& child, const NotifyPayload* error, const std::vector<IpAddress>& refused) {
  Failure out;
  out.kind = FailureKind::refused;
  out.by_peer = error != nullptr || refused.empty();
  for (const Prefix& one : child.ask) out.accepted += (out.accepted.empty() ? "" : ", ") + one.text();
  for (const IpAddress& one : refused) out.offered += (out.offered.empty() ? "" : ", ") + one.text();
  out.summary = !refused.empty()   ? child.interface + ": the peer lends an address that we do not take"
                : error != nullptr ? child.interface + ": the peer lends no address: " + text(error->type)
                                   : child.interface + ": the peer lends no address";
  out.remedy = !refused.empty() ? "list its network in negotiated_addresses of the tunnel, or correct the peer's pool"
                                : "give the peer a pool with a free address for this identity";
  return out;
}

// What is told beside addresses, as much of it as anybody needs.
void note_networks(const ConfigAttribute& one, AssignedConfiguration& out) {
  constexpr std::size_t most = 16;
  if ((one.type == ConfigType::ip4_dns || one.type == ConfigType::ip6_dns) && out.dns.size() < most)
    if (const auto address = address_in(one.value)) out.dns.push_back(*address);
  if (const auto network = network_in(one); network && out.subnets.size() < most) out.subnets.push_back(*network);
  if (one.type == ConfigType::unity_banner && out.banner.empty() && one.value.size() <= 1024)
    for (const std::byte b : one.value) {
      const auto c = std::to_integer<char>(b);
      out.banner += c >= 0x20 && c < 0x7f ? c : '?';
    }
}

const ConfigurationPayload* question_in(const Message& message) {
  const auto* const asked = message.find<ConfigurationPayload>(PayloadType::configuration);
  return asked != nullptr && asked->kind == ConfigKind::request ? asked : nullptr;
}

}  // namespace

std::optional<NotifyType> configure_peer(SessionCore& core, const Message& request, Message& reply) {
  const ClientConfiguration& configuration = core.connection->configuration;
  const auto* const asked = question_in(request);
  if (asked == nullptr) return configuration.required ? std::optional(NotifyType::failed_cp_required) : std::nullopt;
  ConfigurationPayload answer{ConfigKind::reply, {}};
  bool wants_address = false;
  for (const ConfigAttribute& one : asked->attributes) {
    const bool v4 = one.type == ConfigType::ip4_address, v6 = one.type == ConfigType::ip6_address;
    if ((!v4 && !v6) || configuration.pools.empty()) continue;
    wants_address = true;
    const auto address = lend(core, v4 ? Family::v4 : Family::v6, one.value);
    if (address && v4) answer.attributes.push_back({one.type, address_octets(*address)});
    if (address && v6) answer.attributes.push_back({one.type, with_length(*address, 128)});
  }
  if (wants_address && core.lent.empty()) return NotifyType::internal_address_failure;
  tell_networks(configuration, answer);
  if (!answer.attributes.empty()) reply.add(PayloadType::configuration, std::move(answer));
  return std::nullopt;
}

void give_addresses_back(SessionCore& core) {
  for (const IpAddress& one : std::exchange(core.lent, {}))
    if (core.setup.surroundings->take_address_back) core.setup.surroundings->take_address_back(one, owner_of(core));
}

std::vector<Selector> within_lent(const SessionCore& core, std::span<const Selector> offered) {
  if (core.lent.empty()) return {offered.begin(), offered.end()};
  std::vector<Selector> allowed;
  for (const IpAddress& one : core.lent) allowed.push_back(selector_of(Prefix::host(one)));
  return narrow(offered, allowed, max_wire_selectors);
}

void ask_for_configuration(const SessionCore& core, Message& request) {
  const ChildPolicy* const child = asking(*core.connection);
  if (child == nullptr) return;
  ConfigurationPayload question{ConfigKind::request, {}};
  for (const Family family : {Family::v4, Family::v6}) {
    if (!asks_for(*child, family)) continue;
    const bool v4 = family == Family::v4;
    const auto& held = core.setup.surroundings->held_address;
    const auto before = held ? held(core.connection->name, family) : std::nullopt;
    Octets wanted = !before ? Octets() : v4 ? address_octets(*before) : with_length(*before, 128);
    question.attributes.push_back({v4 ? ConfigType::ip4_address : ConfigType::ip6_address, std::move(wanted)});
    question.attributes.push_back({v4 ? ConfigType::ip4_dns : ConfigType::ip6_dns, {}});
    question.attributes.push_back({v4 ? ConfigType::ip4_subnet : ConfigType::ip6_subnet, {}});
  }
  request.add(PayloadType::configuration, std::move(question));
}

Result<void, Failure> take_configuration(SessionCore& core, const Message& response) {
  const ChildPolicy* const child = asking(*core.connection);
  if (child == nullptr) return {};
  const auto* const told = response.find<ConfigurationPayload>(PayloadType::configuration);
  AssignedConfiguration out;
  out.interface = child->interface;
  std::vector<IpAddress> refused;
  if (told != nullptr && told->kind == ConfigKind::reply)
    for (const ConfigAttribute& one : told->attributes) {
      note_networks(one, out);
      if (one.type != ConfigType::ip4_address && one.type != ConfigType::ip6_address) continue;
      const auto address = address_in(one.value);
      if (!address) continue;
      const bool second = std::ranges::any_of(
          out.addresses, [&](const IpAddress& other) { return other.family() == address->family(); });
      if (!may_be_lent(*child, *address))
        refused.push_back(*address);
      else if (!second)
        out.addresses.push_back(*address);
    }
  if (out.addresses.empty() || !refused.empty() || response.error() != nullptr)
    return std::unexpected(not_configured(*child, response.error(), refused));
  core.assigned = std::move(out);
  core.emit(Reassigned{child->interface});
  return {};
}

void drop_configuration(SessionCore& core) {
  if (core.assigned.addresses.empty()) return;
  core.emit(Reassigned{std::exchange(core.assigned, {}).interface});
}

// §3.15: a set is acknowledged, and nothing of it is taken; of a question nothing is told but in IKE_AUTH.
void answer_configuration(const Message& request, Message& reply) {
  const auto* const asked = request.find<ConfigurationPayload>(PayloadType::configuration);
  if (asked == nullptr) return;
  if (asked->kind == ConfigKind::request)
    reply.add(PayloadType::configuration, ConfigurationPayload{ConfigKind::reply, {}});
  if (asked->kind == ConfigKind::set) reply.add(PayloadType::configuration, ConfigurationPayload{ConfigKind::ack, {}});
}

}  // namespace postern::ike
