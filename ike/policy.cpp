#include "ike/policy.hpp"

#include <algorithm>

namespace postern::ike {

const ChildPolicy* Connection::child(std::string_view child_name) const {
  const auto found = std::ranges::find(children, child_name, &ChildPolicy::name);
  return found == children.end() ? nullptr : &*found;
}

bool Connection::always() const {
  return std::ranges::any_of(children, [](const ChildPolicy& one) { return one.initiate == Initiate::always; });
}

std::vector<std::shared_ptr<const Connection>> connections_between(const Policy& policy, std::uint32_t fvrf,
                                                                   const IpAddress& local, const IpAddress& remote) {
  std::vector<std::shared_ptr<const Connection>> out;
  for (const auto& connection : policy.connections)
    if (connection->fvrf == fvrf && connection->local == local && connection->remote == remote)
      out.push_back(connection);
  return out;
}

}  // namespace postern::ike
