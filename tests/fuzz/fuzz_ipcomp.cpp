// Hostile bytes into IPComp, behind a right ICV: what a peer gone bad could compress, or say it did; and plain packets
// of every shape on their way out and back. The first byte chooses; after every input the packets must balance, no
// frame may be lost, and what comes back is what went in.
#include "tests/fuzz/pipeline_target.hpp"
#include "worker/compression.hpp"

namespace postern::fuzz {
namespace {

constexpr std::uint16_t cpi = 2;
constexpr std::uint32_t tunnel_flow = 1, transport_flow = 2;

SaParameters parameters(SaDirection direction, std::uint32_t flow) {
  const bool out = direction == SaDirection::outbound;
  SaParameters p;
  p.direction = direction;
  p.spi = 0x1000 + flow;
  p.flow = flow;
  p.local = IpAddress::v4(out ? 0xc0000201 : 0xc0000202);
  p.remote = IpAddress::v4(out ? 0xc0000202 : 0xc0000201);
  p.transform = {crypto::Cipher::aes_gcm_16, 128, crypto::Integrity::none};
  p.cipher_key_bytes = 20;
  p.compression_cpi = cpi;
  if (flow == tunnel_flow) return p;
  p.mode = SaMode::transport;
  p.selector_count = 1;
  p.selectors[0].source_first = p.selectors[0].source_last = out ? p.local : p.remote;
  p.selectors[0].destination_first = p.selectors[0].destination_last = out ? p.remote : p.local;
  return p;
}

struct Target : PipelineTarget {
  std::vector<crypto::EspKey> keys;
  Compression compression;

  Target() {
    for (const std::uint32_t flow : {tunnel_flow, transport_flow}) {
      const auto in = parameters(SaDirection::inbound, flow);
      install(in, parameters(SaDirection::outbound, flow));
      keys.push_back(*crypto::EspKey::create(in.transform, Bytes(in.cipher_key).first(in.cipher_key_bytes), {}));
    }
  }
};

// `data` is IPComp header and stream; the frame has room for what comes of it.
void inbound_ipcomp(Target& target, Bytes data, std::uint32_t flow) {
  std::vector<std::byte> plain(data.begin(),
                               data.begin() + static_cast<long>(std::min<std::size_t>(data.size(), 1400)));
  std::byte padding{0};
  while (plain.size() % 4 != 2) {
    padding = static_cast<std::byte>(std::to_integer<unsigned>(padding) + 1);
    plain.push_back(padding);
  }
  plain.push_back(padding);
  plain.push_back(static_cast<std::byte>(ipcomp_protocol));
  target.inbound(sealed_esp(target.engine, target.keys[flow - 1], 0x1000 + flow, plain), 2048);
}

// The right header in front, so that the fuzzer need not find it.
void inbound_stream(Target& target, Bytes data, std::uint32_t flow) {
  std::vector<std::byte> ipcomp = {flow == tunnel_flow ? std::byte{4} : std::byte{17}, std::byte{0}, std::byte{0},
                                   std::byte{cpi}};
  ipcomp.insert(ipcomp.end(), data.begin(), data.end());
  inbound_ipcomp(target, ipcomp, flow);
}

void there_and_back(Target& target, Bytes data) {
  const std::vector<std::byte> payload(data.begin(), data.end());
  const auto smaller = target.compression.compress(payload, 4, cpi);
  if (!smaller) return;
  if (smaller->size() >= payload.size()) broken();
  const std::vector<std::byte> packet(smaller->begin(), smaller->end());
  const auto again = target.compression.decompress(packet, cpi, payload.size());
  if (!again || again->next_header != 4 || !std::ranges::equal(again->payload, payload)) broken();
  if (payload.size() > 1 && target.compression.decompress(packet, cpi, payload.size() - 1)) broken();
}

void run(Target& target, Bytes data) {
  if (data.size() < 2) return;
  const auto choice = std::to_integer<std::uint32_t>(data[0]);
  const std::uint32_t flow = choice / 8 % 2 + 1;
  const Bytes rest = data.subspan(1);
  switch (choice % 5) {
    case 0: inbound_ipcomp(target, rest, flow); break;
    case 1: inbound_stream(target, rest, flow); break;
    case 2: target.inbound_changed(rest, flow, 2048); break;
    case 3: target.super(rest, flow); break;
    default: there_and_back(target, rest);
  }
}

}  // namespace
}  // namespace postern::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return postern::fuzz::one_input(postern::fuzz::run, data, size);
}
