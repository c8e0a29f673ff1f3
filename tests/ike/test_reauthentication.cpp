// R43-01: an IKE SA that ends with a certificate is authenticated anew: another one beside it, then it goes. Between
// two managers, on a network that loses, doubles and delays.
#include "tests/ike/manager_lab.hpp"
#include "tests/ike/signed_lab.hpp"

using namespace postern;
using namespace postern::ike;
using namespace postern::ike::manager_lab;

namespace {

struct Renewing : Lab {
  lab::Notary notary[2] = {{"A", 300, {}, {}}, {"B", lab::year_s, {}, {}}};  // what A sees ends in five minutes
  std::uint64_t before = 0;
  bool always = true;  // the flow had an SA, at both ends

  Renewing() {
    Connection at_a = of_a(), at_b = of_b();
    sign(a, 0, at_a, "A", "B");
    sign(b, 1, at_b, "B", "A");
    a.policy({at_a}, now);
    b.policy({at_b}, now);
    a.manager->on_acquire(1, now);
    run(2s);
    check_up();
    before = spi_of(a);
  }
  void sign(Node& node, std::size_t index, Connection& one, const char* own, const char* peer) {
    one.local_auth = one.remote_auth = AuthKind::signature;
    one.local_key = one.remote_key = Secret();
    one.sign_trustpoint = own;
    one.verify_trustpoints = {peer};
    node.world.pki = [this, index](const pki::Question& question) { return notary[index].answer(question); };
  }
  [[nodiscard]] std::uint64_t spi_of(const Node& node) const {
    for (const auto& row : node.manager->rows(now))
      if (row.session.phase == SessionPhase::established) return row.session.spi_i;
    FAIL("no IKE SA is established");
    return 0;
  }
  // Until the one that is there has been replaced, with its margin.
  void renew() {
    notary[0].valid_s = lab::year_s;  // the certificate has been renewed
    passes = [this, arrives = passes](const Packet& packet) {
      always = always && a.world.bound.contains(1) && b.world.bound.contains(2);
      return arrives(packet);
    };
    run(290s);
    CHECK(always);
  }
};

}  // namespace

TEST_CASE("reauthentication: each packet lost, doubled and late: another IKE SA, no flow without an SA meanwhile") {
  const auto make = [] { return std::make_unique<Renewing>(); };
  with_each_packet_troubled(8, make, [](Renewing& lab) {
    lab.renew();
    lab.check_up();
    CHECK(lab.spi_of(lab.a) != lab.before);
    CHECK(lab.spi_of(lab.a) == lab.spi_of(lab.b));
    CHECK(lab.a.world.count(EventKind::ike_rekeyed) == 0);
    CHECK(lab.a.world.count(EventKind::attempt_failed) == 0);
    CHECK(lab.notary[0].signs.size() == 2);
    lab.run(30s);  // what stood before is over, and nobody misses it
    lab.check_up();
    CHECK(lab.a.manager->size() == 1);
    CHECK(lab.b.manager->size() == 1);
  });
}

TEST_CASE("reauthentication: a peer that does not answer has what stands until the certificate ends, and no longer") {
  Renewing lab;
  lab.notary[0].valid_s = lab::year_s;
  lab.passes = [](const Packet&) { return false; };
  lab.run(290s);
  CHECK(lab.a.world.bound.contains(1));
  lab.run(15s);
  CHECK_FALSE(lab.a.world.bound.contains(1));
  CHECK(lab.a.established(lab.now) == 0);
}

TEST_CASE("reauthentication: a peer that is not who it was is not let in: what stands ends with its certificate") {
  Renewing lab;
  lab.notary[1].own = "somebody else";
  lab.run(290s);
  CHECK(lab.spi_of(lab.a) == lab.before);
  CHECK(lab.a.world.count(EventKind::attempt_failed) > 0);
  lab.run(15s);
  CHECK(lab.a.established(lab.now) == 0);
}
