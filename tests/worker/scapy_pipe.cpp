// esp_pipe: the pipeline behind standard input and output, so that an ESP that shares no code with ours can talk to it.
//
//   esp_pipe key=value ...     keys: spi transform (WORD+WORD) cipher auth local remote udp window df ecn dscp ttl mtu
//                              engine mode; tfc: bytes to pad to; esn: the number that either side begins at, 64 bits;
//                              ah (authenticator, or "with-" and that: AH around ESP) ah_spi ah_auth
//   in:   out HEX              a plain IP packet to seal          in HEX   a packet of the cipher side to open
//         dummy                one dummy packet
//   out:  one line for each: any of "wire HEX", "plain HEX", "icmp HEX", "drop NAME" in the order in which they
//   happened
//
// The outbound SA goes from `local` to `remote`, the inbound one the other way, with the same SPI and keys.
#include <charconv>
#include <cstring>
#include <iostream>
#include <map>
#include <memory>
#include <ranges>
#include <string>
#include <vector>

#include "crypto/ah.hpp"
#include "crypto/transforms.hpp"
#include "reference.hpp"
#include "worker/pipeline.hpp"
#include "worker/sad.hpp"

namespace postern {
namespace {

using reference::Octets;
using Options = std::map<std::string, std::string>;

struct Printer final : Egress {
  explicit Printer(FramePool& pool) : frames(pool) {}
  FramePool& frames;
  std::string line;

  void add(const char* what, Bytes bytes) { line += std::string(line.empty() ? "" : " ") + what + " " + hex(bytes); }
  static std::string hex(Bytes bytes) { return reference::to_hex(reference::octets(bytes)); }
  void transmit(std::span<WirePacket> packets) override {
    for (const WirePacket& p : packets) {
      add("wire", Bytes(p.packet.bytes()).subspan(14));
      frames.give(p.packet.frame);
    }
  }
  void deliver(std::span<Delivery> packets) override {
    for (const Delivery& d : packets) {
      add("plain", d.packet.bytes());
      frames.give(d.packet.frame);
    }
  }
  void icmp_error(Bytes packet, std::uint32_t) override { add("icmp", packet); }
  void unresolved(const AdjacencyKey&, bool) override {}
};

std::uint32_t number(const Options& options, const char* key, std::uint32_t otherwise) {
  const auto found = options.find(key);
  if (found == options.end()) return otherwise;
  return static_cast<std::uint32_t>(std::stoul(found->second, nullptr, 0));
}

// Words of a transform set, with a + between them.
crypto::Transform transform_of(const std::string& words) {
  std::vector<std::string_view> split;
  for (const auto word : std::views::split(std::string_view(words), '+')) split.emplace_back(word);
  const auto transform = crypto::combine(split);
  if (!transform) throw std::runtime_error(transform.error().message());
  return *transform;
}

crypto::Integrity authenticator_of(const std::string& name) {
  for (const char* const end : {"-hmac", ""})
    if (const crypto::Integrity found = crypto::find_ah_transform("ah-" + name + end); found != crypto::Integrity::none)
      return found;
  throw std::runtime_error("no AH of " + name);
}

template <std::size_t N>
std::uint16_t put_key(const Options& options, const char* name, std::array<std::byte, N>& out) {
  const auto found = options.find(name);
  if (found == options.end()) return 0;
  const Octets key = reference::from_hex(found->second);
  if (key.size() > N) throw std::runtime_error("key too long");
  std::memcpy(out.data(), key.data(), key.size());
  return static_cast<std::uint16_t>(key.size());
}

// RFC 4301 §4.4.1.1: the SA's ends and nothing else.
void between_ends(SaParameters& p, std::uint8_t protocol) {
  const bool out = p.direction == SaDirection::outbound;
  p.mode = SaMode::transport;
  p.selector_count = 1;
  p.selectors[0].source_first = p.selectors[0].source_last = out ? p.local : p.remote;
  p.selectors[0].destination_first = p.selectors[0].destination_last = out ? p.remote : p.local;
  p.selectors[0].protocol = protocol;
}

SaParameters parameters(const Options& options, SaDirection direction) {
  SaParameters p;
  p.direction = direction;
  p.spi = number(options, "spi", 0x1001);
  p.flow = 1;
  p.local = *IpAddress::parse(options.at("local"));
  p.remote = *IpAddress::parse(options.at("remote"));
  if (options.contains("transform")) p.transform = transform_of(options.at("transform"));
  p.cipher_key_bytes = put_key(options, "cipher", p.cipher_key);
  p.integrity_key_bytes = put_key(options, "auth", p.integrity_key);
  if (options.contains("mode") && options.at("mode") == "transport") between_ends(p, 0);
  p.local_port = p.remote_port = static_cast<std::uint16_t>(number(options, "udp", 0));
  p.udp_encapsulation = p.local_port != 0;
  p.replay_window =
      direction == SaDirection::inbound ? static_cast<std::uint16_t>(number(options, "window", 64)) : std::uint16_t{0};
  p.df = static_cast<DfPolicy>(number(options, "df", 0));
  p.ecn = static_cast<EcnPolicy>(number(options, "ecn", 0));
  p.dscp_copy = !options.contains("dscp");
  p.dscp = static_cast<std::uint8_t>(number(options, "dscp", 0));
  p.ttl = static_cast<std::uint8_t>(number(options, "ttl", 255));
  p.path_mtu = number(options, "mtu", 1500);
  p.compression_cpi = static_cast<std::uint16_t>(number(options, "comp", 0));
  p.tfc_bytes = static_cast<std::uint16_t>(number(options, "tfc", 0));
  p.dummy_interval_us = 1000;
  p.extended_sequence = options.contains("esn");
  return p;
}

constexpr std::uint32_t flow = 1, bundle_flow = 2;

// AH alone takes the place of ESP; around ESP it has a flow of its own.
std::vector<SaParameters> all_parameters(const Options& options, SaDirection direction) {
  const SaParameters first = parameters(options, direction);
  const auto asked = options.find("ah");
  if (asked == options.end()) return {first};
  SaParameters ah = first;
  ah.protocol = IpProto::ah;
  ah.spi = number(options, "ah_spi", first.spi);
  ah.cipher_key_bytes = 0;
  ah.integrity_key_bytes = put_key(options, "ah_auth", ah.integrity_key);
  const bool around = asked->second.starts_with("with-");
  ah.transform = {crypto::Cipher::none, 0, authenticator_of(asked->second.substr(around ? 5 : 0))};
  if (!around) return {ah};
  SaParameters esp = first;
  esp.bundle = bundle_flow;
  ah.flow = bundle_flow;
  ah.bundle = flow;
  ah.compression_cpi = 0;
  between_ends(ah, static_cast<std::uint8_t>(IpProto::esp));
  return {esp, ah};
}

class Pipe {
 public:
  static constexpr std::uint32_t frame_count = 256, frame_bytes = 4096;

  explicit Pipe(const Options& options)
      : slots_(new SaSlot[4]()),
        table_(new AdjacencyTable()),
        counters_(new ThreadCounters()),
        memory_(std::size_t{frame_count} * frame_bytes),
        frames_(memory_.data(), frame_count, frame_bytes),
        printer_(frames_) {
    sad_ = must(Sad::create(std::span(slots_.get(), 4), 1));
    std::vector<std::uint32_t> outbound, inbound;
    for (const SaParameters& out : all_parameters(options, SaDirection::outbound)) {
      outbound.push_back(must(sad_->install(out)));
      if (!sad_->bind_flow(out.flow, outbound.back())) throw std::runtime_error("bind_flow");
    }
    for (const SaParameters& in : all_parameters(options, SaDirection::inbound))
      inbound.push_back(must(sad_->install(in)));
    if (const auto esn = options.find("esn"); esn != options.end())
      start_at(std::stoull(esn->second, nullptr, 0), outbound.front(), inbound.front());
    Adjacency next;
    next.ifindex = 1;
    if (!table_->put({0, *IpAddress::parse(options.at("remote"))}, next)) throw std::runtime_error("adjacency");
    const bool openssl = options.contains("engine") && options.at("engine") == "openssl";
    pipeline_ = std::make_unique<Pipeline>(
        must(crypto::EspEngine::create(openssl ? crypto::EngineKind::openssl : crypto::EngineKind::automatic)), *sad_,
        *table_, frames_, *counters_, printer_, PipelineConfig{});
  }

  std::string run(const std::string& command, const Octets& bytes) {
    printer_.line.clear();
    std::vector<std::uint64_t> before;
    for (const Counter& c : counters_->drops) before.push_back(c.load());
    if (command == "dummy") {
      if (!pipeline_->dummy(1)) throw std::runtime_error("no dummy");
    } else if (command == "out") {
      pipeline_->outbound_super({}, reference::view(bytes), 1, 0);
    } else {
      pipeline_->inbound(frame_of(bytes), 0);
    }
    pipeline_->flush();
    for (std::size_t i = 0; i < drop_count; ++i)
      for (std::uint64_t n = before[i]; n < counters_->drops[i].load(); ++n)
        printer_.line += (printer_.line.empty() ? "drop " : " drop ") + std::string(drop_texts[i].name);
    return printer_.line;
  }

 private:
  template <class T>
  static T must(Result<T> result) {
    if (!result) throw std::runtime_error(result.error().message());
    return std::move(*result);
  }
  // As after a crash: the next number outbound; everything below seen inbound.
  void start_at(std::uint64_t number, std::uint32_t outbound, std::uint32_t inbound) {
    slots_[outbound].next_sequence = number;
    slots_[inbound].highest_sequence = number - 1;
    sad_.reset();
    sad_ = must(Sad::create(std::span(slots_.get(), 4), 1));
  }
  Packet frame_of(const Octets& bytes) {
    Packet packet;
    packet.frame = frames_.take();
    packet.buffer = frames_.at(packet.frame);
    packet.capacity = frame_bytes;
    packet.offset = 256;
    packet.size = static_cast<std::uint32_t>(std::min<std::size_t>(bytes.size(), frame_bytes - 256));
    if (packet.size != 0) std::memcpy(packet.data(), bytes.data(), packet.size);
    return packet;
  }

  std::unique_ptr<SaSlot[]> slots_;
  std::unique_ptr<AdjacencyTable> table_;
  std::unique_ptr<ThreadCounters> counters_;
  std::vector<std::byte> memory_;
  FramePool frames_;
  Printer printer_;
  std::unique_ptr<Sad> sad_;
  std::unique_ptr<Pipeline> pipeline_;
};

int serve(int count, char** arguments) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    const auto equals = argument.find('=');
    if (equals == std::string::npos) throw std::runtime_error("expected key=value, got " + argument);
    options[argument.substr(0, equals)] = argument.substr(equals + 1);
  }
  Pipe pipe(options);
  std::string command, text;
  for (std::string line; std::getline(std::cin, line);) {
    const auto space = line.find(' ');
    command = line.substr(0, space);
    text = space == std::string::npos ? "" : line.substr(space + 1);
    std::cout << pipe.run(command, reference::from_hex(text)) << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace postern

int main(int count, char** arguments) try {
  return postern::serve(count, arguments);
} catch (const std::exception& error) {
  std::cerr << "esp_pipe: " << error.what() << '\n';
  return 2;
}
