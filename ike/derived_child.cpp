#include "ike/derived_child.hpp"

#include <algorithm>

#include "ike/selectors.hpp"

namespace postern::ike {
namespace {

std::string joined_text(const std::vector<Selector>& selectors) {
  std::string out;
  for (const Selector& one : selectors) out += (out.empty() ? "" : ",") + text(one);
  return out;
}

bool meets(std::span<const Selector> selectors, const Selector& other) {
  return std::ranges::any_of(selectors, [&](const Selector& one) { return intersect(one, other).has_value(); });
}

}  // namespace

bool lies_inside(const ChildPolicy& base, std::span<const Selector> local, std::span<const Selector> remote) {
  const auto inside = [](const std::vector<Selector>& outer, std::span<const Selector> inner) {
    return !inner.empty() && std::ranges::all_of(inner, [&](const Selector& one) { return covers(outer, one); });
  };
  if (!inside(base.local, local) || !inside(base.remote, remote)) return false;
  for (std::size_t i = 0; i < base.denied_local.size() && i < base.denied_remote.size(); ++i)
    if (meets(local, base.denied_local[i]) && meets(remote, base.denied_remote[i])) return false;
  return true;
}

ChildPolicy derive(const ChildPolicy& base, std::vector<Selector> local, std::vector<Selector> remote,
                   const std::string& whose) {
  ChildPolicy out = base;
  out.name += " " + joined_text(local) + " <-> " + joined_text(remote) + (whose.empty() ? "" : " of " + whose);
  out.local = std::move(local);
  out.remote = std::move(remote);
  out.dynamic = out.per_host = out.per_host_only = false;
  out.peers.clear();
  out.denied_local.clear();
  out.denied_remote.clear();
  out.base = base.name;
  out.initiate = Initiate::on_traffic;
  out.place.base_flow = base.place.flow;
  out.place.flow = 0;
  return out;
}

ChildPolicy derive_again(const ChildPolicy& base, const ChildPolicy& before) {
  ChildPolicy out = derive(base, before.local, before.remote, "");
  out.name = before.name;
  out.rank = before.rank;
  out.place.flow = before.place.flow;
  return out;
}

}  // namespace postern::ike
