// IPCOMP_SUPPORTED (RFC 7296 §2.22, §3.10.1): asked for, taken, declined, and what no peer should answer.
#include "ike/message.hpp"
#include "ike/session_core.hpp"
#include "scripted_peer.hpp"
#include "tests/ike/troubles.hpp"

namespace postern::ike {
namespace {

using lab::Lab;

struct CompLab : Lab {
  CompLab(bool at_a, bool at_b) {
    edit(a, [&](Connection& c) { c.children[0].compression = at_a; });
    edit(b, [&](Connection& c) { c.children[0].compression = at_b; });
  }
  void run_from(std::size_t index) {
    start(index);
    settle();
  }
  // Each end's outbound CPI is the one that the other wants; or there is none at all.
  void check_cpis(bool compressed) {
    check_whole();
    const InstallChild &one = *a.bound(1), &other = *b.bound(1);
    CHECK(one.cpi_out == other.cpi_in);
    CHECK(one.cpi_in == other.cpi_out);
    for (const std::uint16_t cpi : {one.cpi_in, other.cpi_in}) {
      CHECK((cpi != 0) == compressed);
      CHECK((cpi == 0 || (cpi >= 256 && cpi < 61440)));
    }
  }
};

TEST_CASE("IPComp: where both want it, whoever begins, and a rekey keeps it with other CPIs") {
  for (const std::size_t index : {std::size_t{0}, std::size_t{1}}) {
    CompLab lab(true, true);
    lab.run_from(index);
    lab.check_cpis(true);
    const std::uint16_t before = lab.a.bound(1)->cpi_in;
    lab.run(std::chrono::seconds(3600));
    lab.check_cpis(true);
    CHECK(lab.a.count(EventKind::child_rekeyed) > 0);
    CHECK(lab.a.bound(1)->cpi_in != before);
  }
}

TEST_CASE("IPComp: one end does not want it: none") {
  for (const bool at_a : {true, false})
    for (const std::size_t index : {std::size_t{0}, std::size_t{1}}) {
      CompLab lab(at_a, !at_a);
      lab.run_from(index);
      lab.check_cpis(false);
    }
}

Octets notify_data(std::uint16_t cpi, std::uint8_t transform) {
  return {static_cast<std::byte>(cpi >> 8), static_cast<std::byte>(cpi), static_cast<std::byte>(transform)};
}

Message with(std::initializer_list<Octets> notifies) {
  Message message;
  for (const Octets& data : notifies) message.add_notify(NotifyType::ipcomp_supported, data);
  return message;
}

TEST_CASE("IPComp: of an offer the first DEFLATE with a CPI that may be") {
  CHECK(offered_cpi(with({})) == 0);
  CHECK(offered_cpi(with({notify_data(0x1234, 2)})) == 0x1234);
  CHECK(offered_cpi(with({notify_data(0x1234, 3), notify_data(0x4321, 2)})) == 0x4321);  // 3: LZS
  CHECK(offered_cpi(with({notify_data(2, 2)})) == 2);
  for (const std::uint16_t reserved : std::initializer_list<std::uint16_t>{0, 1, 3, 63, 64, 255})
    CHECK(offered_cpi(with({notify_data(reserved, 2)})) == 0);
  for (const std::uint8_t transform : std::initializer_list<std::uint8_t>{0, 1, 3, 4, 255})
    CHECK(offered_cpi(with({notify_data(0x1234, transform)})) == 0);
  CHECK(offered_cpi(with({{std::byte{1}, std::byte{2}}})) == 0);
}

TEST_CASE("IPComp: an answer that nobody can have asked for") {
  CHECK(answered_cpi(with({}), true) == std::uint16_t{0});
  CHECK(answered_cpi(with({}), false) == std::uint16_t{0});
  CHECK(answered_cpi(with({notify_data(0x1234, 2)}), true) == std::uint16_t{0x1234});
  CHECK_FALSE(answered_cpi(with({notify_data(0x1234, 2)}), false));
  CHECK_FALSE(answered_cpi(with({notify_data(0x1234, 3)}), true));
  CHECK_FALSE(answered_cpi(with({notify_data(0, 2)}), true));
  CHECK_FALSE(answered_cpi(with({notify_data(0x1234, 2), notify_data(0x4321, 2)}), true));
}

TEST_CASE("IPComp: a notify that is too short is refused as a whole") {
  const auto parsed = [](Octets data) {
    Payload payload{PayloadType::notify,
                    NotifyPayload{NotifyType::ipcomp_supported, ProtocolId::none, {}, std::move(data)}};
    return parse_payload(PayloadType::notify, encode_payload(payload)).has_value();
  };
  CHECK(parsed(notify_data(0x1234, 2)));
  CHECK(parsed(Octets(200, std::byte{1})));  // with attributes of the transform
  CHECK_FALSE(parsed({}));
  CHECK_FALSE(parsed(Octets(2, std::byte{1})));
}

TEST_CASE("IPComp: a CPI for every SPI, never a reserved one") {
  for (const std::uint32_t spi : {256U, 0x1000U, 61183U, 61184U, 0xffffffffU, 0xdeadbeefU}) {
    CHECK(cpi_of(spi) >= 256);
    CHECK(cpi_of(spi) < 61440);
  }
  CHECK(cpi_of(0x10000) != cpi_of(0x10001));
}

TEST_CASE("IPComp: each message lost, doubled and late, of the first exchanges and of rekeys by either end") {
  const auto make = [] { return std::make_unique<CompLab>(true, true); };
  lab::with_each_message_troubled(4, 1, make, [](CompLab& lab) { lab.check_cpis(true); });
  lab::with_each_rekey_troubled(1, make, [](CompLab& lab) { lab.check_cpis(true); });
}

}  // namespace
}  // namespace postern::ike
