// loader/link_stats: the kernel's counters and rates over a load interval whose clock is the test's.
#include <array>

#include <sys/socket.h>

#include "loader/link_stats.hpp"
#include "loader/sockets.hpp"
#include "tests/loader/net_lab.hpp"

using namespace postern;
using namespace postern::loader;
using namespace postern::net_test;

namespace {

struct Lab : OwnNamespace {
  Lab() { make(); }
  void make() {
    shell(
        "ip link add out0 index 77 type veth peer name far0 && ip link set out0 addrgenmode none && ip link set far0 "
        "addrgenmode none");
    shell("ip link set out0 up && ip link set far0 up");
    until_it_carries("out0");
  }
  static void send(int frames) {
    const Fd socket = open_packet_out(77).value();
    std::array<std::uint8_t, 100> frame{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5};
    for (int i = 0; i < frames; ++i) REQUIRE(::send(socket.get(), frame.data(), frame.size(), 0) == 100);
  }
  Netlink netlink = Netlink::open().value();
};

constexpr auto seconds = [](int count) { return std::chrono::seconds(count); };

}  // namespace

TEST_CASE("rates: over the time between the samples, and over the load interval at most") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  LinkStats stats(seconds(60));
  const Time start = Clock::now();
  CHECK(!stats.report(77));
  POSTERN_OK(stats.sample(lab.netlink, {77}, start));
  CHECK(stats.report(77)->rates.out_pps == 0);
  CHECK(stats.next_sample() > start);
  Lab::send(300);
  POSTERN_OK(stats.sample(lab.netlink, {77}, start + seconds(30)));
  const LinkReport after = stats.report(77).value();
  CHECK(after.counters.tx_packets == 300);
  CHECK(after.rates.interval_s == 60);
  CHECK(after.rates.out_pps == 10);
  CHECK(after.rates.out_bps == 8000);
  CHECK(after.rates.in_pps == 0);
  // Silence for longer than the interval: the burst is no longer part of it.
  POSTERN_OK(stats.sample(lab.netlink, {77}, start + seconds(60)));
  CHECK(stats.report(77)->rates.out_pps == 5);
  POSTERN_OK(stats.sample(lab.netlink, {77}, start + seconds(120)));
  CHECK(stats.report(77)->rates.out_pps == 0);
  CHECK(stats.report(77)->counters.tx_packets == 300);
}

TEST_CASE("a device that was made again begins anew; one that is not asked for is forgotten") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  LinkStats stats(seconds(60));
  const Time start = Clock::now();
  Lab::send(50);
  POSTERN_OK(stats.sample(lab.netlink, {77}, start));
  shell("ip link del out0");
  lab.make();
  Lab::send(20);
  POSTERN_OK(stats.sample(lab.netlink, {77}, start + seconds(10)));
  CHECK(stats.report(77)->rates.out_pps == 0);  // and not an enormous number
  CHECK(stats.report(77)->counters.tx_packets == 20);
  Lab::send(20);
  POSTERN_OK(stats.sample(lab.netlink, {77}, start + seconds(20)));
  CHECK(stats.report(77)->rates.out_pps == 2);
  POSTERN_OK(stats.sample(lab.netlink, {}, start + seconds(30)));
  CHECK(!stats.report(77));
}

TEST_CASE("a report between the regular samples is fresh and does not shorten the history") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  LinkStats stats(seconds(300));
  const Time start = Clock::now();
  POSTERN_OK(stats.sample(lab.netlink, {77}, start));
  Lab::send(100);
  for (int i = 1; i <= 1000; ++i)
    POSTERN_OK(stats.sample(lab.netlink, {77}, start + std::chrono::milliseconds(100 * i)));
  CHECK(stats.report(77)->counters.tx_packets == 100);
  CHECK(stats.report(77)->rates.out_pps == 1);
}

TEST_CASE("qdisc drops are reported") {
  POSTERN_NEEDS_ROOT();
  Lab lab;
  LinkStats stats;
  shell("tc qdisc add dev out0 root tbf rate 8kbit burst 200 limit 200");
  POSTERN_OK(stats.sample(lab.netlink, {77}, Clock::now()));
  CHECK(stats.report(77)->qdisc_drops == 0);
  const Fd socket = open_packet_out(77).value();
  std::array<std::uint8_t, 100> frame{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5};
  for (int i = 0; i < 20; ++i) (void)::send(socket.get(), frame.data(), frame.size(), 0);
  POSTERN_OK(stats.sample(lab.netlink, {77}, Clock::now()));
  CHECK(stats.report(77)->qdisc_drops >= 10);
  CHECK(stats.report(77)->rates.interval_s == 300);
}
