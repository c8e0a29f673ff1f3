// The configuration payload (RFC 7296 §2.19, §3.15): what a peer that asks is lent and told.
#include <algorithm>

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

std::string owner_of(const SessionCore& core) { return core.connection->profile_name + " " + core.remote_identity->text(); }

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

const ConfigurationPayload* question_in(const Message& message) {
  const auto* const asked = message.find<ConfigurationPayload>(PayloadType::configuration);
  return asked != nullptr && asked->kind == ConfigKind::request ? asked : nullptr;
}

}  // namespace

std::optional<NotifyType> configure_peer(SessionCore& core, const Message& request, Message& reply) {
  const ClientConfiguration& configuration = core.connection->configuration;
  const auto* const asked = question_in(request);
  if (asked == nullptr)
    return configuration.required ? std::optional(NotifyType::failed_cp_required) : std::nullopt;
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
    if (core.setup.surroundings->take_address_back)
      core.setup.surroundings->take_address_back(one, owner_of(core));
}

std::vector<Selector> within_lent(const SessionCore& core, std::span<const Selector> offered) {
  if (core.lent.empty()) return {offered.begin(), offered.end()};
  std::vector<Selector> allowed;
  for (const IpAddress& one : core.lent) allowed.push_back(selector_of(Prefix::host(one)));
  return narrow(offered, allowed, max_wire_selectors);
}

// §3.15: a set is acknowledged, and nothing of it is taken; of a question nothing is told but in IKE_AUTH.
void answer_configuration(const Message& request, Message& reply) {
  const auto* const asked = request.find<ConfigurationPayload>(PayloadType::configuration);
  if (asked == nullptr) return;
  if (asked->kind == ConfigKind::request) reply.add(PayloadType::configuration, ConfigurationPayload{ConfigKind::reply, {}});
  if (asked->kind == ConfigKind::set) reply.add(PayloadType::configuration, ConfigurationPayload{ConfigKind::ack, {}});
}

}  // namespace postern::ike
