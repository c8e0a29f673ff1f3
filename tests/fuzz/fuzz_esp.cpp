// Hostile bytes into the data plane, with keys that are right: raw packets, valid packets with some bytes changed,
// contents that only a peer gone bad could seal, and super-packets whose virtio-net header lies. The first byte
// chooses; after every input the packets must balance and no frame may be lost.
#include "crypto/transforms.hpp"
#include "tests/fuzz/pipeline_target.hpp"

namespace postern::fuzz {
namespace {

// Every cipher of the table in a flow of its own, over IPv4 and without UDP, beside authenticators in turn; behind them
// a flow in UDP and one over IPv6.
const std::size_t ciphers = static_cast<std::size_t>(std::ranges::count_if(
    crypto::named_transforms(), [](const crypto::NamedTransform& row) { return row.cipher != crypto::Cipher::none; }));
const auto udp_flow = static_cast<std::uint32_t>(ciphers + 1), v6_flow = udp_flow + 1, last_flow = v6_flow;

crypto::Transform transform_of(std::uint32_t flow) {
  const auto words = crypto::named_transforms();  // ciphers first
  const crypto::NamedTransform& cipher = words[flow % ciphers];
  if (crypto::is_aead(cipher.cipher)) return {cipher.cipher, cipher.key_bits, crypto::Integrity::none};
  return {cipher.cipher, cipher.key_bits, words[ciphers + flow % (words.size() - ciphers)].integrity};
}

SaParameters parameters(SaDirection direction, std::uint32_t flow) {
  const bool udp = flow == udp_flow, outer_v6 = flow == v6_flow;
  SaParameters p;
  p.direction = direction;
  p.spi = 0x1000 + flow;
  p.flow = flow;
  const auto one = *IpAddress::parse(outer_v6 ? "2001:db8::1" : "192.0.2.1");
  const auto two = *IpAddress::parse(outer_v6 ? "2001:db8::2" : "192.0.2.2");
  p.local = direction == SaDirection::outbound ? one : two;
  p.remote = direction == SaDirection::outbound ? two : one;
  p.udp_encapsulation = udp;
  p.local_port = p.remote_port = 4500;
  p.df = flow % 2 == 0 ? DfPolicy::clear : DfPolicy::copy;
  p.transform = transform_of(flow);
  const auto sizes = *crypto::sizes_of(p.transform);
  p.cipher_key_bytes = sizes.key_bytes;
  p.integrity_key_bytes = sizes.integrity_key_bytes;
  return p;
}

struct Target : PipelineTarget {
  std::vector<crypto::EspKey> keys;

  Target() {
    for (std::uint32_t flow = 1; flow <= last_flow; ++flow) {
      const auto in = parameters(SaDirection::inbound, flow);
      install(in, parameters(SaDirection::outbound, flow));
      keys.push_back(*crypto::EspKey::create(in.transform, Bytes(in.cipher_key).first(in.cipher_key_bytes),
                                             Bytes(in.integrity_key).first(in.integrity_key_bytes)));
    }
  }
};

// `data` is what lies under the cipher, trailer and all; sealed with the right key.
void inbound_sealed(Target& target, Bytes data, std::uint32_t flow) {
  const crypto::EspKey& key = target.keys[flow - 1];
  const std::size_t block = key.sizes().block_bytes;
  std::vector<std::byte> plain(std::clamp<std::size_t>(data.size() / block * block, block, 2000 / block * block));
  std::memcpy(plain.data(), data.data(), std::min(plain.size(), data.size()));
  target.inbound(sealed_esp(target.engine, key, 0x1000 + flow, plain));
}

void run(Target& target, Bytes data) {
  if (data.size() < 2) return;
  const auto choice = std::to_integer<std::uint32_t>(data[0]);
  const std::uint32_t flow = choice / 8 % last_flow + 1;
  const Bytes rest = data.subspan(1);
  switch (choice % 5) {
    case 0: target.inbound(rest); break;
    case 1: inbound_sealed(target, rest, static_cast<std::uint32_t>(choice / 8 % ciphers + 1)); break;
    case 2: target.inbound_changed(rest, flow); break;
    case 3: target.outbound(rest, flow, (choice & 128) != 0); break;
    default: target.super(rest, flow);
  }
}

}  // namespace
}  // namespace postern::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return postern::fuzz::one_input(postern::fuzz::run, data, size);
}
