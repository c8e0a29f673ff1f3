// Packets that say nothing, so that nobody can tell when the others do (RFC 4303 §2.6).
#include <algorithm>

#include "worker/outbound.hpp"

namespace postern {
namespace {

constexpr std::uint32_t smallest_dummy = 20;  // an IP header's: what a user's packet has at least

}  // namespace

std::uint64_t Scramble::next() {
  state_ += 0x9e3779b97f4a7c15U;
  std::uint64_t out = state_;
  out = (out ^ out >> 30) * 0xbf58476d1ce4e5b9U;
  out = (out ^ out >> 27) * 0x94d049bb133111ebU;
  return out ^ out >> 31;
}

void Scramble::fill(MutableBytes out) {
  for (; out.size() >= sizeof(std::uint64_t); out = out.subspan(sizeof(std::uint64_t))) {
    const std::uint64_t word = next();
    std::memcpy(out.data(), &word, sizeof word);
  }
  const std::uint64_t last = next();
  if (!out.empty()) std::memcpy(out.data(), &last, out.size());
}

// Any that a user's packet can have; with TFC padding they all have the same.
std::uint32_t Outbound::dummy_bytes() {
  const std::uint32_t largest = route_.plaintext_mtu;
  if (route_.sa->tfc_bytes != 0) return std::clamp<std::uint32_t>(route_.sa->tfc_bytes, smallest_dummy, largest);
  return smallest_dummy + static_cast<std::uint32_t>(random_.next() % (largest - smallest_dummy + 1));
}

// False: the flow has no SA now that wants them. Without a next hop or a frame there is none this time: they make
// nobody wait, and take nothing from the user's packets.
bool Outbound::dummy(std::uint32_t flow) {
  const auto wait = find_route(flow);
  if (wait) return *wait != Drop::no_outbound_sa;
  const bool has_dummies = route_.sa->protocol == IpProto::esp && route_.sa->mode == SaMode::tunnel;
  if (route_.sa->slot->parameters.dummy_interval_us == 0 || !has_dummies) return false;
  if (route_.plaintext_mtu <= smallest_dummy) return true;
  Packet packet = context_.allocate(dummy_bytes());
  if (packet.frame == no_frame) return true;
  packet.flow = flow;
  random_.fill(packet.bytes());
  count(context_.counters.made);
  encapsulate(packet, IpInfo{}, IpProto::no_next_header, false);
  return true;
}

}  // namespace postern
