#include "maps/policy.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <map>
#include <set>
#include <string>

namespace postern {
namespace {

using RuleIndex = std::uint32_t;

void set_bit(postern_ace_bits& bits, RuleIndex index) {
  bits.words[index / 64] |= std::uint64_t{1} << (index % 64);
  bits.summary |= std::uint64_t{1} << (index / 64);
}

// A node of an LPM table before its bits are known: `length` leading bits of `bytes`; the other bits are zero.
struct Node {
  std::array<std::uint8_t, 16> bytes{};
  unsigned length = 0;
  auto operator<=>(const Node&) const = default;  // by bytes and then length: a node follows those that cover it

  [[nodiscard]] bool covers(const Node& other) const {
    if (length > other.length) return false;
    for (unsigned bit = 0; bit < length; bit += 8) {
      const auto mask = static_cast<std::uint8_t>(length - bit >= 8 ? 0xff : 0xff00U >> (length - bit));
      if ((bytes[bit / 8] ^ other.bytes[bit / 8]) & mask) return false;
    }
    return true;
  }
};

Node node_of(const Prefix& prefix) { return {prefix.first().mapped(), prefix.mapped_length()}; }
const Node v4_root = node_of({IpAddress::v4(0), 0});

using Rules = std::vector<RuleIndex>;
using Nodes = std::map<Node, Rules>;

// LPM tells the longest match only, so each node carries the rules of every shorter prefix that covers it. IPv6
// prefixes shorter than ::ffff:0:0/96 cover IPv4 by accident of the v4-mapped form: their rules end at that node.
template <class Visit>
void for_each_with_inherited(const Nodes& nodes, Visit visit) {
  std::vector<std::pair<Node, postern_ace_bits>> covering;
  for (const auto& [node, rules] : nodes) {
    while (!covering.empty() && !covering.back().first.covers(node)) covering.pop_back();
    postern_ace_bits bits{};
    if (!covering.empty() && node != v4_root) bits = covering.back().second;
    for (const RuleIndex rule : rules) set_bit(bits, rule);
    visit(node, bits);
    covering.emplace_back(node, bits);
  }
}

// The fewest prefixes of 16 bits that make up a range.
void add_range(Nodes& nodes, const PolicyPortRange& range, RuleIndex rule) {
  for (std::uint32_t at = range.first; at <= range.last;) {
    unsigned host_bits = at == 0 ? 16 : static_cast<unsigned>(std::countr_zero(at));
    while (at + (std::uint32_t{1} << host_bits) - 1 > range.last) --host_bits;
    Node node;
    node.bytes[0] = static_cast<std::uint8_t>(at >> 8);
    node.bytes[1] = static_cast<std::uint8_t>(at);
    node.length = 16 - host_bits;
    Rules& rules = nodes[node];
    if (rules.empty() || rules.back() != rule) rules.push_back(rule);  // ranges of one rule may overlap
    at += std::uint32_t{1} << host_bits;
  }
}

void add_ports(Nodes& nodes, const std::vector<PolicyPortRange>& ranges, RuleIndex rule) {
  if (ranges.empty()) nodes[{}].push_back(rule);
  for (const PolicyPortRange& range : ranges) add_range(nodes, range, rule);
}

std::string named(std::size_t index, const PolicyRule& rule) {
  return "rule " + std::to_string(index) + " of entry " + std::to_string(rule.entry);
}

Result<void> check_rule(std::size_t index, const PolicyRule& rule) {
  if (rule.source.family() != rule.destination.family()) return fail(named(index, rule) + ": mixes IPv4 and IPv6");
  if (rule.permit && rule.flow == 0) return fail(named(index, rule) + ": a permit needs a flow");
  if (rule.looks_inside() && rule.fragments == PolicyFragments::only)
    return fail(named(index, rule) + ": fragments have no ports");
  const bool icmp = rule.protocol && is_icmp(*rule.protocol);
  if (rule.names_ports() && !icmp && (!rule.protocol || !has_ports(*rule.protocol)))
    return fail(named(index, rule) + ": names ports, but its protocol has none");
  if (icmp && !rule.destination_ports.empty())
    return fail(named(index, rule) + ": ICMP's type and code are source ports");
  if (!rule.tcp_flags.any() && rule.protocol != std::uint8_t{6})
    return fail(named(index, rule) + ": names TCP flags, but is not of TCP");
  for (const auto* ranges : {&rule.source_ports, &rule.destination_ports})
    for (const PolicyPortRange& range : *ranges)
      if (range.first > range.last) return fail(named(index, rule) + ": empty port range");
  return {};
}

Result<void> check(const PolicyInput& policy) {
  if (policy.generation == 0 || policy.generation == POSTERN_GENERATION_INBOUND)
    return fail("policy generation " + std::to_string(policy.generation) + " is reserved");
  if (policy.rules.size() > POSTERN_MAX_ACES)
    return fail("more than " + std::to_string(POSTERN_MAX_ACES) + " rules on one interface");
  std::size_t entries = 0;
  for (std::size_t i = 0; i < policy.rules.size(); ++i) {
    POSTERN_CHECK(check_rule(i, policy.rules[i]));
    if (i == 0 || !same_entry(policy.rules[i - 1], policy.rules[i])) ++entries;
  }
  if (entries > POSTERN_MAX_ENTRIES)
    return fail("more than " + std::to_string(POSTERN_MAX_ENTRIES) + " crypto map entries on one interface");
  return {};
}

PolicyImage::Rows<postern_prefix_key> prefix_rows(std::uint32_t generation, Nodes nodes) {
  nodes[v4_root];  // also without a rule of its own: there IPv6's "any" must end
  PolicyImage::Rows<postern_prefix_key> rows;
  for_each_with_inherited(nodes, [&](const Node& node, const postern_ace_bits& bits) {
    postern_prefix_key key{};
    key.prefix_length = 32 + node.length;
    key.generation = generation;
    std::memcpy(key.address.bytes, node.bytes.data(), sizeof key.address.bytes);
    rows.emplace_back(key, bits);
  });
  return rows;
}

PolicyImage::Rows<postern_port_key> port_rows(std::uint32_t generation, Nodes nodes) {
  nodes[{}];
  PolicyImage::Rows<postern_port_key> rows;
  for_each_with_inherited(nodes, [&](const Node& node, const postern_ace_bits& bits) {
    postern_port_key key{};
    key.prefix_length = 32 + node.length;
    key.generation = generation;
    std::memcpy(&key.port, node.bytes.data(), sizeof key.port);
    rows.emplace_back(key, bits);
  });
  return rows;
}

template <class Takes>
void add_class_rows(PolicyImage::Rows<postern_protocol_key>& rows, const PolicyInput& policy, std::uint32_t first,
                    std::uint32_t count, Takes takes) {
  for (std::uint32_t value = 0; value < count; ++value) {
    postern_ace_bits bits{};
    for (RuleIndex i = 0; i < policy.rules.size(); ++i)
      if (takes(policy.rules[i], static_cast<std::uint8_t>(value))) set_bit(bits, i);
    rows.emplace_back(postern_protocol_key{policy.generation, first + value}, bits);
  }
}

// Two rows a protocol: for packets with their ports, and for non-initial fragments. Behind them the rows of what the
// policy asks for besides.
PolicyImage::Rows<postern_protocol_key> protocol_rows(const PolicyInput& policy) {
  std::set<std::uint32_t> protocols = {POSTERN_PROTOCOL_OTHER};
  for (const PolicyRule& rule : policy.rules)
    if (rule.protocol) protocols.insert(*rule.protocol);
  PolicyImage::Rows<postern_protocol_key> rows;
  for (const std::uint32_t protocol : protocols) {
    postern_ace_bits whole{}, fragment{};
    for (RuleIndex i = 0; i < policy.rules.size(); ++i) {
      const PolicyRule& rule = policy.rules[i];
      if (rule.protocol && *rule.protocol != protocol) continue;
      if (rule.takes_whole_packets()) set_bit(whole, i);
      if (rule.takes_later_fragments()) set_bit(fragment, i);
    }
    rows.emplace_back(postern_protocol_key{policy.generation, protocol}, whole);
    rows.emplace_back(postern_protocol_key{policy.generation, protocol + POSTERN_PROTOCOL_FRAGMENT}, fragment);
  }
  const std::uint32_t asks = policy_flags(policy.rules);
  if ((asks & POSTERN_IF_CLASSES) != 0)
    add_class_rows(rows, policy, POSTERN_ROW_CLASS, 256,
                   [](const PolicyRule& rule, std::uint8_t value) { return rule.traffic_class.takes(value); });
  if ((asks & POSTERN_IF_TCP_FLAGS) != 0)
    add_class_rows(rows, policy, POSTERN_ROW_TCP_FLAGS, POSTERN_TCP_FLAGS + 1,
                   [](const PolicyRule& rule, std::uint8_t value) { return rule.tcp_flags.takes(value); });
  return rows;
}

// In order, and behind them the rows of fragment flows.
std::vector<std::pair<postern_ace_key, postern_ace>> ace_rows(const PolicyInput& policy) {
  std::vector<std::pair<postern_ace_key, postern_ace>> rows;
  const auto& rules = policy.rules;
  for (std::size_t first = 0; first < rules.size();) {
    std::size_t last = first;
    while (last + 1 < rules.size() && same_entry(rules[last], rules[last + 1])) ++last;
    for (std::size_t i = first; i <= last; ++i) {
      postern_ace ace{};
      ace.flow = rules[i].permit ? rules[i].flow : 0;
      ace.entry = rules[i].entry;
      ace.first_ace = static_cast<std::uint16_t>(first);
      ace.last_ace = static_cast<std::uint16_t>(last);
      ace.action = rules[i].permit ? POSTERN_PERMIT : POSTERN_DENY;
      ace.log = static_cast<std::uint8_t>(rules[i].log);
      rows.emplace_back(postern_ace_key{policy.generation, static_cast<std::uint32_t>(i)}, ace);
    }
    first = last + 1;
  }
  for (std::size_t i = 0; i < rules.size(); ++i) {
    if (!rules[i].permit || rules[i].fragment_flow == 0) continue;
    postern_ace apart = rows[i].second;
    apart.flow = rules[i].fragment_flow;
    rows.emplace_back(postern_ace_key{policy.generation, static_cast<std::uint32_t>(i) + POSTERN_FRAGMENT_ROW}, apart);
  }
  return rows;
}

// `key` as the kernel's LPM compares it: the bits after prefix_length, in memory order.
template <class Key>
bool lpm_covers(const Key& row, const Key& wanted) {
  const auto* a = reinterpret_cast<const std::uint8_t*>(&row) + sizeof row.prefix_length;
  const auto* b = reinterpret_cast<const std::uint8_t*>(&wanted) + sizeof row.prefix_length;
  for (std::uint32_t bit = 0; bit < row.prefix_length; ++bit)
    if ((a[bit / 8] ^ b[bit / 8]) & (0x80U >> (bit % 8))) return false;
  return true;
}

template <class Key>
const postern_ace_bits* find_longest(const PolicyImage::Rows<Key>& rows, const Key& wanted) {
  const std::pair<Key, postern_ace_bits>* best = nullptr;
  for (const auto& row : rows)
    if (lpm_covers(row.first, wanted) && (best == nullptr || row.first.prefix_length > best->first.prefix_length))
      best = &row;
  return best == nullptr ? nullptr : &best->second;
}

// Null: the policy does not ask.
const postern_ace_bits* find_row(const PolicyImage& image, std::uint32_t row) {
  const auto found = std::ranges::find_if(image.protocols, [&](const auto& one) { return one.first.protocol == row; });
  return found == image.protocols.end() ? nullptr : &found->second;
}

const postern_ace_bits* find_protocol(const PolicyImage& image, const PolicyPacket& packet) {
  const std::uint32_t fragment = packet.later_fragment ? POSTERN_PROTOCOL_FRAGMENT : 0;
  const postern_ace_bits* other = nullptr;
  for (const auto& [key, bits] : image.protocols) {
    if (key.protocol == packet.protocol + fragment) return &bits;
    if (key.protocol == POSTERN_PROTOCOL_OTHER + fragment) other = &bits;
  }
  return other;
}

const postern_ace_bits* find_prefix(const PolicyImage::Rows<postern_prefix_key>& rows, std::uint32_t generation,
                                    const IpAddress& address) {
  postern_prefix_key key{.prefix_length = 32 + 128, .generation = generation, .address = {}};
  std::memcpy(key.address.bytes, address.mapped().data(), sizeof key.address.bytes);
  return find_longest(rows, key);
}

const postern_ace_bits* find_port(const PolicyImage::Rows<postern_port_key>& rows, std::uint32_t generation,
                                  std::uint16_t port) {
  return find_longest(
      rows, {.prefix_length = 32 + 16, .generation = generation, .port = __builtin_bswap16(port), .reserved = {}});
}

std::uint32_t fragment_flow(const PolicyImage& image, std::uint32_t index) {
  for (const auto& [key, ace] : image.aces)
    if (key.index == index + POSTERN_FRAGMENT_ROW) return ace.flow;
  return image.aces[index].second.flow;
}

}  // namespace

std::uint32_t policy_flags(const std::vector<PolicyRule>& rules) {
  std::uint32_t flags = 0;
  for (const PolicyRule& rule : rules) {
    if (rule.looks_inside()) flags |= POSTERN_IF_PORTS;
    if (rule.traffic_class.mask != 0) flags |= POSTERN_IF_CLASSES;
    if (!rule.tcp_flags.any()) flags |= POSTERN_IF_TCP_FLAGS;
  }
  return flags;
}

Result<PolicyImage> compile(const PolicyInput& policy) {
  POSTERN_CHECK(check(policy));
  Nodes sources, destinations, source_ports, destination_ports;
  for (RuleIndex i = 0; i < policy.rules.size(); ++i) {
    const PolicyRule& rule = policy.rules[i];
    sources[node_of(rule.source)].push_back(i);
    destinations[node_of(rule.destination)].push_back(i);
    add_ports(source_ports, rule.source_ports, i);
    add_ports(destination_ports, rule.destination_ports, i);
  }
  // Half of a table: the generation that it replaces stands beside it.
  if (std::max(source_ports.size(), destination_ports.size()) >= POSTERN_MAX_POLICY_ROWS / 2)
    return fail("the port ranges need more than " + std::to_string(POSTERN_MAX_POLICY_ROWS / 2) + " table rows");
  return PolicyImage{.generation = policy.generation,
                     .source_prefixes = prefix_rows(policy.generation, std::move(sources)),
                     .destination_prefixes = prefix_rows(policy.generation, std::move(destinations)),
                     .protocols = protocol_rows(policy),
                     .source_ports = port_rows(policy.generation, std::move(source_ports)),
                     .destination_ports = port_rows(policy.generation, std::move(destination_ports)),
                     .aces = ace_rows(policy)};
}

PolicyVerdict classify(const PolicyImage& image, const PolicyPacket& packet) {
  std::vector<const postern_ace_bits*> vectors = {
      find_protocol(image, packet), find_prefix(image.source_prefixes, image.generation, packet.source),
      find_prefix(image.destination_prefixes, image.generation, packet.destination)};
  if (!packet.later_fragment && has_ports(packet.protocol)) {
    vectors.push_back(find_port(image.source_ports, image.generation, packet.source_port));
    vectors.push_back(find_port(image.destination_ports, image.generation, packet.destination_port));
  }
  if (!packet.later_fragment && is_icmp(packet.protocol))
    vectors.push_back(find_port(image.source_ports, image.generation, packet.source_port));
  if (std::ranges::count(vectors, nullptr) != 0) return {};
  if (const auto* const bits = find_row(image, POSTERN_ROW_CLASS + packet.traffic_class)) vectors.push_back(bits);
  if (!packet.later_fragment && packet.protocol == 6)
    if (const auto* const bits = find_row(image, POSTERN_ROW_TCP_FLAGS + packet.tcp_flags)) vectors.push_back(bits);
  for (std::uint32_t index = 0; index < image.aces.size() && image.aces[index].first.index == index; ++index) {
    const bool candidate = std::ranges::all_of(
        vectors, [&](const auto* bits) { return (bits->words[index / 64] >> (index % 64) & 1) != 0; });
    if (!candidate) continue;
    const postern_ace& ace = image.aces[index].second;
    if (ace.action == POSTERN_PERMIT) return {packet.later_fragment ? fragment_flow(image, index) : ace.flow, index};
    index = ace.last_ace;
  }
  return {};
}

}  // namespace postern
