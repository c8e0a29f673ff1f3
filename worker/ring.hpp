// The one door from a worker thread to the kernel: reads, writes, kicks and waiting, all through one system call a
// turn.
//
// Two implementations, chosen once when the thread starts: io_uring (worker/ring_uring.hpp) and, where a sysctl or a
// container forbids it, poll() with plain reads and writes (worker/ring_poll.hpp). Owner: one worker thread; not
// thread-safe.
//
// Files live in numbered slots: two for each device (`part` 0 and 1). The caller keeps the descriptor open while
// attached.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <sys/socket.h>
#include <sys/uio.h>

#include "base/bytes.hpp"
#include "base/fd.hpp"
#include "base/result.hpp"
#include "maps/counters.hpp"

namespace postern {

// Device index of what is no device: the thread's mailbox.
inline constexpr std::uint16_t mailbox_device = max_worker_devices;
inline constexpr std::size_t ring_files = 2 * (max_worker_devices + 1);

enum class Event : std::uint8_t {
  none,      // dealt with already
  readable,  // watch(): there is something to take; the result is meaningless
  packet,    // receive(): `result` bytes in `buffer`, or an error of the device
  written,   // write() ended: bytes or -errno
  sent,      // send() ended: bytes or -errno
  kicked,    // kick() failed: -errno; success is silent
};

[[nodiscard]] constexpr bool ends_with_file(Event event) { return event != Event::written && event != Event::sent; }

// What a completion is about; travels through the kernel as 64 bits.
struct Token {
  Event event = Event::none;
  std::uint8_t part = 0;  // file of the device, 0 or 1
  std::uint16_t device = 0;
  std::uint32_t detail = 0;  // the asker's own: a slot, a frame number

  [[nodiscard]] std::uint64_t bits() const { return std::bit_cast<std::uint64_t>(*this); }
  [[nodiscard]] static Token of(std::uint64_t bits) { return std::bit_cast<Token>(bits); }
  [[nodiscard]] std::uint32_t file() const { return device * 2U + part; }
};
static_assert(sizeof(Token) == 8);

inline constexpr std::uint16_t no_buffer = 0xffff;

struct Completion {
  Token token;
  std::int32_t result = 0;
  std::uint16_t buffer = no_buffer;  // Event::packet: give it back with recycle()
};
using Completions = std::vector<Completion>;

// Read buffers shared by all TUN and TAP queues of a thread: each holds a virtio-net header, an Ethernet header and 64
// KiB.
inline constexpr std::uint32_t read_buffer_bytes = 17 * 4096;
inline constexpr std::uint32_t read_buffers = 64;

class Ring {
 public:
  virtual ~Ring() = default;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // io_uring if the kernel gives one, else poll. To be called by the thread that will use it, before the sandbox
  // closes.
  [[nodiscard]] static Result<std::unique_ptr<Ring>> create();

  [[nodiscard]] virtual bool is_io_uring() const = 0;
  [[nodiscard]] virtual bool has_multishot_read() const = 0;

  // detach() returns when nothing of this file is under way any more. Of its completions only written and sent follow:
  // they give memory back to the asker.
  [[nodiscard]] virtual Result<void> attach(std::uint32_t file, int fd) = 0;
  virtual void detach(std::uint32_t file) = 0;

  // Until detached. watch(): Event::readable each time something arrives. receive(): Event::packet for each packet;
  // ends by itself after an error completion.
  virtual void watch(Token token) = 0;
  virtual void receive(Token token) = 0;

  // One datagram or packet, one completion. Parts, message and data stay untouched until it comes.
  virtual void write(Token token, std::span<const iovec> parts) = 0;
  virtual void send(Token token, const msghdr& message) = 0;
  virtual void send(Token token, Bytes data) = 0;
  // Zero-length send or receive on an AF_XDP socket: makes the kernel look at its transmit or fill ring.
  virtual void kick(Token token) = 0;
  virtual void wake_receive(Token token) = 0;

  // Hands over what was prepared, waits up to `wait_ns` for an event (0: not at all; negative: without limit) and
  // appends what happened to `out`.
  virtual void turn(std::int64_t wait_ns, Completions& out) = 0;
  // Hands over now; the writes among it have then ended, and collect() appends what is known without a system call.
  virtual void submit() = 0;
  virtual void collect(Completions& out) = 0;

  [[nodiscard]] std::byte* buffer(std::uint16_t id) const {
    return buffers_.data() + std::size_t{id} * read_buffer_bytes;
  }
  virtual void recycle(std::uint16_t id) = 0;

  [[nodiscard]] std::uint64_t system_calls() const { return system_calls_; }
  [[nodiscard]] std::uint64_t sleeps() const { return sleeps_; }

 protected:
  explicit Ring(Mapping buffers) : buffers_(std::move(buffers)) {}
  [[nodiscard]] static Result<Mapping> map_buffers();

  Mapping buffers_;
  std::uint64_t system_calls_ = 0, sleeps_ = 0;
};

}  // namespace postern
