// postern-ike's side of a node: adopt or start it, give it what it may have, replace it when it dies.
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/log.hpp"
#include "loader/node.hpp"
#include "loader/sockets.hpp"

namespace postern::loader {

void Node::bring_ike() {
  ike_ = adopt_ike(state_.ike, paths_.file("ike.sock"));
  if (!ike_) {
    auto started = start_ike(paths_.name, paths_.file("ike.sock"));
    if (started) ike_ = std::move(*started);
    if (!started) spdlog::error("{}", started.error().message());
  }
  ike_started_ = Clock::now();
  if (!ike_) {
    loop_->after(ike_pace_.after_crash(ike_started_, Clock::now()) + std::chrono::seconds(1), [this] { bring_ike(); });
    return;
  }
  state_.ike = ike_->process.id;
  save_state();
  if (const auto watched = watch_ike(); !watched) spdlog::error("{}", watched.error().message());
}

Result<void> Node::watch_ike() {
  // What IKE may have, once policies exist that need it: its two ports in the VRFs of the document.
  BrokerGrant grant{"postern-ike", {500, 4500}, {0}, false, false, {}};
  for (const config::Vrf& vrf : document_.vrfs) grant.vrfs.push_back(vrf.table);
  const auto refuse = [](auto&&...) -> Result<Fd> { return fail("broker: not granted", EPERM); };
  grant.worker_channel = true;
  BrokerOpeners openers{
      [this](std::uint32_t vrf, Family family, std::uint16_t port) { return open_for_ike(vrf, family, port); }, refuse,
      refuse, refuse, [this] { return worker_channel_for_ike(); }};
  broker_ = std::make_unique<Broker>(std::move(ike_->broker), std::move(grant), std::move(openers));
  POSTERN_CHECK(loop_->watch(broker_->fd(), EPOLLIN, [this](std::uint32_t) {
    if (const auto served = broker_->serve(); !served) {
      spdlog::warn("{}", served.error().message());
      loop_->forget(broker_->fd());
    }
  }));
  return loop_->watch(ike_->process.pidfd.get(), EPOLLIN, [this](std::uint32_t) { ike_lost(); });
}

void Node::ike_lost() {
  loop_->forget(ike_->process.pidfd.get());
  if (broker_) loop_->forget(broker_->fd());
  broker_.reset();
  spdlog::error("postern-ike {} ended ({})", ike_->process.id.pid, reap(ike_->process));
  ike_.reset();
  loop_->after(ike_pace_.after_crash(ike_started_, Clock::now()), [this] { bring_ike(); });
}

Result<Fd> Node::worker_channel_for_ike() {
  if (!worker_) return fail("broker: no worker runs", EAGAIN);
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return fail_errno("broker: socketpair");
  const Fd for_worker(ends[0]);
  Fd for_ike(ends[1]);
  POSTERN_CHECK(worker_->link.add_client(for_worker.get()));
  return for_ike;
}

Result<Fd> Node::open_for_ike(std::uint32_t vrf, Family family, std::uint16_t port) {
  UdpSpec spec{family, port, {}};
  for (const config::Vrf& known : document_.vrfs)
    if (known.table == vrf) spec.scope.vrf_device = known.name;
  return open_udp(spec);
}

}  // namespace postern::loader
