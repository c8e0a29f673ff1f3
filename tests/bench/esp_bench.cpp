// bench esp: what sealing and opening a batch costs, in cache, beside the bare cipher calls of the same library.
//   value: packets a second through EspEngine, in millions, median of the rounds; spread: (max - min) / median
//   ratio: value / the same of the reference, median of the rounds' ratios; rounds of the two alternate
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/clock.hpp"
#include "crypto/random.hpp"
#include "crypto/transforms.hpp"
#include "tests/bench/esp_reference.hpp"

namespace postern::bench {
namespace {

constexpr std::size_t batch_packets = 64;
constexpr std::size_t rounds = 11;
constexpr std::size_t payload_sizes[] = {64, 256, 1400};

constexpr crypto::Transform transforms[] = {
    {crypto::Cipher::aes_cbc, 128, crypto::Integrity::hmac_sha1_96},
    {crypto::Cipher::aes_cbc, 128, crypto::Integrity::hmac_sha256_128},
    {crypto::Cipher::aes_cbc, 256, crypto::Integrity::hmac_sha384_192},
    {crypto::Cipher::aes_cbc, 256, crypto::Integrity::hmac_sha512_256},
    {crypto::Cipher::aes_gcm_16, 128, crypto::Integrity::none},
    {crypto::Cipher::aes_gcm_16, 192, crypto::Integrity::none},
    {crypto::Cipher::aes_gcm_16, 256, crypto::Integrity::none},
    {crypto::Cipher::chacha20_poly1305, 256, crypto::Integrity::none},
    {crypto::Cipher::aes_ccm_16, 128, crypto::Integrity::none},
    {crypto::Cipher::aes_ccm_16, 256, crypto::Integrity::none},
    {crypto::Cipher::aes_gmac, 128, crypto::Integrity::none},
    {crypto::Cipher::aes_gmac, 256, crypto::Integrity::none},
};

using Run = std::function<void(std::span<crypto::EspJob>)>;

[[noreturn]] void die(const std::string& what) {
  fmt::print(stderr, "esp_bench: {}\n", what);
  std::exit(1);
}

template <class T>
T need(Result<T> result) {
  if (!result) die(result.error().message());
  return std::move(*result);
}

struct Row {
  std::string name, vs;
  double mpps = 0, ratio = 0, spread = 0;
  std::size_t payload = 0;
};

// A batch of equal packets; `reset` brings them back to how the direction under test finds them.
class Batch {
 public:
  Batch(const crypto::EspKey& key, std::size_t payload) : jobs_(batch_packets) {
    const crypto::TransformSizes& sizes = key.sizes();
    const std::size_t body = (payload + 2 + sizes.block_bytes - 1) / sizes.block_bytes * sizes.block_bytes;
    const std::size_t size = 8U + sizes.iv_bytes + body + sizes.icv_bytes;
    stride_ = (size + 63) / 64 * 64;
    frames_.resize(stride_ * batch_packets);
    for (std::size_t i = 0; i < batch_packets; ++i)
      jobs_[i] = {&key, frames_.data() + i * stride_, static_cast<std::uint32_t>(size), i + 1, false};
    start_ = frames_;
  }
  [[nodiscard]] std::span<crypto::EspJob> jobs() { return jobs_; }
  void keep() { start_ = frames_; }
  void reset() { std::memcpy(frames_.data(), start_.data(), start_.size()); }
  [[nodiscard]] bool all_ok() const { return std::ranges::all_of(jobs_, &crypto::EspJob::ok); }

 private:
  std::size_t stride_ = 0;
  std::vector<std::byte> frames_, start_;
  std::vector<crypto::EspJob> jobs_;
};

// Millions of packets a second over about `nanoseconds` of work; putting the batch back is not timed.
double measure(Batch& batch, const Run& run, std::uint64_t nanoseconds) {
  std::uint64_t spent = 0, packets = 0;
  while (spent < nanoseconds) {
    batch.reset();
    const std::uint64_t start = monotonic_ns();
    run(batch.jobs());
    spent += monotonic_ns() - start;
    packets += batch_packets;
  }
  return static_cast<double>(packets) * 1e3 / static_cast<double>(spent);
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

void compare(Row& row, Batch& batch, const Run& ours, const Run& reference, std::uint64_t nanoseconds) {
  std::vector<double> values, ratios;
  measure(batch, reference, nanoseconds / 4);  // warm both
  measure(batch, ours, nanoseconds / 4);
  if (!batch.all_ok()) die(row.name + ": a packet failed");
  for (std::size_t i = 0; i < rounds; ++i) {
    const double theirs = measure(batch, reference, nanoseconds);
    values.push_back(measure(batch, ours, nanoseconds));
    ratios.push_back(values.back() / theirs);
  }
  if (!batch.all_ok()) die(row.name + ": a packet failed");
  row.mpps = median(values);
  row.ratio = median(ratios);
  const auto [least, most] = std::ranges::minmax(values);
  row.spread = (most - least) / row.mpps;
}

std::string short_name(const crypto::Transform& transform) {
  std::string out = crypto::text(transform);
  std::ranges::replace(out, ' ', '+');
  return out;
}

void run_transform(std::vector<Row>& rows, crypto::EngineKind kind, crypto::EspEngine& engine,
                   const crypto::Transform& transform, std::uint64_t nanoseconds) {
  const auto sizes = need(crypto::sizes_of(transform));
  std::vector<std::byte> cipher_key(sizes.key_bytes), integrity_key(sizes.integrity_key_bytes);
  if (!crypto::random_bytes(cipher_key) || !crypto::random_bytes(integrity_key)) die("no random bytes");
  const auto key = need(crypto::EspKey::create(transform, cipher_key, integrity_key));
  const bool is_ipsec_mb = kind == crypto::EngineKind::ipsec_mb;
  const Reference reference =
      (is_ipsec_mb ? ipsec_mb_reference : openssl_reference)(transform, cipher_key, integrity_key);
  const Run seal = [&](std::span<crypto::EspJob> jobs) { engine.seal(jobs); };
  const Run open = [&](std::span<crypto::EspJob> jobs) { engine.open(jobs); };
  for (const std::size_t payload : payload_sizes) {
    Batch batch(key, payload);
    const auto name = [&](const char* what) {
      return fmt::format("esp {} {} {} {}", what, short_name(transform), payload, is_ipsec_mb ? "ipsec-mb" : "openssl");
    };
    Row sealing{.name = name("seal"), .vs = reference.what, .payload = payload};
    compare(sealing, batch, seal, reference.seal, nanoseconds);
    engine.seal(batch.jobs());
    batch.keep();
    Row opening{.name = name("open"), .vs = reference.what, .payload = payload};
    compare(opening, batch, open, reference.open, nanoseconds);
    rows.push_back(sealing);
    rows.push_back(opening);
  }
}

std::vector<Row> run_all(double seconds, std::FILE* progress) {
  std::vector<std::pair<crypto::EngineKind, crypto::EspEngine>> engines;
  for (const auto kind : {crypto::EngineKind::ipsec_mb, crypto::EngineKind::openssl}) {
    auto engine = crypto::EspEngine::create(kind);
    if (engine)
      engines.emplace_back(kind, std::move(*engine));
    else
      fmt::print(progress, "not measured: {}\n", engine.error().message());
  }
  const auto per_row =
      seconds * 1e9 / static_cast<double>(engines.size() * std::size(transforms) * std::size(payload_sizes) * 2);
  const auto per_round = static_cast<std::uint64_t>(per_row / (2 * rounds + 0.5));
  std::vector<Row> rows;
  for (auto& [kind, engine] : engines) {
    fmt::print(progress, "{}\n", engine.name());
    for (const crypto::Transform& transform : transforms) run_transform(rows, kind, engine, transform, per_round);
  }
  return rows;
}

void print_table(const std::vector<Row>& rows, std::FILE* out) {
  fmt::print(out, "{:<62} {:>8} {:>8} {:>7} {:>7}  {}\n", "", "Mpps", "Gb/s", "ratio", "spread", "against");
  for (const Row& row : rows)
    fmt::print(out, "{:<62} {:>8.3f} {:>8.2f} {:>7.2f} {:>7.2f}  {}\n", row.name, row.mpps,
               row.mpps * static_cast<double>(row.payload) * 8 / 1e3, row.ratio, row.spread, row.vs);
}

std::string to_json(const std::vector<Row>& rows) {
  const auto rounded = [](double value) { return std::round(value * 1e4) / 1e4; };
  auto out = nlohmann::ordered_json::array();
  for (const Row& row : rows)
    out.push_back({{"name", row.name},
                   {"value", rounded(row.mpps)},
                   {"unit", "Mpps"},
                   {"vs", row.vs},
                   {"ratio", rounded(row.ratio)},
                   {"spread", rounded(row.spread)}});
  return out.dump(1) + "\n";
}

}  // namespace
}  // namespace postern::bench

int main(int argc, char** argv) {
  CLI::App app("ESP batches of 64 packets in cache, against the bare cipher calls of the same library");
  double seconds = 12;
  std::string json;
  app.add_option("--seconds", seconds, "time for all rows together")->check(CLI::Range(0.5, 3600.0));
  app.add_option("--json", json,
                 "write the JSON array to this file; - is standard output, and the table goes to standard error")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  CLI11_PARSE(app, argc, argv);

  using namespace postern::bench;
  std::FILE* const readable = json == "-" ? stderr : stdout;
  const std::vector<Row> rows = run_all(seconds, readable);
  print_table(rows, readable);
  if (json.empty()) return 0;
  const std::string text = to_json(rows);
  std::FILE* const out = json == "-" ? stdout : std::fopen(json.c_str(), "we");
  if (out == nullptr || std::fputs(text.c_str(), out) < 0 || std::fflush(out) != 0) die("cannot write " + json);
  return 0;
}
