// The one door to the data plane: what posternd (devices, manual SAs) and postern-ike (negotiated SAs) say to the
// worker.
//
// Transport: a connected SOCK_SEQPACKET Unix socket; one message a datagram: ChannelHeader and then the body, both
// structs below, in host order (same machine, same build: `version` says so). Descriptors travel by SCM_RIGHTS with the
// message that names them. Every request is answered by exactly one Reply with the same `id`, when it has taken effect
// for all threads. Key bytes pass in InstallSa alone; both ends wipe their buffer after use.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/fd.hpp"
#include "base/net_types.hpp"
#include "base/result.hpp"
#include "worker/sa_state.hpp"

namespace postern {

inline constexpr std::uint32_t sa_channel_version = 1;
inline constexpr std::size_t max_channel_fds = 8;
inline constexpr std::size_t max_channel_message = 8192;  // header and body; longer ones are refused by both sides

enum class ChannelType : std::uint32_t {
  reply = 1,
  hello,           // posternd -> worker, first: Hello; fds: SA state, counter page, adjacency table
  add_device,      // AddDevice; fds as DeviceKind says
  remove_device,   // RemoveDevice
  install_sa,      // InstallSa -> Reply.value = slot
  remove_sa,       // RemoveSa: retire, drain, wipe
  bind_flow,       // BindFlow: outbound traffic of a flow goes into this SA from now on (rekey: switch outbound)
  set_generation,  // SetGeneration: verdicts of older generations than `oldest` are stale
  start_capture,   // StartCapture; fds: one SOCK_DGRAM or SOCK_SEQPACKET to write records to
  stop_capture,
  refresh_counters,  // bring kernel-side counters in the counter page up to date
  get_descriptors,   // adoption: Reply carries the SA state, counter page and adjacency descriptors again
  resolve,           // worker -> posternd: Resolve; answered through the adjacency table, no Reply
  device_failed,     // worker -> posternd: RemoveDevice, the device must be made again; no Reply
  shutdown,          // drain and exit
};

struct ChannelHeader {
  std::uint32_t version = sa_channel_version;
  ChannelType type{};
  std::uint64_t id = 0;
};

// `code` 0 is success; otherwise an errno value and `text` says what and where, NUL-terminated.
struct Reply {
  std::int32_t code = 0;
  std::uint32_t value = 0;
  std::array<char, 240> text{};
};

// Reply.value of hello and get_descriptors; Reply.text names the cipher engine ("ipsec-mb 1.3 (VAES, AVX512)").
inline constexpr std::uint32_t hello_io_uring = 1;        // else poll()
inline constexpr std::uint32_t hello_multishot_read = 2;  // kernel 6.7

// EALREADY: this worker got its memory in an earlier connection (posternd restarted): get_descriptors adopts it. Before
// hello every other request but shutdown is ENOTCONN.
struct Hello {
  std::uint32_t threads = 1;
  std::uint32_t capture_snap_bytes = 0;  // reserved for the default, 0
  std::array<char, 32> node{};
};

enum class DeviceKind : std::uint32_t {
  xsk_outside,  // fds: XSK, UMEM memfd. Cipher side of an interface, one queue
  xsk_inside,   // fds: XSK, UMEM memfd. Plain side; frames carry a postern_stamp as metadata
  tunnel,     // fds: TUN queue (IFF_TUN, IFF_NO_PI, IFF_VNET_HDR, offloads on). Raw IP packets after the 10-byte header
  steer,      // fds: TAP queue (IFF_TAP, IFF_NO_PI, IFF_VNET_HDR). Ethernet whose addresses are a postern_stamp
  udp_encap,  // fds: UDP socket on port 4500 that gets what the kernel reassembled (non-zero SPI)
  raw_esp,    // fds: raw socket, protocol 50: fragments of ESP that the kernel reassembled
  raw_icmp,   // fds: raw IPv4 (IP_HDRINCL) and IPv6 (IPV6_HDRINCL) socket for ICMP errors to the plain side
  packet_out,  // fds: AF_PACKET socket bound to an outside interface that has qdiscs or filters: TX instead of AF_XDP
};

struct UmemLayout {
  std::uint32_t frames = 0;  // of frame_bytes each, all of one thread's XSKs share one UMEM
  std::uint32_t frame_bytes = 4096;
  std::uint32_t headroom = 256;                            // XDP headroom in front of received data
  std::uint32_t fill_entries = 0, completion_entries = 0;  // rings of this XSK (power of two)
  std::uint32_t rx_entries = 0, tx_entries = 0;
  std::uint32_t umem_id = 0;  // XSKs with the same id share one UMEM; its memfd comes with the first of them
};

struct AddDevice {
  DeviceKind kind{};
  std::uint32_t thread = 0;
  std::uint32_t ifindex = 0;
  std::uint32_t queue = 0;
  std::uint32_t flow = 0;  // tunnel: flow of what is read from it
  std::uint32_t vrf = 0;   // front-door (outside) or inside VRF's routing table
  std::uint32_t mtu = 1500;
  std::uint32_t needs_wakeup = 1;
  std::array<std::uint8_t, 6> mac{};
  std::array<char, 18> name{};
  UmemLayout umem{};
};

// The row of a thread's counters that belongs to a device says so (DeviceCounters.identity).
[[nodiscard]] constexpr std::uint64_t device_identity(DeviceKind kind, std::uint32_t ifindex, std::uint32_t queue) {
  return (std::uint64_t{static_cast<std::uint32_t>(kind)} + 1) << 56 | std::uint64_t{queue & 0xffffffU} << 32 | ifindex;
}

struct RemoveDevice {
  std::uint32_t ifindex = 0;
  DeviceKind kind{};
};

struct InstallSa {
  SaParameters parameters;
};

struct RemoveSa {
  std::uint32_t slot = 0;
};

struct BindFlow {
  std::uint32_t flow = 0;
  std::uint32_t slot = 0;    // outbound SA
  std::uint32_t unbind = 0;  // 1: the flow has no SA now (packets are held, then dropped: no_outbound_sa)
};

struct SetGeneration {
  std::uint32_t current = 0;
  std::uint32_t oldest = 0;
};

enum class CaptureSide : std::uint32_t { plain = 1, cipher = 2, both = 3 };

struct StartCapture {
  CaptureSide side{};
  std::uint32_t snap_bytes = 262144;
};

// In front of each captured packet, one datagram a packet. `linktype` is pcap's: 1 Ethernet, 101 raw IP.
struct CaptureRecord {
  std::uint64_t realtime_ns = 0;
  std::uint32_t original_bytes = 0;
  std::uint32_t linktype = 0;
  std::uint32_t ifindex = 0;
  CaptureSide side{};
  std::uint32_t outbound = 0;  // 1: towards the peer
  std::uint32_t captured_bytes = 0;
};

struct Resolve {
  std::uint32_t vrf = 0;
  IpAddress address;
  std::uint32_t forward = 0;  // 1: as the destination of a forwarded inner packet
};

struct ChannelMessage {
  ChannelHeader header;
  std::vector<std::byte> body;  // wiped by the destructor
  std::vector<Fd> fds;
  ChannelMessage() = default;
  ChannelMessage(ChannelMessage&&) = default;
  ChannelMessage& operator=(ChannelMessage&& other) noexcept;  // wipes what it held
  ~ChannelMessage();

  // The body as T; an error when its size is not T's.
  template <class T>
  [[nodiscard]] Result<T> as() const {
    static_assert(std::is_trivially_copyable_v<T>);
    if (body.size() != sizeof(T)) return fail("sa channel: message body has the wrong size");
    T out;
    std::memcpy(&out, body.data(), sizeof out);
    return out;
  }
};

// One datagram each, waiting as the socket's own mode says; EAGAIN is an Error with that code. send() borrows the
// descriptors, receive() owns what came. A closed peer is ECONNRESET; a message of another version, too long or cut
// short is EPROTO.
[[nodiscard]] Result<void> channel_send(int socket, ChannelType type, std::uint64_t id, std::span<const std::byte> body,
                                        std::span<const int> fds = {});
[[nodiscard]] Result<ChannelMessage> channel_receive(int socket);

template <class T>
[[nodiscard]] Result<void> channel_send(int socket, ChannelType type, std::uint64_t id, const T& body,
                                        std::span<const int> fds = {}) {
  static_assert(std::is_trivially_copyable_v<T>);
  return channel_send(socket, type, id, std::as_bytes(std::span(&body, 1)), fds);
}

// The asking side: sends, then waits for the Reply of the same id (messages of other types that arrive meanwhile are
// kept for take_events()). One thread. Used by posternd and, later, by ike/sa_installer.
class SaChannel {
 public:
  explicit SaChannel(Fd socket) : socket_(std::move(socket)) {}
  [[nodiscard]] int fd() const { return socket_.get(); }

  // Error: the peer is gone, did not answer within `timeout_ms`, or replied with a code.
  template <class T>
  [[nodiscard]] Result<Reply> ask(ChannelType type, const T& body, std::span<const int> fds = {},
                                  int timeout_ms = 2000) {
    return ask_bytes(type, std::as_bytes(std::span(&body, 1)), fds, timeout_ms);
  }
  [[nodiscard]] Result<Reply> ask_bytes(ChannelType type, std::span<const std::byte> body, std::span<const int> fds,
                                        int timeout_ms, std::vector<Fd>* received = nullptr);
  // What arrived unasked: Resolve, DeviceFailed. Reads the socket without blocking first. Error: the worker is gone.
  [[nodiscard]] Result<std::vector<ChannelMessage>> take_events();

 private:
  Fd socket_;
  std::uint64_t next_id_ = 1;
  [[nodiscard]] Result<Reply> wait_for(std::uint64_t id, std::int64_t deadline_ns, std::vector<Fd>* received);
  void keep(ChannelMessage message);

  std::vector<ChannelMessage> events_;
};

}  // namespace postern
