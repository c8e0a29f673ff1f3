// Security associations on behalf of either peer, and what each peer is told of them (worker/control.hpp).
#include <algorithm>
#include <cstring>

#include <fcntl.h>
#include <sys/socket.h>

#include "base/log.hpp"
#include "base/secret.hpp"
#include "worker/control.hpp"

namespace postern {
namespace {

Result<void> check_client_socket(const Fd& socket) {
  int type = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_TYPE, &type, &size) != 0) return fail_errno("add_client: socket type");
  if (type != SOCK_SEQPACKET) return fail("add_client: not a SOCK_SEQPACKET socket", EINVAL);
  const int flags = ::fcntl(socket.get(), F_GETFL);
  if (flags < 0 || ::fcntl(socket.get(), F_SETFL, flags | O_NONBLOCK) != 0)
    return fail_errno("add_client: set non-blocking");
  return {};
}

}  // namespace

// --- requests

Result<Control::Answer> Control::install_sa(const ChannelMessage& message, SaInstaller who) {
  InstallSa body;
  POSTERN_CHECK(message.read_into(body));
  const bool inbound = body.parameters.direction == SaDirection::inbound;
  const auto slot = sad_->install(body.parameters, who);
  wipe(std::as_writable_bytes(std::span(&body, 1)));
  if (!slot) return std::unexpected(slot.error());
  if (who == SaInstaller::ike && inbound && channel_) return ask_posternd(*slot, message.header.id);
  return Answer{*slot, {}, {}};
}

Result<Control::Answer> Control::expect_sa(const ChannelMessage& message) {
  ExpectSa body;
  POSTERN_CHECK(message.read_into(body));
  sad_->expect(body.spi, Clock::now() + expect_time);
  tell(SaInstaller::posternd, ChannelType::sa_expected, body, false);
  return Answer{};
}

Result<Control::Answer> Control::remove_sa(const ChannelMessage& message, SaInstaller who) {
  RemoveSa body;
  POSTERN_CHECK(message.read_into(body));
  POSTERN_CHECK(must_own(body.slot, who));
  const auto row = sad_->row(body.slot);
  const auto removed = sad_->remove(body.slot);
  // One that a thread does not let go of is found by nobody any more.
  if (row && (removed || removed.error().code == ETIMEDOUT)) announce_removal(*row, who);
  POSTERN_CHECK(removed);
  return Answer{};
}

Result<Control::Answer> Control::bind_flow(const ChannelMessage& message, SaInstaller who) {
  BindFlow body;
  POSTERN_CHECK(message.read_into(body));
  const auto before = sad_->bound_slot(body.flow);
  if (before) POSTERN_CHECK(must_own(*before, who));
  if (body.unbind != 0) {
    sad_->unbind_flow(body.flow);
    return Answer{};
  }
  POSTERN_CHECK(must_own(body.slot, who));
  POSTERN_CHECK(sad_->bind_flow(body.flow, body.slot));
  const auto old = before ? sad_->row(*before) : std::nullopt;
  const auto bound = sad_->row(body.slot);
  if (bound && (bound->dummy_interval_us != 0 || (old && old->dummy_interval_us != 0)))
    schedule_dummies(*bound, body.flow);
  return Answer{};
}

void Control::schedule_dummies(const SaRow& bound, std::uint32_t flow) {
  threads_[flow % threads_.size()]->set_dummies(flow, std::chrono::microseconds(bound.dummy_interval_us));
}

Result<Control::Answer> Control::move_sa(const ChannelMessage& message, SaInstaller who) {
  MoveSa body;
  POSTERN_CHECK(message.read_into(body));
  POSTERN_CHECK(must_own(body.slot, who));
  const auto before = sad_->row(body.slot);
  POSTERN_CHECK(sad_->move(body.slot, body.ends));
  const bool found_elsewhere = before && before->direction == SaDirection::inbound &&
                               (before->local != body.ends.local || before->local_port != body.ends.local_port);
  if (who != SaInstaller::ike || !found_elsewhere || !channel_) return Answer{};
  auto asked = ask_posternd(body.slot, message.header.id);
  if (asked && before->local != body.ends.local) tell(SaInstaller::posternd, ChannelType::sa_removed, *before, false);
  return asked;
}

Result<Control::Answer> Control::place_sa(const ChannelMessage& message) {
  PlaceSa body;
  POSTERN_CHECK(message.read_into(body));
  POSTERN_CHECK(sad_->place(body.slot, body.ifindex));
  return Answer{};
}

Result<Control::Answer> Control::list_sas(const ChannelMessage& message, SaInstaller who) {
  ListSas body;
  POSTERN_CHECK(message.read_into(body));
  std::array<SaRow, max_sa_rows> rows;
  std::size_t found = 0;
  std::uint32_t slot = body.first;
  const std::uint32_t end = body.last < sad_->capacity() ? body.last + 1 : sad_->capacity();
  for (; slot < end && found < rows.size(); ++slot)
    if (const auto row = sad_->row(slot)) rows[found++] = *row;
  POSTERN_CHECK(channel_send(socket_of(who).get(), ChannelType::sa_rows, message.header.id,
                             std::as_bytes(std::span(rows).first(found))));
  return Answer{slot < end ? slot : 0, {}, {}};
}

Result<void> Control::must_own(std::uint32_t slot, SaInstaller who) const {
  const auto row = sad_->row(slot);
  if (row && who == SaInstaller::ike && row->installed_by != SaInstaller::ike)
    return fail("SA: it is not the client's own", EPERM);
  return {};
}

// --- the client

Result<Control::Answer> Control::add_client(ChannelMessage& message) {
  if (message.fds.size() != 1) return fail("add_client: one socket is needed", EINVAL);
  POSTERN_CHECK(check_client_socket(message.fds[0]));
  if (client_) close_peer(SaInstaller::ike, "a newer connection replaces it");
  client_ = std::move(message.fds[0]);
  sad_->tell_again(SaInstaller::ike);
  return Answer{};
}

// XDP passes on only what its `sas` map knows: the client hears of its SA when posternd has put it there.
Result<Control::Answer> Control::ask_posternd(std::uint32_t slot, std::uint64_t request) {
  const auto row = sad_->row(slot);
  const std::uint64_t event = next_event_++;
  const auto asked = channel_send(channel_.get(), ChannelType::sa_installed, event, *row);
  if (!asked) {
    POSTERN_CHECK(sad_->remove(slot));
    return fail("SA: posternd does not take the news: " + asked.error().what, EAGAIN);
  }
  unconfirmed_.push_back({event, request, slot, Clock::now() + std::chrono::milliseconds(install_patience_ms)});
  Answer later;
  later.later = true;
  return later;
}

void Control::confirmed(const ChannelMessage& message) {
  Reply body;
  if (!message.read_into(body)) return;
  const auto found = std::ranges::find(unconfirmed_, message.header.id, &Unconfirmed::event);
  if (found == unconfirmed_.end()) return;  // it came after its time
  const Unconfirmed install = *found;
  unconfirmed_.erase(found);
  settle(install, body.code);
}

void Control::settle(const Unconfirmed& install, std::int32_t code) {
  if (code == 0) return reply_to(SaInstaller::ike, install.request, Answer{install.slot, {}, {}});
  if (const auto removed = sad_->remove(install.slot); !removed) spdlog::warn("{}", removed.error().message());
  reply_to(SaInstaller::ike, install.request, fail("SA: XDP does not take it", code));
}

void Control::settle_overdue(Time now) {
  while (!unconfirmed_.empty() && unconfirmed_.front().until <= now) {
    const Unconfirmed install = unconfirmed_.front();
    unconfirmed_.erase(unconfirmed_.begin());
    settle(install, 0);
  }
}

void Control::settle_all() { settle_overdue(Time::max()); }

int Control::wait_ms() const {
  if (unconfirmed_.empty()) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(unconfirmed_.front().until - Clock::now());
  return static_cast<int>(std::max<std::int64_t>(0, left.count()));
}

void Control::announce_removal(const SaRow& gone, SaInstaller by) {
  if (gone.installed_by != SaInstaller::ike) return;
  std::erase_if(unconfirmed_, [&](const Unconfirmed& install) { return install.slot == gone.slot; });
  if (gone.direction == SaDirection::inbound) tell(SaInstaller::posternd, ChannelType::sa_removed, gone, false);
  if (by == SaInstaller::posternd) tell(SaInstaller::ike, ChannelType::sa_gone, gone, true);
}

// --- news of the worker threads

void Control::pass_on_news() {
  for (const WorkerNews& news : outbox_.take()) std::visit([&](const auto& body) { pass_on(body); }, news);
}

void Control::pass_on(const Resolve& news) { tell(SaInstaller::posternd, ChannelType::resolve, news, false); }
void Control::pass_on(const RemoveDevice& news) {
  tell(SaInstaller::posternd, ChannelType::device_failed, news, false);
}
void Control::pass_on(const Acquire& news) { tell(SaInstaller::ike, ChannelType::acquire, news, false); }

void Control::pass_on(const SaNews& news) {
  const auto row = sad_->row(sad_->index_of(*news.slot));
  if (!row || row->reuse != news.reuse) return;  // gone meanwhile
  tell(row->installed_by, ChannelType::sa_expiry, SaExpiry{news.kind, *row}, true);
}

void Control::pass_on(const PeerNews& news) {
  const auto row = sad_->row(sad_->index_of(*news.slot));
  if (row && row->reuse == news.reuse)
    tell(row->installed_by, ChannelType::peer_moved, PeerMoved{*row, news.peer}, false);
}

// Without a peer the news is lost: it is asked again, or told again, when somebody is there. One who does not read
// what it must know is cut off, and so comes back.
template <class T>
void Control::tell(SaInstaller who, ChannelType type, const T& body, bool must_arrive) {
  const Fd& socket = socket_of(who);
  if (!socket) return;
  const auto sent = channel_send(socket.get(), type, 0, body);
  const bool full = !sent && sent.error().code == EAGAIN;
  if (sent || (full && (!must_arrive || who == SaInstaller::posternd))) return;
  close_peer(who, sent.error().message().c_str());
}

}  // namespace postern
