#include "worker/sad.hpp"

#include <bit>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "base/log.hpp"
#include "base/secret.hpp"
#include "worker/outer_header.hpp"
#include "worker/quiescence.hpp"
#include "worker/sa.hpp"

namespace postern {
namespace {

// A flow and the SA its packets go into. Nodes stay put; a rekey changes `sa`.
struct Binding {
  std::uint32_t flow = 0;
  std::uint32_t slot = 0;  // control thread only
  std::atomic<OutboundSa*> sa{nullptr};
  std::atomic<Binding*> next{nullptr};
};

// What an outbound SA's packets say of it.
struct Sender {
  OutboundSa* sa = nullptr;
  std::atomic<Sender*> next{nullptr};
};

// A fixed table of chains: one writer, any number of readers, no tombstones and no rebuilding.
template <class Node>
class Chains {
 public:
  explicit Chains(std::size_t nodes) : heads_(std::bit_ceil(std::max<std::size_t>(nodes, 16))) {}
  [[nodiscard]] Node* first(std::uint32_t hash) const { return head(hash).load(std::memory_order_acquire); }
  void link(std::uint32_t hash, Node* node) {
    node->next.store(head(hash).load(std::memory_order_relaxed), std::memory_order_relaxed);
    head(hash).store(node, std::memory_order_release);
  }
  void unlink(std::uint32_t hash, Node* node) {
    std::atomic<Node*>* from = &head(hash);
    while (Node* at = from->load(std::memory_order_relaxed)) {
      if (at == node) return from->store(node->next.load(std::memory_order_relaxed), std::memory_order_release);
      from = &at->next;
    }
  }

 private:
  [[nodiscard]] std::atomic<Node*>& head(std::uint32_t hash) { return heads_[hash & (heads_.size() - 1)]; }
  [[nodiscard]] const std::atomic<Node*>& head(std::uint32_t hash) const { return heads_[hash & (heads_.size() - 1)]; }
  std::vector<std::atomic<Node*>> heads_;
};

// Flow ids count up and SPIs may (manual keys): one multiplication spreads both.
std::uint32_t mix(std::uint32_t value) {
  return static_cast<std::uint32_t>((std::uint64_t{value} * 0x9e3779b97f4a7c15U) >> 32);
}
std::uint32_t hash_of(std::uint32_t spi, const IpAddress& destination) {
  std::uint32_t last;
  std::memcpy(&last, destination.mapped().data() + 12, sizeof last);
  return mix(spi ^ std::rotl(last, 16));
}

void wipe_parameters(SaSlot& slot) {
  wipe(std::as_writable_bytes(std::span(&slot.parameters, 1)));
  slot.bound_order.store(0, std::memory_order_relaxed);
  slot.phase.store(SlotPhase::free, std::memory_order_release);
}

void reset_numbers(SaSlot& slot) {
  for (auto* counter :
       {&slot.packets, &slot.bytes, &slot.errors, &slot.replay_drops, &slot.integrity_drops, &slot.selector_drops,
        &slot.dummy_packets, &slot.compressed, &slot.not_compressed, &slot.compress_failed, &slot.last_used_ns,
        &slot.highest_sequence, &slot.bound_order, &slot.path_mtu})
    counter->store(0, std::memory_order_relaxed);
  slot.next_sequence.store(1, std::memory_order_relaxed);  // RFC 4303 §2.2
  slot.told.store(0, std::memory_order_relaxed);
  slot.moves.store(0, std::memory_order_relaxed);
  slot.installed_ns.store(monotonic_ns(), std::memory_order_relaxed);
}

struct Owned {
  std::unique_ptr<ReplayState> replay;  // of `inbound`, also when it is built anew
  std::unique_ptr<InboundSa> inbound;
  std::unique_ptr<OutboundSa> outbound;
  std::unique_ptr<Sender> sender;  // of `outbound`
  std::vector<Binding*> bindings;  // of this outbound SA
};

// Unpublished, and still perhaps in use by a thread that has not passed `epoch`.
struct Retired {
  std::uint64_t epoch = 0;
  Owned owned;
  std::unique_ptr<Binding> binding;
  SaSlot* slot = nullptr;  // wiped when the SA is gone
};

}  // namespace

struct Sad::Implementation {
  Implementation(std::span<SaSlot> state, std::uint32_t threads)
      : slots(state),
        quiescence(threads),
        inbound(state.size()),
        outbound(state.size()),
        senders(state.size()),
        owned(state.size()) {}

  std::span<SaSlot> slots;
  Quiescence quiescence;
  Chains<InboundSa> inbound;
  Chains<Binding> outbound;
  Chains<Sender> senders;
  std::vector<Owned> owned;  // by slot
  std::vector<Retired> retired;
  std::uint64_t bind_order = 0;
  std::array<std::atomic<std::uint64_t>, 1024> expected{};  // by the SPI's low bits: the SPI, and a second of `Clock`
  std::size_t next_slot = 0;

  // Readers are gone by now. Live slots stay as they are: the next worker takes them over.
  ~Implementation() {
    for (Retired& entry : retired) {
      entry.owned = {};
      if (entry.slot != nullptr) wipe_parameters(*entry.slot);
    }
    for (Owned& sa : owned)
      for (Binding* binding : sa.bindings) delete binding;
  }

  [[nodiscard]] InboundSa* find(const SaKey& key) const {
    for (InboundSa* sa = inbound.first(hash_of(key.spi, key.destination)); sa != nullptr;
         sa = sa->next.load(std::memory_order_acquire))
      if (sa->spi == key.spi && sa->protocol == key.protocol && sa->fvrf == key.fvrf &&
          sa->destination == key.destination)
        return sa;
    return nullptr;
  }
  [[nodiscard]] OutboundSa* find_sender(const SaKey& key) const {
    for (Sender* at = senders.first(hash_of(key.spi, key.destination)); at != nullptr;
         at = at->next.load(std::memory_order_acquire)) {
      const SaParameters& p = at->sa->slot->parameters;
      if (p.spi == key.spi && p.protocol == key.protocol && p.fvrf == key.fvrf &&
          outer_destination(*at->sa) == key.destination)
        return at->sa;
    }
    return nullptr;
  }
  [[nodiscard]] Binding* find(std::uint32_t flow) const {
    for (Binding* at = outbound.first(mix(flow)); at != nullptr; at = at->next.load(std::memory_order_acquire))
      if (at->flow == flow) return at;
    return nullptr;
  }

  [[nodiscard]] Result<std::uint32_t> take_slot() {
    for (std::size_t tried = 0; tried < slots.size(); ++tried) {
      const std::size_t index = next_slot;
      next_slot = (next_slot + 1) % slots.size();
      if (slots[index].phase.load(std::memory_order_relaxed) == SlotPhase::free)
        return static_cast<std::uint32_t>(index);
    }
    return fail(fmt::format("SA: all {} slots are in use", slots.size()), ENOSPC);
  }

  // The slot's parameters are in place; the SA is reachable when this returns.
  [[nodiscard]] Result<void> build(std::uint32_t index) {
    SaSlot& slot = slots[index];
    if (slot.parameters.direction == SaDirection::outbound) {
      POSTERN_TRY(sa, make_outbound(slot));
      owned[index].outbound = std::move(sa);
      owned[index].sender = std::make_unique<Sender>();
      owned[index].sender->sa = owned[index].outbound.get();
      return {};
    }
    auto& replay = owned[index].replay;
    if (replay == nullptr) replay = std::make_unique<ReplayState>(slot.parameters.replay_window);
    POSTERN_TRY(sa, make_inbound(slot, *replay));
    owned[index].inbound = std::move(sa);
    return {};
  }
  void publish(std::uint32_t index) {
    InboundSa* const sa = owned[index].inbound.get();
    if (sa != nullptr) inbound.link(hash_of(sa->spi, sa->destination), sa);
    Sender* const sender = owned[index].sender.get();
    if (sender != nullptr) senders.link(hash_of_sender(index), sender);
  }
  [[nodiscard]] std::uint32_t hash_of_sender(std::uint32_t index) const {
    return hash_of(slots[index].parameters.spi, ends_of(slots[index]).remote);
  }

  // A rekey does not change the path.
  static void inherit_path_mtu(const SaSlot& from, SaSlot& to) {
    const SaEnds old = ends_of(from), fresh = ends_of(to);
    if (old.local == fresh.local && old.remote == fresh.remote && from.parameters.fvrf == to.parameters.fvrf)
      to.path_mtu.store(from.path_mtu.load(std::memory_order_relaxed), std::memory_order_relaxed);
  }

  // After its ends have changed. Whoever still holds the SA as it was may use it until then.
  [[nodiscard]] Result<void> rebuild(std::uint32_t index) {
    Owned& own = owned[index];
    Retired before;
    before.owned.inbound = std::move(own.inbound);
    before.owned.outbound = std::move(own.outbound);
    before.owned.sender = std::move(own.sender);
    auto built = build(index);
    if (!built) {
      own.inbound = std::move(before.owned.inbound);
      own.outbound = std::move(before.owned.outbound);
      own.sender = std::move(before.owned.sender);
      return built;
    }
    for (Binding* const binding : own.bindings) binding->sa.store(own.outbound.get(), std::memory_order_release);
    publish(index);
    if (InboundSa* const old = before.owned.inbound.get()) inbound.unlink(hash_of(old->spi, old->destination), old);
    before.epoch = quiescence.advance();
    retired.push_back(std::move(before));
    return {};
  }

  void bind(std::uint32_t flow, std::uint32_t index) {
    Binding* binding = find(flow);
    const bool fresh = binding == nullptr;
    if (fresh) {
      binding = new Binding;
      binding->flow = flow;
    } else {
      std::erase(owned[binding->slot].bindings, binding);
    }
    const std::uint32_t before = binding->slot;
    if (!fresh && before != index) inherit_path_mtu(slots[before], slots[index]);
    binding->slot = index;
    owned[index].bindings.push_back(binding);
    binding->sa.store(owned[index].outbound.get(), std::memory_order_release);
    if (fresh) outbound.link(mix(flow), binding);
    // New before old: a crash between them leaves two marks, and the higher counts.
    if (slots[index].parameters.flow == flow) slots[index].bound_order.store(++bind_order, std::memory_order_release);
    if (!fresh && before != index && slots[before].parameters.flow == flow)
      slots[before].bound_order.store(0, std::memory_order_release);
  }

  // Nobody finds `binding` any more; it waits for the readers.
  void unbind(Binding* binding) {
    outbound.unlink(mix(binding->flow), binding);
    std::erase(owned[binding->slot].bindings, binding);
    SaSlot& slot = slots[binding->slot];
    if (slot.parameters.flow == binding->flow) slot.bound_order.store(0, std::memory_order_release);
    Retired entry;
    entry.epoch = quiescence.advance();
    entry.binding.reset(binding);
    retired.push_back(std::move(entry));
  }

  // Frees what every thread has let go of.
  void reclaim() {
    std::erase_if(retired, [&](Retired& entry) {
      if (!quiescence.passed(entry.epoch)) return false;
      entry.owned = {};  // expanded keys are wiped by their destructor, before the slot becomes free
      if (entry.slot != nullptr) wipe_parameters(*entry.slot);
      return true;
    });
  }

  void take_over();
};

void Sad::Implementation::take_over() {
  for (std::uint32_t index = 0; index < slots.size(); ++index) {
    SaSlot& slot = slots[index];
    const SlotPhase phase = slot.phase.load(std::memory_order_acquire);
    if (phase == SlotPhase::free) continue;
    auto built = phase == SlotPhase::live ? validate(slot.parameters) : fail("half-made or retired");
    if (built) built = check_move(slot.parameters, ends_of(slot));
    if (built) built = build(index);
    if (!built) {
      spdlog::warn("SA slot {} of an earlier worker is dropped: {}", index, built.error().message());
      wipe_parameters(slot);
      continue;
    }
    // The bits of the window died with the worker: everything up to the highest number counts as seen.
    if (owned[index].inbound)
      owned[index].inbound->replay->window.resume(slot.highest_sequence.load(std::memory_order_relaxed));
    slot.told.store(0, std::memory_order_relaxed);
    publish(index);
    bind_order = std::max(bind_order, slot.bound_order.load(std::memory_order_relaxed));
  }
  for (std::uint32_t index = 0; index < slots.size(); ++index) {
    const std::uint64_t order = slots[index].bound_order.load(std::memory_order_relaxed);
    if (!owned[index].outbound || order == 0) continue;
    const Binding* const rival = find(slots[index].parameters.flow);
    if (rival == nullptr || slots[rival->slot].bound_order.load(std::memory_order_relaxed) < order)
      bind(slots[index].parameters.flow, index);
  }
}

Sad::Sad(std::unique_ptr<Implementation> implementation) : implementation_(std::move(implementation)) {}
Sad::~Sad() = default;

Result<std::unique_ptr<Sad>> Sad::create(std::span<SaSlot> slots, std::uint32_t threads) {
  if (slots.empty()) return fail("SAD: the SA state file has no slots", EINVAL);
  auto implementation = std::make_unique<Implementation>(slots, threads);
  implementation->take_over();
  return std::unique_ptr<Sad>(new Sad(std::move(implementation)));
}

Result<std::uint32_t> Sad::install(const SaParameters& parameters, SaInstaller installer) {
  Implementation& sad = *implementation_;
  sad.reclaim();
  POSTERN_CHECK(validate(parameters));
  if (parameters.direction == SaDirection::inbound &&
      sad.find(SaKey{parameters.fvrf, parameters.spi, parameters.local, parameters.protocol}) != nullptr)
    return fail(fmt::format("SA: inbound SPI {:#x} at {} exists already", parameters.spi, parameters.local.text()),
                EEXIST);
  POSTERN_TRY(index, sad.take_slot());
  SaSlot& slot = sad.slots[index];
  slot.phase.store(SlotPhase::installing, std::memory_order_release);
  slot.reuse.fetch_add(1, std::memory_order_relaxed);
  slot.parameters = parameters;
  slot.installed_by.store(installer, std::memory_order_relaxed);
  reset_numbers(slot);
  if (auto built = sad.build(index); !built) {
    sad.owned[index] = {};
    wipe_parameters(slot);
    return std::unexpected(built.error());
  }
  slot.phase.store(SlotPhase::live, std::memory_order_release);
  sad.publish(index);
  return index;
}

Result<void> Sad::remove(std::uint32_t index) {
  Implementation& sad = *implementation_;
  sad.reclaim();
  if (index >= sad.slots.size() || (!sad.owned[index].inbound && !sad.owned[index].outbound))
    return fail(fmt::format("SA: slot {} holds no SA", index), ENOENT);
  SaSlot& slot = sad.slots[index];
  slot.phase.store(SlotPhase::retired, std::memory_order_release);
  if (InboundSa* const sa = sad.owned[index].inbound.get()) sad.inbound.unlink(hash_of(sa->spi, sa->destination), sa);
  if (Sender* const sender = sad.owned[index].sender.get()) sad.senders.unlink(sad.hash_of_sender(index), sender);
  while (!sad.owned[index].bindings.empty()) sad.unbind(sad.owned[index].bindings.back());
  Retired entry;
  entry.owned = std::exchange(sad.owned[index], {});
  entry.slot = &slot;
  entry.epoch = sad.quiescence.advance();
  const std::uint64_t epoch = entry.epoch;
  sad.retired.push_back(std::move(entry));
  if (!sad.quiescence.wait(epoch, removal_patience))
    return fail(fmt::format("SA: slot {}: a worker thread does not let go", index), ETIMEDOUT);
  sad.reclaim();
  return {};
}

// The SA is built anew on the same slot and window, which go on counting: no sequence number is used twice, and none is
// taken twice, whichever of the two a thread still holds.
Result<void> Sad::move(std::uint32_t index, const SaEnds& ends) {
  Implementation& sad = *implementation_;
  sad.reclaim();
  if (index >= sad.slots.size() || (!sad.owned[index].inbound && !sad.owned[index].outbound))
    return fail(fmt::format("SA: slot {} holds no SA", index), ENOENT);
  SaSlot& slot = sad.slots[index];
  POSTERN_CHECK(check_move(slot.parameters, ends));
  const SaEnds old = ends_of(slot);
  if (old == ends) return {};
  const SaParameters& p = slot.parameters;
  Owned& own = sad.owned[index];
  if (own.inbound && old.local != ends.local && sad.find(SaKey{p.fvrf, p.spi, ends.local, p.protocol}) != nullptr)
    return fail(fmt::format("SA: inbound SPI {:#x} at {} exists already", p.spi, ends.local.text()), EEXIST);
  if (own.sender) sad.senders.unlink(sad.hash_of_sender(index), own.sender.get());
  const std::uint32_t moves = std::max(slot.moves.load(std::memory_order_relaxed) + 1, 1U);
  slot.ends[moves % slot.ends.size()] = ends;
  slot.moves.store(moves, std::memory_order_release);
  // A NAT's new place is no news to what finds and opens an inbound packet.
  if (own.inbound && old.local == ends.local && old.local_port == ends.local_port &&
      old.udp_encapsulation == ends.udp_encapsulation) {
    if (p.follow_peer) watch_peer(*own.inbound);
    return {};
  }
  slot.path_mtu.store(LearnedPathMtu::none, std::memory_order_relaxed);  // another path
  return sad.rebuild(index);
}

namespace {

std::uint32_t second_of(Time at) {
  return static_cast<std::uint32_t>(std::chrono::floor<std::chrono::seconds>(at.time_since_epoch()).count());
}

}  // namespace

void Sad::expect(std::uint32_t spi, Time until) {
  auto& expected = implementation_->expected;
  expected[spi % expected.size()].store(std::uint64_t{spi} << 32 | second_of(until), std::memory_order_relaxed);
}

bool Sad::expected(std::uint32_t spi, Time now) const {
  const auto& expected = implementation_->expected;
  const std::uint64_t found = expected[spi % expected.size()].load(std::memory_order_relaxed);
  return found >> 32 == spi && second_of(now) <= static_cast<std::uint32_t>(found);
}

// One word, which batches under way read before or after.
Result<void> Sad::place(std::uint32_t index, std::uint32_t ifindex) {
  Implementation& sad = *implementation_;
  if (index >= sad.slots.size() || (!sad.owned[index].inbound && !sad.owned[index].outbound))
    return fail(fmt::format("SA: slot {} holds no SA", index), ENOENT);
  std::atomic_ref(sad.slots[index].parameters.ifindex).store(ifindex, std::memory_order_relaxed);
  if (InboundSa* const sa = sad.owned[index].inbound.get()) sa->ifindex.store(ifindex, std::memory_order_relaxed);
  return {};
}

Result<void> Sad::bind_flow(std::uint32_t flow, std::uint32_t slot) {
  Implementation& sad = *implementation_;
  if (flow == 0) return fail("SA: flow 0 names no flow", EINVAL);
  if (slot >= sad.slots.size() || !sad.owned[slot].outbound)
    return fail(fmt::format("SA: slot {} holds no outbound SA", slot), EINVAL);
  sad.bind(flow, slot);
  return {};
}

void Sad::unbind_flow(std::uint32_t flow) {
  if (Binding* const binding = implementation_->find(flow)) implementation_->unbind(binding);
  implementation_->reclaim();
}

std::optional<SaRow> Sad::row(std::uint32_t index) const {
  const Implementation& sad = *implementation_;
  if (index >= sad.slots.size() || (!sad.owned[index].inbound && !sad.owned[index].outbound)) return std::nullopt;
  const SaSlot& slot = sad.slots[index];
  const SaParameters& p = slot.parameters;
  const bool outbound = p.direction == SaDirection::outbound;
  SaRow row;
  row.slot = index;
  row.reuse = slot.reuse.load(std::memory_order_relaxed);
  row.spi = p.spi;
  row.direction = p.direction;
  row.protocol = p.protocol;
  row.installed_by = slot.installed_by.load(std::memory_order_relaxed);
  row.bound = !sad.owned[index].bindings.empty();
  row.flow = p.flow;
  row.base_flow = p.base_flow;
  row.fvrf = p.fvrf;
  row.ifindex = p.ifindex;
  put_ends(row, ends_of(slot));
  row.dummy_interval_us = p.dummy_interval_us;
  row.cookie = p.cookie;
  row.packets = slot.packets.load(std::memory_order_relaxed);
  row.bytes = slot.bytes.load(std::memory_order_relaxed);
  row.errors = slot.errors.load(std::memory_order_relaxed);
  row.sequence = (outbound ? slot.next_sequence : slot.highest_sequence).load(std::memory_order_relaxed);
  row.last_used_ns = slot.last_used_ns.load(std::memory_order_relaxed);
  row.installed_ns = slot.installed_ns.load(std::memory_order_relaxed);
  return row;
}

std::optional<std::uint32_t> Sad::bound_slot(std::uint32_t flow) const {
  const Binding* const binding = implementation_->find(flow);
  return binding == nullptr ? std::nullopt : std::optional(binding->slot);
}

std::uint32_t Sad::capacity() const { return static_cast<std::uint32_t>(implementation_->slots.size()); }

std::uint32_t Sad::index_of(const SaSlot& slot) const {
  return static_cast<std::uint32_t>(&slot - implementation_->slots.data());
}

void Sad::tell_again(SaInstaller installer) {
  for (SaSlot& slot : implementation_->slots)
    if (slot.phase.load(std::memory_order_relaxed) == SlotPhase::live &&
        slot.installed_by.load(std::memory_order_relaxed) == installer)
      slot.told.store(0, std::memory_order_relaxed);
}

InboundSa* Sad::inbound(const SaKey& key) const { return implementation_->find(key); }
OutboundSa* Sad::sender(const SaKey& at_remote) const { return implementation_->find_sender(at_remote); }

OutboundSa* Sad::outbound(std::uint32_t flow) const {
  const Binding* const binding = implementation_->find(flow);
  return binding == nullptr ? nullptr : binding->sa.load(std::memory_order_acquire);
}

void Sad::quiescent(std::uint32_t thread) { implementation_->quiescence.quiescent(thread); }
void Sad::holding(std::uint32_t thread, std::uint64_t since) { implementation_->quiescence.holding(thread, since); }
std::uint64_t Sad::epoch() const { return implementation_->quiescence.epoch(); }
void Sad::offline(std::uint32_t thread) { implementation_->quiescence.offline(thread); }
void Sad::online(std::uint32_t thread) { implementation_->quiescence.online(thread); }

}  // namespace postern
