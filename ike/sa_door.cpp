#include "ike/sa_door.hpp"

namespace postern::ike {

Result<std::uint32_t> ChannelDoor::install(const InstallSa& sa) {
  POSTERN_TRY(reply, ask(ChannelType::install_sa, sa));
  return reply.value;
}

Result<void> ChannelDoor::expect(const ExpectSa& sa) {
  POSTERN_CHECK(ask(ChannelType::expect_sa, sa));
  return {};
}

Result<void> ChannelDoor::remove(std::uint32_t slot) {
  POSTERN_CHECK(ask(ChannelType::remove_sa, RemoveSa{slot}));
  return {};
}

Result<void> ChannelDoor::bind(std::uint32_t flow, std::uint32_t slot) {
  POSTERN_CHECK(ask(ChannelType::bind_flow, BindFlow{flow, slot, 0}));
  return {};
}

Result<void> ChannelDoor::move(std::uint32_t slot, const SaEnds& ends) {
  POSTERN_CHECK(ask(ChannelType::move_sa, MoveSa{slot, ends}));
  return {};
}

Result<void> ChannelDoor::unbind(std::uint32_t flow) {
  POSTERN_CHECK(ask(ChannelType::bind_flow, BindFlow{flow, 0, 1}));
  return {};
}

Result<std::vector<SaRow>> ChannelDoor::list() {
  if (!channel_) return fail("no channel to the worker", ENOTCONN);
  return channel_->list_sas();
}

}  // namespace postern::ike
