// Interfaces that stand on others: bonds with their ports, VLANs, VRFs. Part of loader/plan.
//
// A bond's packets are seen on its ports, by native XDP where the driver has it: a program on the bond itself would run
// with the ifindex of the port, and its AF_XDP socket would get nothing. So the ports are interfaces of the
// `interfaces` map under the bond's policy, and the bond keeps TC egress and the transmit rings: the kernel chooses the
// port. A VLAN device, and every other device that has its packets from another by the kernel, runs generic XDP itself:
// tags are gone there, whether the lower device strips them or not.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "config/model.hpp"
#include "loader/plan.hpp"

namespace postern::loader {

// The document's VRFs against the devices that exist; one that does not exist is a line in `missing`. Error: the device
// has another table than the document says.
[[nodiscard]] Result<void> check_vrfs(const config::Document& document, const Facts& facts,
                                      std::vector<std::string>& missing);

// Error, with the JSON path in front: an outside interface that is a port of another device, that stands on another
// outside interface, or that cannot run XDP in the mode that the document wants.
[[nodiscard]] Result<void> check_stacks(const config::Document& document, const Facts& facts,
                                        const std::vector<PlannedInterface>& interfaces);

// Adds the ports of every outside bond, and marks the bond.
void add_ports(const Facts& facts, std::vector<PlannedInterface>& interfaces);

// Queues by which packets of `link` come in: a bond's are those of its ports.
[[nodiscard]] std::uint32_t receive_queues_of(const LinkFacts& link, const Facts& facts);

}  // namespace postern::loader
