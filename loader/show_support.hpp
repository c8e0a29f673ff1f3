// What the builders of `show` data share: from a flow back to the objects of the document, and the number formats of
// the guide.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "base/result.hpp"
#include "loader/node_view.hpp"

namespace postern::loader {

// What a flow protects, as policy says it: our side is `local`.
struct FlowSelector {
  config::Action action = config::Action::permit;
  std::uint8_t protocol = 0;
  Prefix local, remote;
  std::vector<config::PortRange> local_ports, remote_ports;
  std::optional<Prefix> second_local, second_remote;  // the other inner family of a dual-overlay tunnel
};

// A flow with the objects it belongs to; pointers into the NodeView, one of `entry` and `tunnel` is set.
struct FlowContext {
  const FlowView* flow = nullptr;
  const config::CryptoMap* map = nullptr;
  const config::MapEntry* entry = nullptr;
  const config::Tunnel* tunnel = nullptr;
  std::string interface;  // of several that share the flow the one that is asked about
  FlowSelector selector;
  IpAddress peer;         // unspecified: by a name that is not resolved
  std::string peer_name;  // of a peer by name: the first of the entry's, or the one that is in use
  std::uint16_t peer_port = 500;
  std::optional<IpAddress> local;       // our outer address
  const DeviceView* outside = nullptr;  // device that the outer packets leave by
};

// Nothing when the flow's objects are gone from the document. `interface`: one of the flow's; empty: the first.
[[nodiscard]] std::optional<FlowContext> context_of(const NodeView& view, const FlowView& flow,
                                                    std::string_view interface = {});

// What postern-ike knows of a peer by name.
struct NamedPeer {
  std::optional<IpAddress> address;
  std::string problem;  // of the last look-up
};
[[nodiscard]] NamedPeer named_peer(const NodeView& view, const std::string& name, Family family);
// The name, of a peer of the entry, that stands for this address now; empty: none does.
[[nodiscard]] std::string name_at(const NodeView& view, const config::CryptoMap& map, const config::MapEntry& entry,
                                  const IpAddress& address);

// The dynamic map's entry that the flow came of; nullptr: none, or it is gone.
[[nodiscard]] const config::DynamicEntry* dynamic_entry_of(const NodeView& view, const FlowView& flow);
// "10.1.0.0/16", or "10.1.0.5-10.1.0.9".
[[nodiscard]] std::string range_text(const IpAddress& first, const IpAddress& last);

[[nodiscard]] const DeviceView* find_device(const NodeView& view, std::string_view name);
// First address of that family: of the device as it is, else as the document says.
[[nodiscard]] std::optional<IpAddress> address_of(const NodeView& view, std::string_view interface, Family family);
// "Tunnel0-head-0".
[[nodiscard]] std::string map_name_of(const config::Tunnel& tunnel);

[[nodiscard]] std::string hex_spi(std::uint32_t spi);  // "0x4776A36B"
[[nodiscard]] nlohmann::json transforms_json(const NodeView& view, const std::string& set);
[[nodiscard]] nlohmann::json ports_json(const std::vector<config::PortRange>& ports);
[[nodiscard]] nlohmann::json or_null(const std::optional<std::string>& text);
[[nodiscard]] nlohmann::json or_null(const std::optional<IpAddress>& address);

// Remaining lifetime of a negotiated SA: kilobytes by its volume, seconds by what postern-ike says about the child of
// the flow. Null: none, or not known.
[[nodiscard]] nlohmann::json life_kilobytes(const SaView& sa);
[[nodiscard]] nlohmann::json life_seconds(const NodeView& view, const FlowView& flow);
// postern-ike's child that serves the flow now; null: none.
[[nodiscard]] nlohmann::json child_of(const NodeView& view, const FlowView& flow);

// Text argument `name`, or nothing; an error when it is there and no text.
[[nodiscard]] Result<std::optional<std::string>> text_argument(const nlohmann::json& args, const char* name);
// An error when `args` has a key that is not in `known`.
[[nodiscard]] Result<void> only_arguments(const nlohmann::json& args, std::initializer_list<std::string_view> known);

}  // namespace postern::loader
