// The one door to the data plane: what posternd (devices, manual SAs) and postern-ike (negotiated SAs) say to the
// worker.
//
// Transport: a connected SOCK_SEQPACKET Unix socket; one message a datagram: ChannelHeader and then the body, both
// structs below, in host order (same machine, same build: `version` says so). Descriptors travel by SCM_RIGHTS with the
// message that names them. Every request is answered by exactly one Reply with the same `id`, when it has taken effect
// for all threads. Key bytes pass in InstallSa alone; both ends wipe their buffer after use.
//
// Two peers. The node's channel is posternd's: everything is allowed there. The client channel is postern-ike's: one
// end of a socket pair that posternd hands over by add_client, the other one goes to postern-ike through the broker. A
// client may install_sa, expect_sa, remove_sa, move_sa and bind_flow (its own SAs, and flows that are bound to none or
// to one of them), refresh_counters and list_sas; anything else is EPERM and the connection lives on. What it sent that
// is no message at all ends the connection. Only the client receives sa_expiry and peer_moved (of its SAs), sa_gone and
// acquire; only posternd resolve, device_failed, sa_installed, sa_expected and sa_removed.
//
// Restarts. SAs outlive every process but posternd's memory files: a client that comes back, and one that finds its
// channel closed and gets a new one, lists what is there (list_sas: rows with `installed_by` ike and its `cookie`)
// and removes what it does not know. Events of its SAs that nobody received come again with the next packet.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "base/net_types.hpp"
#include "base/result.hpp"
#include "worker/sa_state.hpp"

namespace postern {

inline constexpr std::uint32_t sa_channel_version = 10;
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
  add_client,        // posternd -> worker; fds: a connected SOCK_SEQPACKET socket; replaces the client before
  set_policy,        // posternd -> worker; fds: LoopPolicy::write() in a file; the whole policy of outside interfaces
  list_sas,          // ListSas -> one sa_rows with the same id, then Reply.value = slot to go on from, 0: that was all
  sa_rows,           // worker -> asker: 0..max_sa_rows SaRow, by slot
  sa_expiry,         // worker -> installer: SaExpiry; no Reply
  sa_gone,           // worker -> client: SaRow of an SA of its own that posternd removed; no Reply
  acquire,           // worker -> client: Acquire; no Reply. Answered by install_sa and bind_flow
  sa_installed,  // worker -> posternd: SaRow of a client's inbound SA, new or moved: put it into the `sas` map, then
                 // Reply
  sa_removed,    // worker -> posternd: SaRow of a client's inbound SA that goes, or was there: out of the `sas` map; no
                 // Reply
  move_sa,       // MoveSa: an SA is between other ends now
  peer_moved,    // worker -> installer: PeerMoved; no Reply. Answered by move_sa, or not at all
  expect_sa,     // client -> worker: ExpectSa: its packets may come before it does
  sa_expected,   // worker -> posternd: ExpectSa: put it into the `sas` map for as long; no Reply
  place_sa,      // posternd -> worker: PlaceSa: the interface of an SA is another device now
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
  raw_ah,     // fds: raw socket, protocol 51: the same of AH
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
  std::uint32_t flow = 0;        // tunnel: flow of what is read from it
  std::uint32_t vrf = 0;         // front-door (outside) or inside VRF's routing table
  std::uint32_t arrives_at = 0;  // xsk_outside: where its packets count as received: a port's at its bond
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

// A client's inbound SA is answered when XDP knows it too (sa_installed), or after install_patience_ms without
// posternd, which brings its map up to date when it comes back. EEXIST: the inbound {fvrf, local, protocol, SPI} is in
// use: choose another SPI.
struct InstallSa {
  SaParameters parameters;
};
inline constexpr int install_patience_ms = 1000;

// An inbound SA that is being negotiated: the peer may send into it as soon as it has our request (RFC 7296 §2.8),
// which is before we have read its answer. For so long its packets are held instead of dropped, as many and as briefly
// as PipelineConfig says; install_sa lets them pass.
struct ExpectSa {
  std::uint32_t fvrf = 0;
  std::uint32_t spi = 0;  // host order
  IpAddress local;
  IpProto protocol = IpProto::esp;
  std::uint16_t local_port = 0;  // UDP encapsulation, host order; 0: none
};
inline constexpr Duration expect_time = std::chrono::seconds(10);

// From a client: ENOENT when the slot is free, EPERM when the SA is not its own.
struct RemoveSa {
  std::uint32_t slot = 0;
};

// Keys, numbers, window and lifetimes go on; what is sealed from now on goes between these, an inbound SA is found
// there, and with follow_peer looks for another place than this. A client's inbound SA is answered as by install_sa.
// EINVAL: another place in transport mode, or ends that no SA has. EEXIST: as of install_sa.
struct MoveSa {
  std::uint32_t slot = 0;
  SaEnds ends;
};

// SaParameters.ifindex, and nothing else, from now on: a device that went away came back as another. ENOENT: the slot
// is free.
struct PlaceSa {
  std::uint32_t slot = 0;
  std::uint32_t ifindex = 0;
};

struct BindFlow {
  std::uint32_t flow = 0;
  std::uint32_t slot = 0;    // outbound SA
  std::uint32_t unbind = 0;  // 1: the flow has no SA now (packets are held, then dropped: no_outbound_sa)
};

// Slots `first` to `last`, both included; one slot reads one SA's counters.
struct ListSas {
  std::uint32_t first = 0;
  std::uint32_t last = ~std::uint32_t{0};
};
inline constexpr std::size_t max_sa_rows = 32;  // in one message

// A live SA without its keys. Numbers are of the moment.
struct SaRow {
  std::uint32_t slot = 0;
  std::uint32_t reuse = 0;  // with `slot`, names an SA in the life of the memory file
  std::uint32_t spi = 0;    // host order
  SaDirection direction{};
  IpProto protocol = IpProto::esp;
  SaInstaller installed_by{};
  bool udp_encapsulation = false;
  bool bound = false;  // outbound: `flow` goes into this SA now
  std::uint32_t flow = 0;
  std::uint32_t base_flow = 0;  // SaParameters.base_flow
  std::uint32_t fvrf = 0;
  std::uint32_t ifindex = 0;
  std::uint16_t local_port = 0, remote_port = 0;  // UDP encapsulation
  IpAddress local, remote;
  std::uint32_t dummy_interval_us = 0;
  std::uint64_t cookie = 0;  // SaParameters.cookie
  std::uint64_t packets = 0, bytes = 0, errors = 0;
  std::uint64_t sequence = 0;      // outbound: the next number; inbound: the highest authentic one
  std::uint64_t last_used_ns = 0;  // CLOCK_MONOTONIC; 0: never
  std::uint64_t installed_ns = 0;  // CLOCK_MONOTONIC
};

// Once for each kind and SA while it is delivered; again after the client or the worker was replaced. Soft seconds are
// the installer's own to keep.
struct SaExpiry {
  SaExpiryKind kind{};
  SaRow sa;
};

// A packet of an inbound SA with follow_peer came from here, was authentic, and had the highest number yet. At most
// five a second and SA.
struct PeerMoved {
  SaRow sa;
  SaPeer peer;
};

// A packet of `flow` is held because the flow has no outbound SA; at most one a second and flow. The packet waits a
// second and goes out as soon as bind_flow names an SA.
struct Acquire {
  std::uint32_t flow = 0;
  std::uint32_t vrf = 0;  // plain side's routing table, 0 main
  IpAddress source, destination;
  std::uint16_t source_port = 0, destination_port = 0;  // host order; ICMP: both hold type and code; 0 where unknown
  std::uint8_t protocol = 0;
  bool ports_known = false;  // false: a later fragment, or a protocol without ports
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

  // Fills `out` from the body; an error when its size is not T's. Into the caller's own object: a T that holds keys has
  // no copy that nobody wipes.
  template <class T>
  [[nodiscard]] Result<void> read_into(T& out) const {
    static_assert(std::is_trivially_copyable_v<T>);
    if (body.size() != sizeof(T)) return fail("sa channel: message body has the wrong size", EPROTO);
    std::memcpy(&out, body.data(), sizeof out);
    return {};
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
// kept for take_events()). One thread. Used by posternd and by ike/sa_installer.
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
  // Live SAs of slots first..last, of all installers. list_sas(slot, slot) reads one; empty: there is none.
  [[nodiscard]] Result<std::vector<SaRow>> list_sas(std::uint32_t first = 0, std::uint32_t last = ~std::uint32_t{0},
                                                    int timeout_ms = 2000);
  // What arrived unasked: Resolve, DeviceFailed, SaExpiry... Reads the socket without blocking first. Error: the worker
  // is gone.
  [[nodiscard]] Result<std::vector<ChannelMessage>> take_events();

 private:
  Fd socket_;
  std::uint64_t next_id_ = 1;
  [[nodiscard]] Result<Reply> ask_collecting(ChannelType type, std::span<const std::byte> body,
                                             std::span<const int> fds, int timeout_ms, std::vector<Fd>* received,
                                             std::vector<SaRow>* rows);
  [[nodiscard]] Result<Reply> wait_for(std::uint64_t id, std::int64_t deadline_ns, std::vector<Fd>* received,
                                       std::vector<SaRow>* rows);
  void keep(ChannelMessage message);

  std::vector<ChannelMessage> events_;
};

}  // namespace postern
