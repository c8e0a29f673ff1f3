// Children that are not in the policy: of templates (DM-01 to DM-13), of pairs of hosts (CM-09); and their flows.
#include <doctest/doctest.h>

#include "ike/derived_child.hpp"
#include "ike/policy.hpp"
#include "ike/selectors.hpp"
#include "ike/temporary_flows.hpp"
#include "tests/ike/session_lab.hpp"
#include "worker/sa_state.hpp"

namespace postern::ike {
namespace {

Selector net(const char* text) { return selector_of(*Prefix::parse(text)); }

ChildPolicy template_policy() {
  ChildPolicy out = lab::child_policy("M1 1000 out0 D1 10 1", 7, "10.1.0.0/16", "10.2.0.0/16");
  out.dynamic = true;
  out.limit = 2;
  return out;
}

Connection template_connection() {
  Connection out = lab::connection("192.0.2.1", "0.0.0.0");
  out.name = "192.0.2.1 any P";
  out.local_key = out.remote_key = {};
  out.peer_keys = {{*Prefix::parse("192.0.2.9/32"), lab::secret("of nine"), lab::secret("of nine"), {}},
                   {*Prefix::parse("192.0.2.0/24"), lab::secret("of the net"), lab::secret("of the net"), {}}};
  out.children = {template_policy()};
  return out;
}

}  // namespace

TEST_CASE("DM-06: a proposal lies inside whole, and outside of what is denied before") {
  ChildPolicy base = template_policy();
  base.denied_local = {net("10.1.0.0/16")};
  base.denied_remote = {net("10.2.7.0/24")};
  const auto inside = [&](const char* local, const char* remote) {
    const Selector l = net(local), r = net(remote);
    return lies_inside(base, {&l, 1}, {&r, 1});
  };
  CHECK(inside("10.1.0.0/16", "10.2.0.0/22"));
  CHECK(inside("10.1.4.0/24", "10.2.8.0/24"));
  CHECK(!inside("10.0.0.0/15", "10.2.0.0/22"));  // more than is permitted
  CHECK(!inside("10.1.0.0/16", "10.2.0.0/16"));  // holds what is denied
  CHECK(!inside("10.1.9.9/32", "10.2.7.9/32"));  // is what is denied
  CHECK(!lies_inside(base, {}, {}));
}

TEST_CASE("derived children have their own names and no flow yet; whose they are tells equal ones apart") {
  const ChildPolicy base = template_policy();
  const ChildPolicy a = derive(base, {net("10.1.0.0/16")}, {net("10.2.1.0/24")}, "192.0.2.9");
  const ChildPolicy b = derive(base, {net("10.1.0.0/16")}, {net("10.2.1.0/24")}, "192.0.2.8");
  CHECK(a.name != b.name);
  CHECK(a.base == base.name);
  CHECK(a.place.base_flow == 7);
  CHECK(a.place.flow == 0);
  CHECK(!a.dynamic);
  CHECK(stems_from(a, base));
  CHECK(!stems_from(a, b));
}

TEST_CASE("DM-12: a flow is held by its children, and numbered above posternd's") {
  TemporaryFlows flows([](MutableBytes) -> Result<void> { return {}; });
  const ChildPolicy base = template_policy();
  const auto made = [&](const char* remote) {
    ChildPolicy out = derive(base, {net("10.1.0.0/16")}, {net(remote)}, "");
    const auto flow = flows.flow_for(base.name, out.name, base.limit);
    out.place.flow = flow.value_or(0);
    return out;
  };
  const ChildPolicy one = made("10.2.1.0/24");
  CHECK(one.place.flow > first_temporary_flow);
  flows.hold(one);
  flows.hold(one);  // its successor in a rekey
  CHECK(made("10.2.1.0/24").place.flow == one.place.flow);
  const ChildPolicy two = made("10.2.2.0/24");
  CHECK(two.place.flow != one.place.flow);
  flows.hold(two);
  CHECK(made("10.2.3.0/24").place.flow == 0);  // the limit
  CHECK(flows.refused() == 1);
  flows.let_go(one);
  CHECK(made("10.2.3.0/24").place.flow == 0);
  flows.let_go(one);
  CHECK(!flows.is_held(one.name));
  const ChildPolicy three = made("10.2.3.0/24");
  CHECK(three.place.flow != 0);
  CHECK(three.place.flow != one.place.flow);  // not soon again
}

TEST_CASE("DM-09, DM-13: a template makes a connection for the peer that comes, with its key") {
  Policy policy;
  policy.connections = {std::make_shared<const Connection>(template_connection())};
  const auto between = [&](const char* remote) {
    return connections_between(policy, 0, lab::address("192.0.2.1"), lab::address(remote));
  };
  REQUIRE(between("192.0.2.9").size() == 1);
  const auto nine = between("192.0.2.9").front();
  CHECK(nine->remote == lab::address("192.0.2.9"));
  CHECK(nine->template_name == "192.0.2.1 any P");
  CHECK(nine->remote_key == lab::secret("of nine"));
  CHECK(!nine->is_template());
  CHECK(between("192.0.2.8").front()->remote_key == lab::secret("of the net"));
  CHECK(between("192.0.2.8").front()->name != nine->name);
  CHECK(between("198.51.100.1").empty());  // no key
  CHECK(between("2001:db8::9").empty());
  REQUIRE(connection_now(policy, *nine) != nullptr);

  Connection listed = template_connection();
  listed.children[0].peers = {lab::address("192.0.2.8")};
  policy.connections = {std::make_shared<const Connection>(listed)};
  CHECK(between("192.0.2.9").empty());
  CHECK(between("192.0.2.8").size() == 1);
  CHECK(connection_now(policy, *nine) == nullptr);
}

TEST_CASE("a session answers by a template: a child and a flow of its own, which its end lets go") {
  lab::Lab world;
  TemporaryFlows flows(world.b.surroundings.random);
  world.b.surroundings.flows = &flows;
  Policy policy;
  Connection from = template_connection();
  from.local = lab::address("192.0.2.2");
  from.local_identity = Identity::of(from.local);
  from.remote_identities = {AnyIdentity{}};
  from.peer_keys = {{*Prefix::parse("0.0.0.0/0"),
                     lab::secret("correct horse battery staple"),
                     lab::secret("correct horse battery staple"),
                     {}}};
  from.children[0].local = {net("10.2.0.0/16")};
  from.children[0].remote = {net("10.0.0.0/8")};
  policy.connections = {std::make_shared<const Connection>(from)};
  world.b.surroundings.connections = [&](std::uint32_t fvrf, const IpAddress& local, const IpAddress& remote) {
    return connections_between(policy, fvrf, local, remote);
  };
  world.start(0);
  world.settle();
  REQUIRE(world.b.live().size() == 1);
  const InstallChild& child = *world.b.live().front();
  CHECK(child.policy.base == from.children[0].name);
  CHECK(child.policy.place.base_flow == 7);
  CHECK(child.policy.place.flow > first_temporary_flow);
  CHECK(child.remote.front() == net("10.1.0.0/16"));
  CHECK(flows.count(from.children[0].name) == 1);
}

}  // namespace postern::ike
