// Hot SAs: what the data path reads of an SA, built once at install. The cold half is its slot in the SA state file.
//
// InboundSa and OutboundSa are immutable while published, but for their atomics, so every thread reads them without a
// lock; what moves lies apart: in the slot's atomics, and in ReplayState.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include "base/clock.hpp"
#include "base/net_types.hpp"
#include "base/result.hpp"
#include "crypto/overhead.hpp"
#include "crypto/packet_cipher.hpp"
#include "worker/replay_window.hpp"
#include "worker/sa_state.hpp"
#include "worker/selectors.hpp"

namespace postern {

using crypto::esp_header, crypto::esp_trailer;
using EspOverhead = crypto::Overhead;

inline constexpr std::uint32_t min_path_mtu = 576, min_path_mtu_v6 = 1280;  // RFC 791, RFC 8200 §5
inline constexpr std::uint32_t max_path_mtu = 65535;

[[nodiscard]] constexpr bool soft_lifetime_over(const SaParameters& p, std::uint64_t packets, std::uint64_t bytes) {
  return (p.soft_packets != 0 && packets >= p.soft_packets) || (p.soft_bytes != 0 && bytes >= p.soft_bytes);
}

[[nodiscard]] inline bool hard_seconds_over(const SaSlot& slot, std::uint64_t now_ns) {
  const std::uint64_t lifetime = std::uint64_t{slot.parameters.hard_seconds} * 1'000'000'000U;
  return lifetime != 0 && now_ns - slot.installed_ns.load(std::memory_order_relaxed) >= lifetime;
}

// Of ESP's transform or AH's authenticator.
[[nodiscard]] Result<crypto::TransformSizes> sizes_of(const SaParameters& parameters);
[[nodiscard]] EspOverhead overhead_of(const SaParameters& parameters, const SaEnds& ends,
                                      const crypto::TransformSizes& sizes);

// The part of an inbound SA that every delivered batch writes: on lines of its own.
struct alignas(64) ReplayState {
  explicit ReplayState(std::uint32_t size) : window(size) {}
  std::atomic_flag lock;  // held for one run of packets; process-private
  ReplayWindow window;
};

// RAII over ReplayState::lock: short, never across a system call.
class ReplayLock {
 public:
  explicit ReplayLock(ReplayState& state) : state_(state) {
    while (state_.lock.test_and_set(std::memory_order_acquire)) __builtin_ia32_pause();
  }
  ~ReplayLock() { state_.lock.clear(std::memory_order_release); }
  ReplayLock(const ReplayLock&) = delete;
  ReplayLock& operator=(const ReplayLock&) = delete;

 private:
  ReplayState& state_;
};

// Tells two places apart in one comparison; never 0. Of two that share it a move is not noticed, and IKE's own messages
// tell of it.
[[nodiscard]] inline std::uint64_t peer_mark(const IpAddress& address, std::uint16_t port) {
  std::array<std::uint64_t, 2> halves;
  std::memcpy(halves.data(), address.mapped().data(), sizeof halves);
  return (halves[0] * 0x9e3779b97f4a7c15U ^ halves[1] * 0xc2b2ae3d27d4eb4fU ^ port * 0x165667b19e3779f9U) | 1;
}

struct alignas(64) InboundSa {
  // First line: what finds it.
  std::atomic<InboundSa*> next{nullptr};  // chain of the SAD's bucket
  std::uint32_t spi = 0;                  // host order
  std::uint32_t fvrf = 0;
  IpAddress destination;
  SaSlot* slot = nullptr;
  crypto::EspKey key;
  // Second line: what opens and judges a packet.
  ReplayState* replay = nullptr;                 // the SAD's: it outlives an SA that moves
  const CompiledSelectors* selectors = nullptr;  // owned
  std::uint64_t hard_bytes = 0;
  std::atomic<std::uint64_t> peer{0};  // peer_mark() of where packets come from; 0: nobody asks
  EspOverhead overhead;
  std::atomic<std::uint32_t> ifindex{0};  // SaParameters.ifindex
  std::uint16_t local_port = 0;
  std::uint16_t tcp_mss = 0;
  bool udp_encapsulation = false;
  bool extended_sequence = false;
  bool either_form : 1 = false;
  bool compresses : 1 = false;  // IPComp: slot->parameters.compression_cpi
  bool limited : 1 = false;     // a lifetime is set
  EcnPolicy ecn = EcnPolicy::propagate;
  DeliverTo deliver = DeliverTo::tunnel;
  IpProto protocol = IpProto::esp;
  SaMode mode = SaMode::tunnel;
  std::uint32_t flow = 0, bundle = 0;

  explicit InboundSa(crypto::EspKey expanded) : key(std::move(expanded)) {}
  InboundSa(const InboundSa&) = delete;
  InboundSa& operator=(const InboundSa&) = delete;
  ~InboundSa();
};
static_assert(sizeof(InboundSa) <= 128);

// IPv6 and UDP is the largest: 48 bytes.
using OuterTemplate = std::array<std::byte, 48>;

struct alignas(64) OutboundSa {
  // First line: what decides.
  crypto::EspKey key;
  SaSlot* slot = nullptr;
  const CompiledSelectors* selectors = nullptr;  // owned
  EspOverhead overhead;
  std::uint16_t path_mtu = 1500;
  std::uint16_t tfc_bytes = 0;       // 0: no padding of RFC 4303 §2.7
  std::uint16_t identification = 0;  // added to the sequence number: SAs between the same hosts differ
  std::uint8_t dscp = 0;             // shifted into place; when !dscp_copy
  bool dscp_copy = true;
  Family outer = Family::v4;
  DfPolicy df = DfPolicy::copy;
  EcnPolicy ecn = EcnPolicy::propagate;
  FragmentPolicy fragmentation = FragmentPolicy::before;
  bool udp_encapsulation = false;
  bool extended_sequence = false;
  bool limited : 1 = false;
  bool unicast_only : 1 = false;  // of a crypto map (TS-11)
  bool compresses : 1 = false;    // IPComp: slot->parameters.compression_cpi
  std::uint16_t tcp_mss = 0;
  IpProto protocol = IpProto::esp;
  SaMode mode = SaMode::tunnel;
  // Second line: the outer headers, lengths, marks and checksums zero.
  OuterTemplate header{};
  std::uint32_t header_sum = 0;  // one's complement sum of the IPv4 header's constant part
  std::uint32_t spi = 0;         // as on the wire
  std::uint32_t bundle = 0;

  explicit OutboundSa(crypto::EspKey expanded) : key(std::move(expanded)) {}
  OutboundSa(const OutboundSa&) = delete;
  OutboundSa& operator=(const OutboundSa&) = delete;
  ~OutboundSa();
};
static_assert(sizeof(OutboundSa) <= 128);

// The largest outer packet now: as configured, or as an ICMP error told.
[[nodiscard]] inline std::uint32_t path_mtu_of(const OutboundSa& sa) {
  const std::uint64_t learned = sa.slot->path_mtu.load(std::memory_order_relaxed);
  return learned == LearnedPathMtu::none ? sa.path_mtu : LearnedPathMtu::least(learned, sa.path_mtu, monotonic_ns());
}
// The largest packet that `sa` takes when what it makes may have `mtu` bytes; in transport mode one without IP options
// and extension headers.
[[nodiscard]] std::uint32_t inner_mtu(const OutboundSa& sa, std::uint32_t mtu);

// What install() refuses, with the value and what is allowed. Nothing of the keys is in the text.
[[nodiscard]] Result<void> validate(const SaParameters& parameters);

// Whether an SA can go on between these: RFC 4555 §1.3 knows it of tunnel mode alone.
[[nodiscard]] Result<void> check_move(const SaParameters& parameters, const SaEnds& ends);
// `sa.peer` as its slot says by now.
void watch_peer(InboundSa& sa);

// The only constructors of hot state. `slot` holds parameters and ends already; it and `replay` outlive the SA.
[[nodiscard]] Result<std::unique_ptr<InboundSa>> make_inbound(SaSlot& slot, ReplayState& replay);
[[nodiscard]] Result<std::unique_ptr<OutboundSa>> make_outbound(SaSlot& slot);

}  // namespace postern
