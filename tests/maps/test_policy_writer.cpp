// Generations in the kernel's maps: written whole, switched by one write, removed without a trace.
#include "maps/policy_writer.hpp"
#include "tests/bpf/bpf_node.hpp"

using namespace postern;
using namespace postern::testing;

namespace {

PolicyImage image_of(std::uint32_t generation, std::uint32_t rules) {
  PolicyInput policy{generation, {}};
  for (std::uint32_t i = 0; i < rules; ++i) {
    PolicyRule one = permit("10.1.0.0/16", "10.2.0.0/16", i + 1);
    one.protocol = proto_tcp;
    one.source_ports = {{static_cast<std::uint16_t>(i), static_cast<std::uint16_t>(i + 5)}};
    policy.rules.push_back(one);
  }
  return compile(policy).value();
}

std::size_t rows(const NodeMaps& maps) {
  return maps.source_prefixes.keys()->size() + maps.destination_prefixes.keys()->size() +
         maps.protocols.keys()->size() + maps.source_ports.keys()->size() + maps.destination_ports.keys()->size() +
         maps.aces.keys()->size() + maps.ace_hits.keys()->size();
}

}  // namespace

TEST_CASE("generations stand side by side, and go alone") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  const PolicyWriter writer(node.maps());
  REQUIRE(writer.write(image_of(3, 2)));
  const std::size_t first = rows(node.maps());
  REQUIRE(writer.write(image_of(9, 40)));
  CHECK(writer.generations() == std::vector<std::uint32_t>{3, 9});
  REQUIRE(writer.remove(9));
  CHECK(rows(node.maps()) == first);
  CHECK(writer.generations() == std::vector<std::uint32_t>{3});
  REQUIRE(writer.remove(3));
  CHECK(rows(node.maps()) == 0);
  CHECK(writer.remove(3));  // nothing there is nothing wrong
}

TEST_CASE("a generation in force is not removed; an interface that is not there is not switched") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  const PolicyWriter writer(node.maps());
  REQUIRE(writer.write(image_of(3, 2)));
  REQUIRE(writer.switch_interface(node.out0, 3, POSTERN_IF_CLASSES));
  CHECK(node.maps().interfaces.lookup(node.out0).value()->steer == node.steer0);  // the rest stays
  CHECK((node.maps().interfaces.lookup(node.out0).value()->flags & POSTERN_IF_POLICY) == POSTERN_IF_CLASSES);
  const auto refused = writer.remove(3);
  REQUIRE(!refused);
  CHECK(refused.error().code == EBUSY);
  const auto missing = writer.switch_interface(node.plain0, 3, 0);
  REQUIRE(!missing);
  CHECK(missing.error().code == ENOENT);
  REQUIRE(writer.switch_interface(node.out0, 0, 0));
  CHECK(writer.remove(3));
}

TEST_CASE("verdicts of a number outlive its rows until all are forgotten") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  const PolicyWriter writer(node.maps());
  CHECK(writer.has_rows(3) == false);
  REQUIRE(writer.write(image_of(3, 2)));
  CHECK(writer.has_rows(3) == true);
  postern_flow_key flow{};
  flow.generation = 3;
  REQUIRE(node.maps().flow_cache.update(flow, {}));
  REQUIRE(writer.remove(3));
  CHECK(writer.has_rows(3) == false);
  CHECK(node.maps().flow_cache.keys()->size() == 1);
  REQUIRE(writer.forget_verdicts());
  CHECK(node.maps().flow_cache.keys()->empty());
}

TEST_CASE("a failed write leaves nothing behind") {
  POSTERN_NEEDS_ROOT();
  BpfNode node;
  const PolicyWriter writer(node.maps());
  // `aces` is full with another generation: the write gets that far and no further.
  postern_ace filler{};
  for (std::uint32_t i = 0; i < POSTERN_MAX_POLICY_ROWS; ++i)
    if (!node.maps().aces.update({1, i}, filler)) break;
  const auto written = writer.write(image_of(7, 30));
  REQUIRE(!written);
  CHECK(written.error().code == E2BIG);
  CHECK(writer.generations() == std::vector<std::uint32_t>{});
  CHECK(rows(node.maps()) == POSTERN_MAX_POLICY_ROWS);
}
