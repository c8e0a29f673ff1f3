#include "loader/devices.hpp"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace postern::loader {
namespace {

std::uint32_t table_or_main(std::uint32_t table) { return table == 0 ? main_table : table; }

Result<Prefix> prefix_of(const Undo& undo) { return Prefix::parse(undo.prefix); }

Route tunnel_route(const Prefix& prefix, std::uint32_t table, std::uint32_t ifindex) {
  // IPv6 turns metric 0 into 1024: said here, so that the record tells what is in the table.
  return {.destination = {prefix.first(), prefix.length},
          .type = RouteType::unicast,
          .table = table_or_main(table),
          .metric = prefix.family() == Family::v6 ? 1024U : 0U,
          .ifindex = ifindex,
          .gateway = std::nullopt,
          .preferred_source = std::nullopt};
}

Route unreachable_twin(const Prefix& prefix, std::uint32_t table) {
  Route twin = tunnel_route(prefix, table, 0);
  twin.type = RouteType::unreachable;
  twin.metric = unreachable_metric;
  return twin;
}

void record(UndoList& made, Undo undo) {
  if (std::ranges::find(made, undo) == made.end()) made.push_back(std::move(undo));
}

// A prefix that moved to another tunnel is that tunnel's alone: undoing the old record would take the new one's twin.
void record_route(UndoList& made, Undo undo) {
  std::erase_if(made, [&](const Undo& one) {
    return one.kind == undo.kind && one.prefix == undo.prefix && one.table == undo.table && one.name != undo.name;
  });
  record(made, std::move(undo));
}

// A route of that prefix and metric may be there: ours (adopt, or point it at the right device), or somebody else's.
Result<void> add_or_adopt(Netlink& netlink, const Route& route) {
  POSTERN_TRY(added, netlink.add_route(route));
  if (added) return {};
  POSTERN_TRY(ours, netlink.routes(route.destination.family(), route.table));
  for (const Route& one : ours) {
    if (one.destination != route.destination || one.metric != route.metric) continue;
    if (one.type == route.type && (route.ifindex == 0 || one.ifindex == route.ifindex)) return {};
    return netlink.replace_route(route);
  }
  return fail(fmt::format("route {} table {}: there is one already that postern did not make", route.destination.text(),
                          route.table),
              EEXIST);
}

}  // namespace

void to_json(nlohmann::json& json, const Undo& undo) {
  json = {{"kind", undo.kind}, {"name", undo.name}};
  if (!undo.prefix.empty()) json["prefix"] = undo.prefix;
  if (undo.table != 0) json["table"] = undo.table;
  if (undo.metric != 0) json["metric"] = undo.metric;
  if (undo.mark != 0) json["mark"] = undo.mark;
}

void from_json(const nlohmann::json& json, Undo& undo) {
  undo.kind = json.at("kind").get<std::string>();
  undo.name = json.value("name", std::string{});
  undo.prefix = json.value("prefix", std::string{});
  undo.table = json.value("table", 0U);
  undo.metric = json.value("metric", 0U);
  undo.mark = json.value("mark", 0U);
}

Result<void> Devices::ensure_address(std::string_view device, const Prefix& address, UndoList& made) {
  POSTERN_TRY(link, netlink_.link(device));
  POSTERN_TRY(added, netlink_.add_address(link.ifindex, address));
  if (added) record(made, {.kind = "address", .name = link.name, .prefix = address.text()});
  return {};
}

Result<void> Devices::keep_only_addresses(std::string_view device, const std::vector<Prefix>& wanted, UndoList& made) {
  const auto surplus = [&](const Undo& one) {
    if (one.kind != "address" || one.name != device) return false;
    const auto prefix = prefix_of(one);
    return !prefix || std::ranges::find(wanted, *prefix) == wanted.end();
  };
  for (auto at = made.begin(); at != made.end();) {
    if (!surplus(*at)) {
      ++at;
      continue;
    }
    POSTERN_CHECK(undo(*at));
    at = made.erase(at);
  }
  return {};
}

Result<void> Devices::ensure_route(std::string_view device, const Prefix& prefix, std::uint32_t table, UndoList& made) {
  POSTERN_TRY(link, netlink_.link(device));
  const Route twin = unreachable_twin(prefix, table);
  const Route route = tunnel_route(prefix, table, link.ifindex);
  // Twin first: there must be no moment with the route and without it.
  POSTERN_CHECK(add_or_adopt(netlink_, twin));
  const std::string text = route.destination.text();
  record_route(made,
               {.kind = "unreachable", .name = link.name, .prefix = text, .table = twin.table, .metric = twin.metric});
  if (!link.up()) return {};
  POSTERN_CHECK(add_or_adopt(netlink_, route));
  record_route(made,
               {.kind = "route", .name = link.name, .prefix = text, .table = route.table, .metric = route.metric});
  return {};
}

Result<void> Devices::ensure_rule(const Rule& rule, UndoList& made) {
  POSTERN_CHECK(netlink_.add_rule(rule));
  // An equal rule that was there is one that an earlier life of this node made: recorded either way.
  record(made, {.kind = "rule",
                .name = rule.family == Family::v4 ? "ipv4" : "ipv6",
                .table = rule.table,
                .metric = rule.priority,
                .mark = rule.mark});
  return {};
}

Result<void> Devices::ensure_vrf(std::string_view device, std::string_view vrf, UndoList& made) {
  POSTERN_TRY(link, netlink_.link(device));
  POSTERN_TRY(master, netlink_.link(vrf));
  if (master.kind != "vrf") return fail(std::string(vrf) + " is not a VRF device", EINVAL);
  if (link.master == master.ifindex) return {};
  if (link.master != 0) return fail(fmt::format("{} belongs to another device already", device), EBUSY);
  POSTERN_CHECK(netlink_.set_master(link.ifindex, master.ifindex));
  record(made, {.kind = "master", .name = link.name});
  return {};
}

// What is bound to a device went with it: a device that is gone leaves nothing to undo.
Result<void> Devices::undo_on_link(const Undo& one) {
  const auto link = netlink_.link(one.name);
  if (!link) return link.error().code == ENODEV ? Result<void>{} : std::unexpected(link.error());
  if (one.kind == "device") {
    if (link->alias != mark()) return fail(one.name + " is not a device of this node", EPERM);
    return netlink_.remove_link(link->ifindex);
  }
  if (one.kind == "master") return link->master == 0 ? Result<void>{} : netlink_.set_master(link->ifindex, 0);
  POSTERN_TRY(prefix, prefix_of(one));
  if (one.kind == "address") return netlink_.remove_address(link->ifindex, prefix);
  Route route = tunnel_route(prefix, one.table, link->ifindex);
  route.metric = one.metric;
  return netlink_.remove_route(route);
}

Result<void> Devices::undo(const Undo& one) {
  if (one.kind == "unreachable") {
    POSTERN_TRY(prefix, prefix_of(one));
    Route twin = unreachable_twin(prefix, one.table);
    twin.metric = one.metric;
    return netlink_.remove_route(twin);
  }
  if (one.kind == "rule")
    return netlink_.remove_rule({.family = one.name == "ipv6" ? Family::v6 : Family::v4,
                                 .priority = one.metric,
                                 .mark = one.mark,
                                 .table = one.table});
  if (one.kind == "device" || one.kind == "address" || one.kind == "route" || one.kind == "master")
    return undo_on_link(one);
  return fail("undo: no such kind: " + one.kind, EINVAL);
}

Result<void> Devices::undo_all(UndoList& made) {
  std::optional<Error> first;
  UndoList failed;
  while (!made.empty()) {
    if (auto undone = undo(made.back()); !undone) {
      if (!first) first = undone.error();
      failed.push_back(made.back());
    }
    made.pop_back();
  }
  made.assign(failed.rbegin(), failed.rend());
  if (first) return std::unexpected(*first);
  return {};
}

Result<std::vector<std::string>> Devices::remove_marked_devices() {
  POSTERN_TRY(all, netlink_.links());
  std::vector<std::string> removed;
  for (const Link& link : all) {
    if (link.kind != "tun" || link.alias != mark()) continue;
    POSTERN_CHECK(netlink_.remove_link(link.ifindex));
    removed.push_back(link.name);
  }
  return removed;
}

}  // namespace postern::loader
