// ns a packet of the classifier: 1 to 4000 rules, flow cache hit and miss, against the walk over the list in the same
// run; and ms that a change of that many rules takes. A JSON array on standard output, a table on standard error. Needs
// root.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "classify_bench.skel.h"
#include "maps/policy.hpp"
#include "maps/policy_writer.hpp"
#include "tests/bpf_bench/linear_rule.h"

namespace postern::bench {
namespace {

constexpr int rounds = 7;
constexpr std::uint32_t generation = 1;

struct Row {
  std::string name, vs;
  double value = 0, ratio = 0, spread = 0;
  std::string unit = "ns/packet";
};

template <class T>
T need(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message());
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

PolicyRule rule_at(std::uint32_t index) {
  PolicyRule rule;
  rule.entry = 10;
  rule.flow = index + 1;
  rule.source = {IpAddress::v4(0x0a000000 + (index << 8)), 24};
  rule.destination = {IpAddress::v4(0x14000000 + (index << 8)), 24};
  return rule;
}

postern_address wire(const IpAddress& address) {
  postern_address out;
  std::memcpy(out.bytes, address.mapped().data(), sizeof out.bytes);
  return out;
}

// A loaded object with `rules` rules in the tables and in the list.
class Subject {
 public:
  explicit Subject(std::uint32_t rules) : object_(classify_bench__open_and_load()), rules_(rules) {
    if (object_ == nullptr) throw std::runtime_error("load classify_bench.bpf.o (root?)");
    for_each_map(maps_, [&](const char* name, auto& map) {
      Fd copy(::dup(bpf_map__fd(bpf_object__find_map_by_name(object_->obj, name))));
      map = need(std::remove_cvref_t<decltype(map)>::adopt(std::move(copy), name));
    });
    PolicyInput policy{generation, {}};
    for (std::uint32_t i = 0; i < rules; ++i) policy.rules.push_back(rule_at(i));
    need(PolicyWriter(maps_).write(need(compile(policy))));
    fill_list(policy);
  }
  ~Subject() { classify_bench__destroy(object_); }
  Subject(const Subject&) = delete;
  Subject& operator=(const Subject&) = delete;

  // Mean of `repeat` runs; the packet is the last rule's, and the program must say so.
  double nanoseconds(bpf_program* program, int repeat, std::uint32_t expected) const {
    postern_flow_key key{};
    key.generation = generation;
    key.source = wire(IpAddress::v4(0x0a000001 + ((rules_ - 1) << 8)));
    key.destination = wire(IpAddress::v4(0x14000001 + ((rules_ - 1) << 8)));
    key.protocol = 6;
    key.source_port = 1;
    key.destination_port = 2;
    LIBBPF_OPTS(bpf_test_run_opts, run);
    run.data_in = &key;
    run.data_size_in = sizeof key;
    run.repeat = repeat;
    if (bpf_prog_test_run_opts(bpf_program__fd(program), &run) != 0) throw std::runtime_error("test run");
    if (run.retval != expected) throw std::runtime_error("the program under test gave a wrong verdict");
    return run.duration;
  }

  // Compiles as many other rules, writes them beside those in force, switches and removes the old ones.
  Row apply() {
    PolicyInput policy{generation + 1, {}};
    for (std::uint32_t i = 0; i < rules_; ++i) policy.rules.push_back(rule_at(rules_ + i));
    const PolicyWriter writer(maps_);
    postern_interface interface{};
    interface.generation = generation;
    need(maps_.interfaces.update(1, interface));
    const auto start = std::chrono::steady_clock::now();
    need(writer.write(need(compile(policy))));
    need(writer.switch_interface(1, policy.generation, 0));
    need(writer.remove(generation));
    const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    return {fmt::format("compile, switch and remove {} rules", rules_), "nothing", ms, 1, 0, "ms"};
  }

  classify_bench* object() const { return object_; }
  std::uint32_t rules() const { return rules_; }

 private:
  void fill_list(const PolicyInput& policy) const {
    postern_address mask = wire(IpAddress::v4(0xffffff00));
    std::fill_n(mask.bytes, 12, std::uint8_t{0xff});
    for (std::uint32_t i = 0; i < rules_; ++i) {
      const PolicyRule& rule = policy.rules[i];
      const linear_rule row{wire(rule.source.address), mask, wire(rule.destination.address), mask, rule.flow, 0};
      if (bpf_map_update_elem(bpf_map__fd(object_->maps.linear_rules), &i, &row, BPF_ANY) != 0)
        throw std::runtime_error("fill list");
    }
    object_->bss->linear_count = rules_;
  }

  classify_bench* object_;
  std::uint32_t rules_;
  NodeMaps maps_;
};

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

Row measure(const Subject& subject, const char* what, bpf_program* program) {
  Row row;
  row.name = fmt::format("classify {} {} rule{}", what, subject.rules(), subject.rules() == 1 ? "" : "s");
  row.vs = fmt::format("bpf_loop over the list of {}", subject.rules());
  const auto& programs = subject.object()->progs;
  const int repeat = 400'000, linear_repeat = std::max(2000, repeat / static_cast<int>(subject.rules()));
  std::vector<double> values, ratios;
  for (int i = 0; i <= rounds; ++i) {
    const double nothing = subject.nanoseconds(programs.bench_nothing, repeat, generation);
    const double linear = subject.nanoseconds(programs.bench_linear, linear_repeat, subject.rules()) - nothing;
    const double ours = subject.nanoseconds(program, repeat, subject.rules()) - nothing;
    if (i == 0) continue;  // warms caches and the branch predictor
    values.push_back(ours);
    ratios.push_back(ours / std::max(linear, 1.0));
  }
  const auto [least, most] = std::ranges::minmax(values);
  row.value = median(values);
  row.ratio = median(ratios);
  row.spread = (most - least) / row.value;
  return row;
}

std::vector<Row> run_all() {
  std::vector<Row> rows;
  for (const std::uint32_t rules : {1U, 100U, 2000U, 4000U}) {
    const Subject subject(rules);
    const auto& programs = subject.object()->progs;
    rows.push_back(measure(subject, "flow cache hit,", programs.bench_hit));
    rows.push_back(measure(subject, "tables,", programs.bench_tables));
    rows.push_back(measure(subject, "new flow,", programs.bench_miss));
  }
  for (const std::uint32_t rules : {100U, 4000U}) rows.push_back(Subject(rules).apply());
  return rows;
}

void print(const std::vector<Row>& rows) {
  auto out = nlohmann::ordered_json::array();
  const auto rounded = [](double value) { return std::round(value * 1e4) / 1e4; };
  fmt::print(stderr, "{:<40} {:>10} {:>8} {:>8}  {}\n", "", "value", "ratio", "spread", "against");
  for (const Row& row : rows) {
    fmt::print(stderr, "{:<40} {:>10.1f} {:>8.3f} {:>8.2f}  {}\n", row.name, row.value, row.ratio, row.spread, row.vs);
    out.push_back({{"name", row.name},
                   {"value", rounded(row.value)},
                   {"unit", row.unit},
                   {"vs", row.vs},
                   {"ratio", rounded(row.ratio)},
                   {"spread", rounded(row.spread)}});
  }
  fmt::print("{}\n", out.dump(1));
}

}  // namespace
}  // namespace postern::bench

int main() {
  try {
    postern::bench::print(postern::bench::run_all());
    return EXIT_SUCCESS;
  } catch (const std::exception& error) {
    fmt::print(stderr, "classify_bench: {}\n", error.what());
    return EXIT_FAILURE;
  }
}
