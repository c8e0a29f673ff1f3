#include "worker/pipeline.hpp"

#include <algorithm>

#include "worker/context.hpp"
#include "worker/inbound.hpp"
#include "worker/outbound.hpp"

namespace postern {

FramePool::FramePool(std::byte* base, std::uint32_t frames, std::uint32_t frame_bytes)
    : base_(base), frame_bytes_(frame_bytes), free_count_(frames), free_(std::make_unique<FrameAddress[]>(frames)) {
  // The lowest address is taken first.
  for (std::uint32_t i = 0; i < frames; ++i) free_[i] = FrameAddress{frames - 1 - i} * frame_bytes;
}

struct Pipeline::Implementation {
  Implementation(PipelineContext shared, const PipelineConfig& config)
      : context(std::move(shared)), outbound(context, config), inbound(context, config) {}

  PipelineContext context;
  Outbound outbound;
  Inbound inbound;
};

Pipeline::Pipeline(crypto::EspEngine engine, Sad& sad, const AdjacencyTable& adjacencies, FramePool& frames,
                   ThreadCounters& counters, Egress& egress, const PipelineConfig& config)
    : implementation_(std::make_unique<Implementation>(
          PipelineContext{std::move(engine), sad, adjacencies, frames, counters, egress}, config)) {}
Pipeline::~Pipeline() = default;

void Pipeline::outbound(Packet packet) { implementation_->outbound.packet(packet); }
void Pipeline::outbound_super(const VnetHeader& offload, Bytes ip_packet, std::uint32_t flow,
                              std::uint32_t generation) {
  implementation_->outbound.super_packet(offload, ip_packet, flow, generation);
}
void Pipeline::inbound(Packet packet, std::uint32_t fvrf) { implementation_->inbound.packet(packet, fvrf); }
void Pipeline::flush() {
  implementation_->inbound.finish();
  implementation_->outbound.finish();
}
void Pipeline::begin_round(std::uint64_t epoch) {
  implementation_->inbound.queue().begin_round(epoch);
  implementation_->outbound.queue().begin_round(epoch);
}
void Pipeline::end_round() {
  implementation_->inbound.flush();
  implementation_->outbound.flush();
}
std::optional<std::uint64_t> Pipeline::held_since() const {
  const CipherBatch* const opening = implementation_->inbound.queue().oldest();
  const CipherBatch* const sealing = implementation_->outbound.queue().oldest();
  if (opening == nullptr && sealing == nullptr) return std::nullopt;
  return std::min(opening == nullptr ? UINT64_MAX : opening->since, sealing == nullptr ? UINT64_MAX : sealing->since);
}
void Pipeline::set_crowded(bool crowded) { implementation_->context.crowded = crowded; }
const CipherBatch* Pipeline::settle() {
  for (BatchQueue* const queue : {&implementation_->inbound.queue(), &implementation_->outbound.queue()})
    queue->take_back();
  end_round();
  const CipherBatch* const opening = implementation_->inbound.queue().oldest();
  return opening != nullptr ? opening : implementation_->outbound.queue().oldest();
}
void Pipeline::cipher(CipherBatch& batch) { batch.cipher(implementation_->context.engine); }
void Pipeline::poll_held(Time now) {
  implementation_->inbound.poll_held(now);
  implementation_->outbound.poll_held(now);
}
bool Pipeline::has_held() const { return implementation_->outbound.has_held() || implementation_->inbound.has_held(); }
bool Pipeline::dummy(std::uint32_t flow) { return implementation_->outbound.dummy(flow); }
void Pipeline::drop_held() {
  implementation_->inbound.drop_held();
  implementation_->outbound.drop_held();
}
void Pipeline::set_oldest_generation(std::uint32_t oldest) { implementation_->outbound.set_oldest_generation(oldest); }
void Pipeline::set_policy(std::shared_ptr<const LoopPolicy> policy) {
  implementation_->context.policy = std::move(policy);
}
std::string_view Pipeline::engine_name() const { return implementation_->context.engine.name(); }

}  // namespace postern
