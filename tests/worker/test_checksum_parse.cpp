#include "harness.hpp"
#include "worker/checksum.hpp"
#include "worker/parse.hpp"

namespace postern {
namespace {

using test::InnerSpec;
using test::make_inner;
using test::Octets;

std::optional<IpInfo> parse(const Octets& p) { return parse_ip(reference::view(p)); }

TEST_CASE("checksum: equals the plain sum at every length and alignment") {
  Octets data(600);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::uint8_t>(i * 37 + (i >> 3) + 0xf0);
  for (std::size_t from = 0; from < 9; ++from)
    for (std::size_t size = 0; size < 300; ++size) {
      const std::uint16_t raw = fold(sum_bytes(reference::view(data).subspan(from, size)));
      const unsigned expected = reference::sum(data, from, from + size);
      CHECK(std::byteswap(raw) == expected);
    }
  const Octets ones(65535, 0xff);
  CHECK(fold(sum_bytes(reference::view(ones))) ==
        std::byteswap(static_cast<std::uint16_t>(reference::sum(ones, 0, ones.size()))));
}

TEST_CASE("checksum: an adjusted field equals one computed anew") {
  for (unsigned ttl = 0; ttl < 256; ++ttl) {
    InnerSpec spec;
    spec.ttl = static_cast<std::uint8_t>(ttl);
    spec.identification = static_cast<std::uint16_t>(ttl * 331);
    Octets p = make_inner(spec);
    auto* const ip = reinterpret_cast<std::byte*>(p.data());
    const std::uint16_t before = load_raw16(ip + 8);
    p[8] = static_cast<std::uint8_t>(ttl + 1);
    adjust_checksum(ip + 10, before, load_raw16(ip + 8));
    CHECK(reference::sum(p, 0, 20) == 0xffff);
    CHECK(ipv4_checksum_ok(ip, 20));
    p[8] ^= 1;
    CHECK_FALSE(ipv4_checksum_ok(ip, 20));
  }
}

TEST_CASE("parse: fields of whole packets") {
  InnerSpec spec;
  spec.traffic_class = 0xb9;
  spec.dont_fragment = true;
  const auto v4 = parse(make_inner(spec));
  REQUIRE(v4);
  CHECK(v4->family == Family::v4);
  CHECK(v4->protocol == 17);
  CHECK(v4->traffic_class == 0xb9);
  CHECK(v4->dont_fragment);
  CHECK(v4->network_bytes == 20);
  CHECK(v4->total_bytes == 92);
  spec.source = "2001:db8:1::2";
  spec.destination = "2001:db8:2::2";
  const Octets packet = make_inner(spec);
  const auto v6 = parse(packet);
  REQUIRE(v6);
  CHECK(v6->family == Family::v6);
  CHECK(v6->traffic_class == 0xb9);
  CHECK(v6->dont_fragment);
  CHECK(v6->network_bytes == 40);
  CHECK(v6->total_bytes == 112);
  CHECK(source_of(reinterpret_cast<const std::byte*>(packet.data()), Family::v6) == test::address("2001:db8:1::2"));
  CHECK(destination_of(reinterpret_cast<const std::byte*>(packet.data()), Family::v6) ==
        test::address("2001:db8:2::2"));
}

TEST_CASE("parse: every truncation is refused, bytes behind the packet are not") {
  for (const char* source : {"10.0.0.1", "2001:db8::1"}) {
    InnerSpec spec;
    spec.source = source;
    spec.destination = source;
    const Octets whole = make_inner(spec);
    for (std::size_t size = 0; size < whole.size(); ++size) {
      // A copy of its own size, so that the sanitizer sees a read past the end.
      const Octets cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
      CHECK_FALSE(parse(cut));
    }
    Octets longer = whole;
    longer.resize(whole.size() + 46);
    REQUIRE(parse(longer));
    CHECK(parse(longer)->total_bytes == whole.size());
  }
}

TEST_CASE("parse: bad headers") {
  const Octets good = make_inner({});
  struct Row {
    const char* what;
    std::size_t at;
    std::uint8_t value;
  };
  for (const Row& row : {Row{"version 5", 0, 0x55}, Row{"version 0", 0, 0x05}, Row{"header of 16", 0, 0x44},
                         Row{"header longer than the packet", 0, 0x4f}, Row{"total longer than the bytes", 2, 0x10}}) {
    Octets bad = good;
    bad[row.at] = row.value;
    if (row.value == 0x4f) reference::put16(bad, 2, 40);
    CHECK_MESSAGE(!parse(bad), row.what);
  }
  Octets options = good;
  options[0] = 0x46;
  REQUIRE(parse(options));
  CHECK(parse(options)->network_bytes == 24);
}

Octets with_extensions(std::initializer_list<std::uint8_t> types, bool fragment_more = false) {
  InnerSpec spec;
  spec.source = "2001:db8::1";
  spec.destination = "2001:db8::2";
  Octets p = make_inner(spec);
  Octets headers;
  std::size_t left = types.size();
  const std::uint8_t* next = types.begin();
  p[6] = types.size() == 0 ? 17 : *next;
  while (left-- != 0) {
    const std::uint8_t type = *next++;
    Octets one(8, 0);
    one[0] = left == 0 ? 17 : *next;
    if (type == 44) one[3] = fragment_more ? 1 : 0;
    headers.insert(headers.end(), one.begin(), one.end());
  }
  p.insert(p.begin() + 40, headers.begin(), headers.end());
  reference::put16(p, 4, static_cast<unsigned>(p.size() - 40));
  return p;
}

TEST_CASE("parse: IPv6 extension headers") {
  const auto two = parse(with_extensions({0, 60}));
  REQUIRE(two);
  CHECK(two->protocol == 17);
  CHECK(two->network_bytes == 56);
  CHECK_FALSE(two->fragment);
  const auto atomic = parse(with_extensions({44}));  // RFC 6946
  REQUIRE(atomic);
  CHECK_FALSE(atomic->fragment);
  const auto first = parse(with_extensions({0, 44}, true));
  REQUIRE(first);
  CHECK(first->fragment);
  CHECK(first->first_fragment);
  CHECK(first->network_bytes == 56);
  Octets later = with_extensions({44}, true);
  reference::put16(later, 42, 8 * 100 + 1);
  REQUIRE(parse(later));
  CHECK(parse(later)->fragment);
  CHECK_FALSE(parse(later)->has_upper_header());
  CHECK(parse(with_extensions({60, 60, 60, 60, 60, 60, 60, 60})));
  CHECK_FALSE(parse(with_extensions({60, 60, 60, 60, 60, 60, 60, 60, 60})));
  Octets runs_out = with_extensions({0});
  runs_out[41] = 200;
  CHECK_FALSE(parse(runs_out));
}

TEST_CASE("step_ttl: one hop, and the checksum with it") {
  test::Node node;
  for (const char* source : {"10.0.0.1", "2001:db8::1"})
    for (unsigned ttl = 0; ttl < 256; ++ttl) {
      InnerSpec spec;
      spec.source = spec.destination = source;
      spec.ttl = static_cast<std::uint8_t>(ttl);
      const Octets before = make_inner(spec);
      Packet packet = node.frame_of(before);
      CHECK(step_ttl(packet) == (ttl > 1));
      const Octets after = reference::octets(packet.bytes());
      CHECK(parse(after)->hop_limit == (ttl > 1 ? ttl - 1 : ttl));
      CHECK(reference::checksums_ok(after));
      if (ttl <= 1) CHECK(after == before);
      node.frames.give(packet.frame);
    }
}

}  // namespace
}  // namespace postern
