#include <algorithm>
#include <random>
#include <string>

#include <doctest/doctest.h>

#include "ike/selectors.hpp"

namespace postern::ike {
namespace {

IpAddress address(const char* text) { return *IpAddress::parse(text); }
Prefix prefix(const char* text) { return *Prefix::parse(text); }
Selector range(const char* first, const char* last, std::uint8_t protocol = 0, std::uint16_t first_port = 0,
               std::uint16_t last_port = 65535) {
  return {protocol, first_port, last_port, address(first), address(last)};
}
constexpr std::uint8_t tcp = 6, udp = 17;

}  // namespace

TEST_CASE("selectors: from a prefix, and as text") {
  CHECK(selector_of(prefix("10.1.2.3/16")) == range("10.1.0.0", "10.1.255.255"));
  CHECK(selector_of(prefix("2001:db8::/64"), tcp, 80, 81).last == address("2001:db8::ffff:ffff:ffff:ffff"));
  CHECK(any_selector(Family::v4) == range("0.0.0.0", "255.255.255.255"));
  CHECK(any_selector(Family::v6) == range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
  CHECK(any_selector(Family::v4).family() == Family::v4);
  CHECK(any_selector(Family::v6).family() == Family::v6);

  struct Row {
    Selector selector;
    const char* text;
  };
  const Row rows[] = {
      {range("10.1.0.0", "10.1.255.255"), "10.1.0.0/16"},
      {range("10.1.0.5", "10.1.0.9"), "10.1.0.5-10.1.0.9"},
      {range("10.1.0.0", "10.1.0.0"), "10.1.0.0/32"},
      {range("10.1.0.1", "10.1.0.2"), "10.1.0.1-10.1.0.2"},
      {any_selector(Family::v4), "0.0.0.0/0"},
      {any_selector(Family::v6), "::/0"},
      {range("2001:db8::", "2001:db8::ffff"), "2001:db8::/112"},
      {range("10.1.0.0", "10.1.255.255", tcp), "10.1.0.0/16/6/0"},
      {range("10.1.0.0", "10.1.255.255", udp, 53, 53), "10.1.0.0/16/17/53"},
      {range("10.1.0.0", "10.1.255.255", udp, 0, 53), "10.1.0.0/16/17/0-53"},
      {range("10.1.0.0", "10.1.255.255", udp, 65535, 0), "10.1.0.0/16/17/opaque"},
  };
  for (const Row& row : rows) CHECK(text(row.selector) == row.text);
}

TEST_CASE("selectors: intersection") {
  struct Row {
    Selector a, b;
    std::optional<Selector> both;
  };
  const Row rows[] = {
      {range("10.0.0.0", "10.0.0.9"), range("10.0.0.5", "10.0.0.20"), range("10.0.0.5", "10.0.0.9")},
      {range("10.0.0.0", "10.0.0.9"), range("10.0.0.9", "10.0.0.20"), range("10.0.0.9", "10.0.0.9")},
      {range("10.0.0.0", "10.0.0.9"), range("10.0.0.10", "10.0.0.20"), {}},
      {range("10.0.0.0", "10.0.0.9"), range("10.0.0.0", "10.0.0.9", tcp), range("10.0.0.0", "10.0.0.9", tcp)},
      {range("10.0.0.0", "10.0.0.9", udp), range("10.0.0.0", "10.0.0.9", tcp), {}},
      {range("10.0.0.0", "10.0.0.9", tcp, 0, 99), range("10.0.0.0", "10.0.0.9", tcp, 80, 200),
       range("10.0.0.0", "10.0.0.9", tcp, 80, 99)},
      {range("10.0.0.0", "10.0.0.9", tcp, 0, 79), range("10.0.0.0", "10.0.0.9", tcp, 80, 200), {}},
      {range("10.0.0.0", "10.0.0.9"), range("10.0.0.0", "10.0.0.9", udp, 65535, 0),
       range("10.0.0.0", "10.0.0.9", udp, 65535, 0)},
      {range("10.0.0.0", "10.0.0.9", udp, 1, 65535), range("10.0.0.0", "10.0.0.9", udp, 65535, 0), {}},
      {any_selector(Family::v4), any_selector(Family::v6), {}},
      {any_selector(Family::v6), range("2001:db8::", "2001:db8::9"), range("2001:db8::", "2001:db8::9")},
  };
  for (const Row& row : rows) {
    CAPTURE(text(row.a));
    CAPTURE(text(row.b));
    CHECK(intersect(row.a, row.b) == row.both);
    CHECK(intersect(row.b, row.a) == row.both);
  }
}

TEST_CASE("selectors: coverage, by several together too") {
  const Selector low = range("10.0.0.0", "10.0.0.9"), high = range("10.0.0.10", "10.0.0.19"),
                 apart = range("10.0.0.11", "10.0.0.19"), over = range("10.0.0.5", "10.0.0.15");
  struct Row {
    std::vector<Selector> outer;
    Selector inner;
    bool covered;
  };
  const Row rows[] = {
      {{low}, low, true},
      {{low}, over, false},
      {{low, high}, over, true},
      {{high, low}, over, true},
      {{low, apart}, over, false},
      {{}, low, false},
      {{range("10.0.0.0", "10.0.0.9", tcp)}, low, false},
      {{low}, range("10.0.0.0", "10.0.0.9", tcp, 80, 80), true},
      {{range("10.0.0.0", "10.0.0.9", tcp, 0, 99), range("10.0.0.0", "10.0.0.9", tcp, 100, 200)},
       range("10.0.0.1", "10.0.0.2", tcp, 90, 110),
       true},
      {{range("10.0.0.0", "10.0.0.9", tcp, 0, 99), range("10.0.0.0", "10.0.0.9", tcp, 101, 200)},
       range("10.0.0.1", "10.0.0.2", tcp, 90, 110),
       false},
      {{any_selector(Family::v6)}, low, false},
      {{any_selector(Family::v4)}, any_selector(Family::v4), true},
      {{any_selector(Family::v4)}, range("10.0.0.0", "10.0.0.9", udp, 65535, 0), true},
      {{range("0.0.0.0", "255.255.255.255", udp, 1, 65535)}, range("10.0.0.0", "10.0.0.9", udp, 65535, 0), false},
      {{range("0.0.0.0", "127.255.255.255"), range("128.0.0.0", "255.255.255.255")}, any_selector(Family::v4), true},
  };
  for (const Row& row : rows) {
    CAPTURE(text(row.inner));
    CHECK(covers(row.outer, row.inner) == row.covered);
  }
}

TEST_CASE("selectors: the same, however they are listed") {
  const auto whole = selector_of(*Prefix::parse("10.1.0.0/16")), packet = selector_of(*Prefix::parse("10.1.0.7/32"));
  const auto low = selector_of(*Prefix::parse("10.1.0.0/17")), high = selector_of(*Prefix::parse("10.1.128.0/17"));
  CHECK(same(std::vector{packet, whole}, std::vector{whole}));
  CHECK(same(std::vector{high, low}, std::vector{whole}));
  CHECK(!same(std::vector{low}, std::vector{whole}));
  CHECK(!same(std::vector{any_selector(Family::v4)}, std::vector{whole}));
  CHECK(!same(std::vector{any_selector(Family::v4)}, std::vector{any_selector(Family::v6)}));
}

TEST_CASE("selectors: narrowing (RFC 7296 2.9)") {
  const Selector wide = range("10.0.0.0", "10.255.255.255"), part = range("10.1.0.0", "10.1.255.255"),
                 other = range("10.2.0.0", "10.2.255.255"), packet = range("10.1.0.7", "10.1.0.7", tcp, 5000, 5000),
                 outside = range("192.168.0.0", "192.168.255.255"), six = range("2001:db8::", "2001:db8::ffff");
  struct Row {
    const char* what;
    std::vector<Selector> offered, allowed, narrowed;
  };
  const Row rows[] = {
      {"the same", {part}, {part}, {part}},
      {"to our part", {wide}, {part}, {part}},
      {"to theirs", {part}, {wide}, {part}},
      {"nothing in common", {outside}, {wide}, {}},
      {"nothing offered", {}, {wide}, {}},
      {"nothing allowed", {wide}, {}, {}},
      {"the packet's selector goes into the wide one behind it", {packet, wide}, {part}, {part}},
      {"but alone it stays", {packet, outside}, {part}, {packet}},
      {"to two parts", {wide}, {part, other}, {part, other}},
      {"the offer's order is kept", {other, part}, {part, other}, {other, part}},
      {"no doubles", {part, part}, {wide, part}, {part}},
      {"families apart", {six, part}, {any_selector(Family::v4)}, {part}},
      {"both families", {six, part}, {any_selector(Family::v4), any_selector(Family::v6)}, {six, part}},
  };
  for (const Row& row : rows) {
    CAPTURE(std::string(row.what));
    CHECK(narrow(row.offered, row.allowed) == row.narrowed);
  }
  const std::vector<Selector> offered{part, other, outside}, all{any_selector(Family::v4)};
  CHECK(narrow(offered, all, 2) == std::vector{part, other});
  CHECK(narrow(offered, all, 3) == offered);
  // The first choice is in it although a later one took its place.
  CHECK(narrow(std::vector{packet, other, wide}, std::vector{part, other}, 1) == std::vector{part});
}

// Every packet of a small world, one by one, against the ranges.
TEST_CASE("selectors: narrowing and coverage agree with enumeration") {
  std::mt19937 random(20260101);
  const auto below = [&](std::uint32_t bound) {
    return std::uniform_int_distribution<std::uint32_t>(0, bound - 1)(random);
  };
  constexpr std::uint32_t hosts = 6, ports = 4;
  const std::uint8_t protocols[] = {tcp, udp, 47};
  const auto some = [&] {
    const std::uint32_t a = below(hosts), b = below(hosts), p = below(ports), q = below(ports);
    Selector s{below(3) == 0 ? std::uint8_t{0} : protocols[below(2)], 0, 65535,
               IpAddress::v4(0x0a000000 + std::min(a, b)), IpAddress::v4(0x0a000000 + std::max(a, b))};
    if (below(2) == 0)
      s.first_port = static_cast<std::uint16_t>(std::min(p, q)),
      s.last_port = static_cast<std::uint16_t>(std::max(p, q));
    return s;
  };
  const auto list = [&] {
    std::vector<Selector> out(below(4));
    std::ranges::generate(out, some);
    return out;
  };
  const auto in_any = [](std::span<const Selector> selectors, const IpAddress& host, std::uint8_t protocol,
                         std::uint16_t port) {
    return std::ranges::any_of(selectors, [&](const Selector& s) { return contains(s, host, protocol, port); });
  };
  for (int round = 0; round < 3000; ++round) {
    const auto offered = list(), allowed = list();
    const Selector inner = some();
    const auto narrowed = narrow(offered, allowed);
    bool all_inside = true;
    for (std::uint32_t host = 0; host < hosts; ++host)
      for (const std::uint8_t protocol : protocols)
        // Port `ports` stands for all above.
        for (std::uint16_t port = 0; port <= ports; ++port) {
          const IpAddress at = IpAddress::v4(0x0a000000 + host);
          const bool wanted = in_any(offered, at, protocol, port) && in_any(allowed, at, protocol, port);
          CHECK(in_any(narrowed, at, protocol, port) == wanted);
          if (contains(inner, at, protocol, port)) all_inside = all_inside && in_any(allowed, at, protocol, port);
        }
    // A world of three protocols cannot tell "all of them" from ANY.
    if (inner.protocol != 0) CHECK(covers(allowed, inner) == all_inside);
    for (const Selector& s : narrowed) {
      CHECK(covers(offered, s));
      CHECK(covers(allowed, s));
    }
  }
}

TEST_CASE("selectors: what is left beside some, against what is in which") {
  const auto left = without(std::vector{range("10.0.0.0", "10.0.0.255")},
                            std::vector{range("10.0.0.16", "10.0.0.31"), range("10.0.0.0", "10.0.0.3")});
  REQUIRE(left);
  for (std::uint32_t host = 0; host < 256; ++host) {
    const bool taken = (host >= 16 && host <= 31) || host <= 3;
    const auto at = IpAddress::v4(0x0a000000 + host);
    CHECK(std::ranges::count_if(*left, [&](const Selector& s) { return contains(s, at, tcp, 80); }) == (taken ? 0 : 1));
  }
  // Ports of one protocol; of all protocols but one there is no selector.
  const auto ports =
      without(std::vector{range("10.0.0.1", "10.0.0.1", tcp)}, std::vector{range("10.0.0.1", "10.0.0.1", tcp, 80, 90)});
  REQUIRE(ports);
  CHECK(!covers(*ports, range("10.0.0.1", "10.0.0.1", tcp, 90, 90)));
  CHECK(covers(*ports, range("10.0.0.1", "10.0.0.1", tcp, 91, 65535)));
  CHECK(!without(std::vector{range("10.0.0.1", "10.0.0.1")}, std::vector{range("10.0.0.1", "10.0.0.1", tcp)}));
  // Nothing is left, another family takes nothing, and pieces are bounded.
  CHECK(without(std::vector{range("10.0.0.1", "10.0.0.1")}, std::vector{range("10.0.0.0", "10.0.0.9")})->empty());
  CHECK(without(std::vector{range("10.0.0.1", "10.0.0.1")}, std::vector{any_selector(Family::v6)})->size() == 1);
  std::vector<Selector> holes;
  for (std::uint32_t i = 0; i < 20; ++i) holes.push_back({0, 0, 65535, IpAddress::v4(i * 10), IpAddress::v4(i * 10)});
  CHECK(!without(std::vector{any_selector(Family::v4)}, holes));
  CHECK(without(std::vector{any_selector(Family::v4)}, holes, 64));
}

TEST_CASE("selectors: pairs are of one family, and of protocols that meet") {
  const auto v4 = any_selector(Family::v4), v6 = any_selector(Family::v6);
  const auto of_tcp = range("10.0.0.0", "10.0.0.9", tcp), of_udp = range("10.0.0.0", "10.0.0.9", udp);
  CHECK(pair_up(v4, v4));
  CHECK(pair_up(v4, of_tcp));
  CHECK(pair_up(of_tcp, v4));
  CHECK(pair_up(of_tcp, of_tcp));
  CHECK(!pair_up(of_tcp, of_udp));
  CHECK(!pair_up(v4, v6));
  CHECK(pair_count(std::vector{v4, v6}, std::vector{v4, v6}) == 2);
  CHECK(pair_count(std::vector{v4, v6, of_tcp}, std::vector{v4, of_udp}) == 3);
  CHECK(pair_count({}, std::vector{v4}) == 0);
}

namespace {

std::vector<Selector> hosts(const char* first, std::size_t count) {
  std::vector<Selector> out;
  for (std::uint8_t i = 0; i < count; ++i) {
    const std::string text = first + std::to_string(i);
    out.push_back(range(text.c_str(), text.c_str()));
  }
  return out;
}

}  // namespace

TEST_CASE("selectors: cut to fit: the first ones of both sides, by turns") {
  struct Row {
    std::size_t local, remote, most, pairs, local_left, remote_left;
  };
  for (const Row& row : {Row{1, 1, 16, 32, 1, 1}, Row{16, 2, 16, 32, 16, 2}, Row{17, 2, 16, 32, 16, 2},
                         Row{17, 2, 32, 32, 16, 2}, Row{2, 17, 32, 32, 2, 16}, Row{33, 1, 64, 32, 32, 1},
                         Row{8, 8, 16, 32, 6, 5}, Row{255, 255, 255, 1, 1, 1}, Row{3, 3, 1, 32, 1, 1}}) {
    auto local = hosts("10.1.0.", row.local), remote = hosts("10.2.0.", row.remote);
    const auto all_local = local, all_remote = remote;
    CHECK(cut_to_fit(local, remote, row.most, row.pairs) ==
          (row.local_left < row.local || row.remote_left < row.remote));
    CHECK(std::ranges::equal(local, std::span(all_local).first(row.local_left)));
    CHECK(std::ranges::equal(remote, std::span(all_remote).first(row.remote_left)));
  }
  // Who has no partner goes before who has one; where all fits nobody goes.
  auto local = hosts("10.1.0.", 20), remote = hosts("2001:db8::", 2);
  local.push_back(any_selector(Family::v6));
  CHECK(!cut_to_fit(local, remote, 16, 32));
  CHECK(local == std::vector{any_selector(Family::v6)});
  CHECK(remote.size() == 2);
  auto both = std::vector{any_selector(Family::v4), any_selector(Family::v6)};
  auto one = std::vector{any_selector(Family::v6)};
  CHECK(!cut_to_fit(both, one, 16, 32));
  CHECK(both.size() == 2);
  auto nothing = hosts("10.1.0.", 20);
  CHECK(!cut_to_fit(nothing, remote, 16, 32));
  CHECK(nothing.empty());
}

TEST_CASE("selectors: parts that fit hold each pair once") {
  for (const auto& [a, b] : {std::pair{1, 1}, {4, 8}, {5, 7}, {16, 16}, {255, 16}, {1, 255}, {0, 4}}) {
    const auto local = hosts("10.1.0.", static_cast<std::size_t>(a)),
               remote = hosts("10.2.0.", static_cast<std::size_t>(b));
    std::size_t pairs = 0;
    std::vector<std::pair<IpAddress, IpAddress>> seen;
    for (const auto& [ours, theirs] : in_parts(local, remote, 32)) {
      CHECK(pair_count(ours, theirs) <= 32);
      pairs += pair_count(ours, theirs);
      for (const Selector& l : ours)
        for (const Selector& r : theirs) seen.emplace_back(l.first, r.first);
    }
    CHECK(pairs == local.size() * remote.size());
    std::ranges::sort(seen);
    CHECK(std::ranges::adjacent_find(seen) == seen.end());
    CHECK(in_parts(local, remote, 32).size() <= (pairs == 0 ? 0 : std::max<std::size_t>(1, pairs / 8)));
  }
}

TEST_CASE("selectors: hostile lists cost little") {
  // Thin crossing slices: naive subtraction would leave ever more pieces.
  std::vector<Selector> slices;
  for (std::uint32_t i = 0; i < 64; ++i) {
    const auto at = static_cast<std::uint16_t>(i * 100);
    slices.push_back({tcp, at, at, IpAddress::v4(0), IpAddress::v4(0xfffffffe)});
    slices.push_back({tcp, 0, 65534, IpAddress::v4(i << 20), IpAddress::v4(i << 20)});
  }
  CHECK(!covers(slices, any_selector(Family::v4)));
  CHECK(narrow(slices, slices).size() == 16);
}

TEST_CASE("selectors: a packet inside") {
  const Selector s = range("10.0.0.0", "10.0.0.9", tcp, 80, 90);
  CHECK(contains(s, address("10.0.0.9"), tcp, 90));
  CHECK(!contains(s, address("10.0.0.10"), tcp, 90));
  CHECK(!contains(s, address("10.0.0.9"), udp, 90));
  CHECK(!contains(s, address("10.0.0.9"), tcp, 91));
  CHECK(!contains(s, address("10.0.0.9"), tcp, 79));
  CHECK(contains(any_selector(Family::v4), address("1.2.3.4"), udp, 7));
  CHECK(!contains(any_selector(Family::v4), address("::1"), udp, 7));
  CHECK(!contains(any_selector(Family::v6), address("1.2.3.4"), udp, 7));
}

}  // namespace postern::ike
