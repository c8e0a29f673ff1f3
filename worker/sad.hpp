// The SAD of RFC 4301 §4.4.2 as the data path needs it: inbound SAs by {front-door VRF, destination, protocol, SPI},
// outbound SAs by flow. Hot SAs are built at install and immutable but for their atomics.
//
// Threads: the control thread installs, removes and binds; worker threads look up. Look-ups walk chains of a fixed hash
// table through atomic pointers, without a lock; an SA or binding is freed after every worker thread has passed
// quiescent(), or was offline(), since it was unpublished (QSBR).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/clock.hpp"
#include "base/net_types.hpp"
#include "base/result.hpp"
#include "worker/sa_channel.hpp"
#include "worker/sa_state.hpp"

namespace postern {

struct InboundSa;   // worker/sa.hpp
struct OutboundSa;  // worker/sa.hpp

struct SaKey {
  std::uint32_t fvrf = 0;
  std::uint32_t spi = 0;  // host order
  IpAddress destination;
  IpProto protocol = IpProto::esp;
  bool operator==(const SaKey&) const = default;
};

class Sad {
 public:
  // `slots` is the mapped SA state file. Live slots of an earlier worker are taken over: keys expanded again, outbound
  // numbers continued, inbound windows counted as seen (worker/sa_state.hpp). `threads` is the number of readers.
  [[nodiscard]] static Result<std::unique_ptr<Sad>> create(std::span<SaSlot> slots, std::uint32_t threads);
  ~Sad();

  // Control thread. install: the slot index; an error for bad parameters, an inbound {fvrf, destination, SPI} that
  // exists, or no free slot. remove: returns when no thread can use the SA any more and its keys are wiped; flows bound
  // to it are unbound. When a thread holds out for `removal_patience` the error is ETIMEDOUT: the SA is unreachable,
  // and wiped by a later call. bind_flow: EINVAL unless `slot` is a live outbound SA. After a crash a flow is bound
  // again to the SA that bind_flow() named last for it, when that is parameters.flow of the SA.
  [[nodiscard]] Result<std::uint32_t> install(const SaParameters& parameters,
                                              SaInstaller installer = SaInstaller::posternd);
  [[nodiscard]] Result<void> remove(std::uint32_t slot);
  [[nodiscard]] Result<void> bind_flow(std::uint32_t flow, std::uint32_t slot);
  void unbind_flow(std::uint32_t flow);
  // It is between these from now on (sa_channel.hpp, MoveSa).
  [[nodiscard]] Result<void> move(std::uint32_t slot, const SaEnds& ends);
  // What it delivers counts as received by that device from now on (sa_channel.hpp, PlaceSa).
  [[nodiscard]] Result<void> place(std::uint32_t slot, std::uint32_t ifindex);

  // An inbound SA of this SPI may come until then (sa_channel.hpp, ExpectSa). A hint: of those whose SPIs share their
  // low bits the last one counts. expect(): control thread; expected(): worker threads.
  void expect(std::uint32_t spi, Time until);
  [[nodiscard]] bool expected(std::uint32_t spi, Time now) const;

  // Control thread. What is live in `slot`, and the slot that a flow goes into.
  [[nodiscard]] std::optional<SaRow> row(std::uint32_t slot) const;
  [[nodiscard]] std::optional<std::uint32_t> bound_slot(std::uint32_t flow) const;
  [[nodiscard]] std::uint32_t capacity() const;
  [[nodiscard]] std::uint32_t index_of(const SaSlot& slot) const;
  // Lifetime events of this installer's SAs were lost with its connection: they come again.
  void tell_again(SaInstaller installer);

  static constexpr Duration removal_patience = std::chrono::seconds(2);

  // Worker threads. The pointer is valid until that thread's next quiescent() or offline(): flush the pipeline before
  // either.
  [[nodiscard]] InboundSa* inbound(const SaKey& key) const;
  [[nodiscard]] OutboundSa* outbound(std::uint32_t flow) const;
  // The outbound SA whose packets carry this SPI to `remote`, bound to a flow or not.
  [[nodiscard]] OutboundSa* sender(const SaKey& at_remote) const;
  // Worker thread `thread` holds no SA pointer now. Threads begin offline; one about to sleep calls offline(), and
  // online() when it wakes.
  void quiescent(std::uint32_t thread);
  // Instead of quiescent(), while batches are away: SAs that it looked up after it read epoch() as `since` are in use.
  void holding(std::uint32_t thread, std::uint64_t since);
  [[nodiscard]] std::uint64_t epoch() const;
  void offline(std::uint32_t thread);
  void online(std::uint32_t thread);

 private:
  struct Implementation;
  explicit Sad(std::unique_ptr<Implementation>);
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace postern
