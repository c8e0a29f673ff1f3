// Inbound: ESP or AH in, clear out (RFC 4303 §3.4, RFC 4302 §3.4, RFC 4301 §5.2). Owner: one worker thread.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>

#include "worker/ah.hpp"
#include "worker/batch_queue.hpp"
#include "worker/context.hpp"
#include "worker/hold_queue.hpp"
#include "worker/loop_queue.hpp"
#include "worker/parse.hpp"
#include "worker/path_mtu.hpp"
#include "worker/sa.hpp"
#include "worker/transport.hpp"

namespace postern {

// ESP or AH as the outer headers show it; nothing of it is authentic yet.
struct OuterEsp {
  IpProto protocol = IpProto::esp;
  Family family = Family::v4;
  std::uint16_t network_bytes = 0;  // of the outer IP headers
  std::uint32_t esp_offset = 0;     // of the ESP or AH header, from the outer IP header
  std::uint32_t esp_bytes = 0;      // ESP: SPI through ICV; AH: its header and what it protects
  std::uint8_t length_field = 0;    // AH: Payload Length
  std::uint32_t spi = 0;            // host order
  std::uint32_t sequence = 0;       // what is sent of it: the low half of an extended one
  IpAddress destination;
  std::uint8_t traffic_class = 0;
  bool udp = false;
  std::uint16_t udp_port = 0;    // destination, host order
  std::uint16_t udp_source = 0;  // host order
};

// Protocol 50, or UDP around it (RFC 3948 §2.1), or protocol 51. The error is the reason to drop.
[[nodiscard]] std::expected<OuterEsp, Drop> parse_outer_esp(Bytes packet);

// What is left once ESP's trailer, or AH's header, is gone.
struct InnerPlain {
  std::uint32_t bytes = 0;  // before padding; may hold more than the IP packet (RFC 4303 §2.7)
  std::uint8_t next_header = 0;
};
// RFC 4303 §2.4, §2.6: padding must be 1, 2, 3, ...; next header 59 is Drop::dummy.
[[nodiscard]] std::expected<InnerPlain, Drop> parse_esp_trailer(Bytes plain);

class Inbound {
 public:
  Inbound(PipelineContext& context, const PipelineConfig& config);

  void packet(Packet packet, std::uint32_t fvrf);
  // Packets of SAs that were expected, and are there now or will not come.
  void poll_held(Time now);
  void drop_held();
  [[nodiscard]] bool has_held() const { return !held_.empty(); }
  // Opens what is batched, or lends it to another thread; judges and delivers what is open.
  void flush();
  // The same, and waits for what other threads have.
  void finish();
  [[nodiscard]] BatchQueue& queue() { return queue_; }

 private:
  struct Pending {
    Packet packet;  // begins at the ESP or AH header
    InboundSa* sa = nullptr;
    std::uint16_t headers_at = 0;     // the outer IP headers are so many bytes in front of it,
    std::uint16_t network_bytes = 0;  // and have so many
    std::uint8_t traffic_class = 0;
    bool moved = false;  // came from elsewhere than the SA's packets do
    Drop verdict = Drop::none;
  };
  // What a run of one SA's packets adds to its slot.
  struct Tally {
    std::uint64_t packets = 0, bytes = 0;
  };

  void take(Packet packet, const OuterEsp& esp, InboundSa& sa);
  void hold(Packet packet, std::uint32_t fvrf, std::uint32_t spi);
  void show_held();
  [[nodiscard]] std::optional<Drop> refuse_early(const InboundSa& sa, const OuterEsp& esp,
                                                 std::uint64_t sequence) const;
  void close_batch();
  void collect(bool wait);
  void settle(std::span<const crypto::EspJob> jobs, std::span<Pending> pending);
  void settle_run(std::span<const crypto::EspJob> jobs, std::span<Pending> run);
  [[nodiscard]] static bool came_from_elsewhere(const InboundSa& sa, const OuterEsp& esp, const Packet& packet);
  void tell_moved(const Pending& pending);
  void advance_window(std::span<const crypto::EspJob> jobs, std::span<Pending> run);
  [[nodiscard]] std::expected<IpInfo, Drop> decapsulate(Pending& pending) const;
  [[nodiscard]] static std::expected<InnerPlain, Drop> strip(Pending& pending);
  [[nodiscard]] std::expected<InnerPlain, Drop> decompress(Pending& pending, const InnerPlain& plain) const;
  [[nodiscard]] static std::expected<IpInfo, Drop> inner_packet(Pending& pending, const InnerPlain& plain);
  [[nodiscard]] static std::expected<IpInfo, Drop> own_packet(Pending& pending, const InnerPlain& plain);
  void deliver_run(std::span<Pending> run);
  [[nodiscard]] std::uint16_t mss_limit(const InboundSa& sa, const IpInfo& info) const;
  [[nodiscard]] const InboundSa* nested(const Pending& pending, const IpInfo& inner) const;
  void loop(const Pending& pending);
  void take_loops();
  [[nodiscard]] static bool expired(const InboundSa& sa, const Tally& run, std::uint32_t bytes);
  void blame(Pending& pending, Drop reason);

  PipelineContext& context_;
  PathMtu path_mtu_;
  HoldQueue held_;
  Duration hold_time_;
  std::size_t delivered_ = 0;
  BatchQueue queue_;
  std::unique_ptr<std::array<Pending, packet_batch>[]> pending_;         // beside the jobs of each batch of the queue
  std::unique_ptr<std::array<CoveredHeaders, packet_batch>[]> covered_;  // the same, of AH
  std::array<Delivery, packet_batch> deliveries_;
  LoopQueue loops_;
  bool looping_ = false;
  bool sweeping_ = false;  // the hold queue must not grow
};

}  // namespace postern
