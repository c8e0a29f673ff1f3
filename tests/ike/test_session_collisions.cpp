// Both ends at once: every pair of exchanges of RFC 7296 §2.25 and §2.8, as rows. A row says what A and B begin before
// either hears of the other; the end state is the same for all: whole, or closed on both ends.
#include "session_lab.hpp"

namespace postern::ike {
namespace {

using lab::Fate;
using lab::Lab;

enum class Wish { make_child, rekey_child, delete_child, rekey_ike, close };
enum class End { whole, without_flow_one, closed };

struct Row {
  const char* name;
  Wish a, b;
  End end;
};
const Row rows[] = {
    {"both make a child (§2.25)", Wish::make_child, Wish::make_child, End::whole},
    {"both rekey the same child (§2.8.1)", Wish::rekey_child, Wish::rekey_child, End::whole},
    {"A rekeys a child that B deletes (§2.25.1)", Wish::rekey_child, Wish::delete_child, End::without_flow_one},
    {"A deletes a child that B rekeys (§2.25.1)", Wish::delete_child, Wish::rekey_child, End::without_flow_one},
    {"both delete the same child (§2.25.1)", Wish::delete_child, Wish::delete_child, End::without_flow_one},
    {"both rekey the IKE SA (§2.8.2)", Wish::rekey_ike, Wish::rekey_ike, End::whole},
    {"A rekeys the IKE SA, B a child (§2.25.2)", Wish::rekey_ike, Wish::rekey_child, End::whole},
    {"A rekeys a child, B the IKE SA (§2.25.2)", Wish::rekey_child, Wish::rekey_ike, End::whole},
    {"A rekeys the IKE SA, B makes a child (§2.25.2)", Wish::rekey_ike, Wish::make_child, End::whole},
    {"A makes a child, B rekeys the IKE SA (§2.25.2)", Wish::make_child, Wish::rekey_ike, End::whole},
    {"A rekeys the IKE SA, B deletes a child (§2.25.2)", Wish::rekey_ike, Wish::delete_child, End::without_flow_one},
    {"A deletes a child, B rekeys the IKE SA (§2.25.2)", Wish::delete_child, Wish::rekey_ike, End::without_flow_one},
    {"A closes the IKE SA, B rekeys it (§2.25.2)", Wish::close, Wish::rekey_ike, End::closed},
    {"A rekeys the IKE SA, B closes it (§2.25.2)", Wish::rekey_ike, Wish::close, End::closed},
    {"both close the IKE SA (§2.25.2)", Wish::close, Wish::close, End::closed},
    {"A closes the IKE SA, B rekeys a child (§2.25.2)", Wish::close, Wish::rekey_child, End::closed},
    {"A makes a child, B closes the IKE SA (§2.25.2)", Wish::make_child, Wish::close, End::closed},
    {"A deletes a child, B closes the IKE SA", Wish::delete_child, Wish::close, End::closed},
};

Actions begin(Lab& lab, std::size_t index, Wish wish) {
  auto& at = lab.end(index);
  Session& session = at.established();
  switch (wish) {
    case Wish::make_child: return session.want_child("two", lab.now);
    case Wish::rekey_child: return session.rekey_child(at.outbound.at(1), lab.now);
    case Wish::delete_child: return session.delete_child(at.outbound.at(1), lab.now);
    case Wish::rekey_ike: return session.rekey(lab.now);
    case Wish::close: break;
  }
  return session.close(lab.now);
}

void check_end(Lab& lab, End end) {
  if (end == End::closed) {
    for (const auto* const at : {&lab.a, &lab.b}) {
      CHECK(at->live().empty());
      CHECK(at->spis.empty());
      CHECK(at->count(SessionPhase::closed) == at->sessions.size());
    }
    return;
  }
  for (const auto* const at : {&lab.a, &lab.b}) {
    INFO(at->name);
    CHECK(at->count(SessionPhase::established) == 1);
    CHECK(at->sessions.size() - at->count(SessionPhase::closed) == 1);
    CHECK(at->spis.size() == at->live().size());
    CHECK((at->bound(1) != nullptr) == (end == End::whole));
  }
  // Whatever is bound is bound at both ends, and no SA is left that only one end knows.
  for (const std::size_t index : {std::size_t{0}, std::size_t{1}}) {
    const auto others = lab.end(1 - index).live();
    for (const InstallChild* const one : lab.end(index).live())
      CHECK(std::ranges::any_of(
          others, [&](const InstallChild* o) { return o->spi_in == one->spi_out && o->spi_out == one->spi_in; }));
  }
}

struct Trouble {
  const char* name;
  std::function<Fate(const lab::Datagram&, std::size_t first)> network;
};
const Trouble troubles[] = {
    {"none", [](const auto&, std::size_t) { return Fate{}; }},
    {"everything twice", [](const auto&, std::size_t) { return Fate{2, 0}; }},
    {"A's request lost once", [](const auto& d, std::size_t first) { return Fate{d.number == first ? 0U : 1U, 0}; }},
    {"B's request lost once",
     [](const auto& d, std::size_t first) { return Fate{d.number == first + 1 ? 0U : 1U, 0}; }},
    {"the first answer lost once",
     [](const auto& d, std::size_t first) { return Fate{d.number == first + 2 ? 0U : 1U, 0}; }},
    {"the second answer lost once",
     [](const auto& d, std::size_t first) { return Fate{d.number == first + 3 ? 0U : 1U, 0}; }},
    {"the first answer late",
     [](const auto& d, std::size_t first) { return Fate{1, d.number == first + 2 ? 2U : 0U}; }},
};

void collide(const Row& row, const Trouble& trouble, std::uint64_t seed) {
  CAPTURE(std::string(row.name));
  CAPTURE(std::string(trouble.name));
  CAPTURE(seed);
  Lab lab;
  lab.a.numbers.seed(seed);  // the nonces decide who wins
  lab.start(0);
  lab.settle();
  lab.check_whole();
  lab.flow("two", 2, "10.3.0.0/16", "10.4.0.0/16");
  Actions from_a = begin(lab, 0, row.a), from_b = begin(lab, 1, row.b);
  const std::size_t first = lab.sent;
  lab.network = [&](const auto& d) { return trouble.network(d, first); };
  // A flow that ends, or that both make for the first time, has moments at which only one end holds its SA.
  const auto steady = [](Wish wish) { return wish == Wish::rekey_child || wish == Wish::rekey_ike; };
  lab.traffic = steady(row.a) && steady(row.b);
  lab.perform(0, std::move(from_a));
  lab.perform(1, std::move(from_b));
  lab.run(std::chrono::minutes(2));
  check_end(lab, row.end);
}

TEST_CASE("session: collisions") {
  for (const Row& row : rows)
    for (const Trouble& trouble : troubles)
      for (std::uint64_t seed = 1; seed <= 4; ++seed) collide(row, trouble, seed);
}

TEST_CASE("session: both ends set up at once") {
  for (const Trouble& trouble : troubles) {
    CAPTURE(std::string(trouble.name));
    Lab lab;
    lab.traffic = false;  // each has the SA of its own answer before the other does
    lab.network = [&](const auto& d) { return trouble.network(d, 0); };
    lab.start(0);
    lab.start(1);
    lab.run(std::chrono::minutes(2));
    CHECK(lab.a.count(SessionPhase::established) == 2);
    CHECK(lab.b.count(SessionPhase::established) == 2);
    CHECK(lab.a.live().size() == 2);
    CHECK(lab.b.live().size() == 2);
  }
}

}  // namespace
}  // namespace postern::ike
