#include "loader/acl_log.hpp"

#include <algorithm>
#include <cstring>

#include <bpf/libbpf.h>
#include <fmt/format.h>

namespace postern::loader {
namespace {

IpAddress address_of(const postern_address& address) {
  std::array<std::uint8_t, 16> bytes;
  std::ranges::copy(address.bytes, bytes.begin());
  return IpAddress::from_mapped(bytes);
}

std::string protocol_name(std::uint8_t protocol) {
  switch (protocol) {
    case 1: return "icmp";
    case 6: return "tcp";
    case 17: return "udp";
    case 47: return "gre";
    case 50: return "esp";
    case 58: return "icmpv6";
    case 132: return "sctp";
    default: return std::to_string(protocol);
  }
}

// "10.1.0.2(5000)"; without the port where there is none.
std::string end_text(const postern_address& address, __be16 port, bool ports) {
  const std::string text = address_of(address).text();
  return ports ? fmt::format("{}({})", text, __builtin_bswap16(port)) : text;
}

bool has_ports(const postern_flow_key& flow) {
  return flow.fragment == 0 && (flow.protocol == 6 || flow.protocol == 17 || flow.protocol == 33 ||
                                flow.protocol == 132 || flow.protocol == 136);
}

std::string source_text(const postern_log_key& key, const IpAddress& host, const AclLogNames& names) {
  if (key.ifindex == 0) return "";
  MacAddress mac{};
  std::ranges::copy(key.mac, mac.begin());
  if (mac == MacAddress{}) mac = names.mac(key.ifindex, host).value_or(mac);
  const std::string interface = names.interface(key.ifindex);
  if (mac == MacAddress{}) return fmt::format(" ({})", interface);
  return fmt::format(" ({} {:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x})", interface, mac[0], mac[1], mac[2], mac[3],
                     mac[4], mac[5]);
}

}  // namespace

std::string acl_log_line(const postern_log_key& key, std::uint64_t packets, const AclLogNames& names) {
  postern_flow_key flow = key.flow;
  if (key.mirrored != 0) {
    std::swap(flow.source, flow.destination);
    std::swap(flow.source_port, flow.destination_port);
  }
  const auto rule = names.rule(flow.generation, key.ace).value_or(AclLogNames::Rule{"of a former policy", true, {}});
  const bool ports = has_ports(flow), icmp = flow.fragment == 0 && (flow.protocol == 1 || flow.protocol == 58);
  // ICMP keeps type and code where others have the source port, and nothing is mirrored there.
  const auto type = __builtin_bswap16(key.flow.source_port);
  return fmt::format("access list {} {} {} {} -> {}{}{}{}{}, {} packet{}{}", rule.name,
                     rule.permit ? "permitted" : "denied", protocol_name(flow.protocol),
                     end_text(flow.source, flow.source_port, ports),
                     end_text(flow.destination, flow.destination_port, ports),
                     icmp ? fmt::format(" ({}/{})", type >> 8, type & 0xff) : "", flow.fragment != 0 ? " fragment" : "",
                     source_text(key, address_of(flow.source), names), key.mirrored != 0 ? " inbound in clear" : "",
                     packets, packets == 1 ? "" : "s", rule.tag.empty() ? "" : " [" + rule.tag + "]");
}

AclLog::AclLog(const NodeMaps& maps, AclLogNames names, Write write)
    : maps_(maps), names_(std::move(names)), write_(std::move(write)) {}

AclLog::~AclLog() { ring_buffer__free(ring_); }

Result<std::unique_ptr<AclLog>> AclLog::create(const NodeMaps& maps, AclLogNames names, Write write) {
  std::unique_ptr<AclLog> log(new AclLog(maps, std::move(names), std::move(write)));
  const auto take = [](void* self, void* data, std::size_t size) {
    postern_log_key flow;
    if (size < sizeof flow) return 0;
    std::memcpy(&flow, data, sizeof flow);
    static_cast<AclLog*>(self)->take(flow);
    return 0;
  };
  log->ring_ = ring_buffer__new(maps.log_records.fd(), take, log.get(), nullptr);
  if (log->ring_ == nullptr) return fail_errno("map log_records: open the ring buffer");
  return log;
}

int AclLog::fd() const { return ring_buffer__epoll_fd(ring_); }

void AclLog::on_records(Time now) {
  now_ = now;
  ring_buffer__consume(ring_);
}

void AclLog::take(const postern_log_key& flow) {
  Key key;
  std::memcpy(key.data(), &flow, sizeof flow);
  if (!flows_.contains(key) && flows_.size() >= POSTERN_MAX_LOG_FLOWS) {
    ++suppressed_;
    return;
  }
  flows_[key] = {1, now_, true};
  tell(flow, 1);
}

void AclLog::tell(const postern_log_key& flow, std::uint64_t packets) {
  if (now_ - second_ >= std::chrono::seconds(1)) {
    second_ = now_;
    lines_ = 0;
  }
  if (lines_ == lines_per_second) {
    ++suppressed_;
    return;
  }
  ++lines_;
  write_(acl_log_line(flow, packets, names_));
}

void AclLog::on_timer(Time now, Duration interval) {
  now_ = now;
  const auto counted = maps_.log_flows.keys();
  if (!counted) return;
  for (auto& [key, flow] : flows_) flow.seen = false;
  for (const postern_log_key& counts : *counted) {
    Key key;
    std::memcpy(key.data(), &counts, sizeof counts);
    // Its first record was lost to a full ring: it is told with the rest.
    Flow& flow = flows_.try_emplace(key, Flow{0, now, true}).first->second;
    flow.seen = true;
    if (now - flow.last < interval) continue;
    const auto value = maps_.log_flows.lookup(counts);
    const std::uint64_t packets = value && *value ? (*value)->packets : 0;
    if (packets > flow.told) tell(counts, packets - flow.told);
    flow.seen = packets > flow.told;
    flow.told = packets;
    flow.last = now;
    if (!flow.seen) (void)maps_.log_flows.erase(counts);
  }
  std::erase_if(flows_, [](const auto& entry) { return !entry.second.seen; });
  if (suppressed_ != 0) write_(fmt::format("access lists: {} log records more were not written", suppressed_));
  suppressed_ = 0;
}

}  // namespace postern::loader
