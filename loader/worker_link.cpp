#include "loader/worker_link.hpp"

#include <algorithm>

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loader/control_server.hpp"

namespace postern::loader {
namespace {

// A question that is no work; who does not answer it hangs.
constexpr int heartbeat_answer_ms = 1500;
// A worker that starts maps its memory and chooses a cipher engine, which takes a busy machine its time; of one that
// dies meanwhile the channel's end tells.
constexpr int hello_answer_ms = 20'000;

struct Nothing {};  // messages without a body

WorkerTraits traits_of(const Reply& reply) {
  return {reply.text.data(), (reply.value & hello_io_uring) != 0, (reply.value & hello_multishot_read) != 0};
}

}  // namespace

Result<WorkerLink> WorkerLink::connect(const std::string& path) {
  POSTERN_TRY(socket, connect_to(path, SOCK_SEQPACKET));
  return WorkerLink(std::move(socket));
}

template <class T>
Result<Reply> WorkerLink::ask(const char* what, ChannelType type, const T& body, std::span<const int> fds,
                              int patience_ms) {
  std::span<const std::byte> bytes;
  if constexpr (!std::is_same_v<T, Nothing>) bytes = std::as_bytes(std::span(&body, 1));
  if (silent_) return fail(std::string("worker: ") + what + ": it has not answered before", ETIMEDOUT);
  auto reply = channel_.ask_bytes(type, bytes, fds, patience_ms);
  silent_ = !reply && reply.error().code == ETIMEDOUT && patience_ms >= answer_ms;
  if (!reply) return fail(std::string("worker: ") + what + ": " + reply.error().what, reply.error().code);
  return reply;
}

Result<WorkerTraits> WorkerLink::hello(const std::string& node, std::uint32_t threads,
                                       std::span<const int> memory_files) {
  Hello hello;
  hello.threads = threads;
  std::copy_n(node.begin(), std::min(node.size(), hello.node.size() - 1), hello.node.begin());
  POSTERN_TRY(reply, ask("hello", ChannelType::hello, hello, memory_files, hello_answer_ms));
  return traits_of(reply);
}

Result<WorkerLink::Adopted> WorkerLink::get_descriptors() {
  std::vector<Fd> fds;
  POSTERN_TRY(reply, channel_.ask_bytes(ChannelType::get_descriptors, {}, {}, answer_ms, &fds));
  if (fds.size() != 3) return fail("worker: it has no memory files to adopt");
  return Adopted{{std::move(fds[0]), std::move(fds[1]), std::move(fds[2])}, traits_of(reply)};
}

Result<void> WorkerLink::add_device(const AddDevice& device, std::span<const int> fds) {
  POSTERN_CHECK(ask("add device", ChannelType::add_device, device, fds));
  return {};
}

Result<void> WorkerLink::remove_device(std::uint32_t ifindex, DeviceKind kind) {
  const auto reply = ask("remove device", ChannelType::remove_device, RemoveDevice{ifindex, kind});
  if (!reply && reply.error().code != ENODEV && reply.error().code != ENOENT) return std::unexpected(reply.error());
  return {};
}

Result<std::uint32_t> WorkerLink::install(const PlannedSa& sa) {
  InstallSa message{sa.parameters};
  SaParameters& to = message.parameters;
  const Bytes cipher = sa.cipher_key.bytes(), integrity = sa.integrity_key.bytes();
  std::copy_n(cipher.begin(), std::min(cipher.size(), to.cipher_key.size()), to.cipher_key.begin());
  std::copy_n(integrity.begin(), std::min(integrity.size(), to.integrity_key.size()), to.integrity_key.begin());
  const auto reply = ask("install SA", ChannelType::install_sa, message);
  wipe(to.cipher_key);
  wipe(to.integrity_key);
  if (!reply) return std::unexpected(reply.error());
  return reply->value;
}

Result<void> WorkerLink::remove_sa(std::uint32_t slot) {
  POSTERN_CHECK(ask("remove SA", ChannelType::remove_sa, RemoveSa{slot}));
  return {};
}

Result<void> WorkerLink::place_sa(std::uint32_t slot, std::uint32_t ifindex) {
  const auto reply = ask("place SA", ChannelType::place_sa, PlaceSa{slot, ifindex});
  if (!reply && reply.error().code != ENOENT) return std::unexpected(reply.error());
  return {};
}

Result<void> WorkerLink::bind_flow(std::uint32_t flow, std::uint32_t slot) {
  POSTERN_CHECK(ask("bind flow", ChannelType::bind_flow, BindFlow{flow, slot, 0}));
  return {};
}

Result<void> WorkerLink::unbind_flow(std::uint32_t flow) {
  POSTERN_CHECK(ask("unbind flow", ChannelType::bind_flow, BindFlow{flow, 0, 1}));
  return {};
}

Result<void> WorkerLink::set_generation(std::uint32_t current, std::uint32_t oldest) {
  POSTERN_CHECK(ask("set generation", ChannelType::set_generation, SetGeneration{current, oldest}));
  return {};
}

Result<void> WorkerLink::set_policy(const LoopPolicy::Rules& rules) {
  const Fd file(::memfd_create("postern-policy", MFD_CLOEXEC));
  if (!file) return fail_errno("worker: set policy: memfd_create");
  const std::vector<std::byte> bytes = LoopPolicy::write(rules);
  if (::write(file.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
    return fail_errno("worker: set policy: write");
  const int fds[] = {file.get()};
  POSTERN_CHECK(ask("set policy", ChannelType::set_policy, Nothing{}, fds));
  return {};
}

Result<void> WorkerLink::add_client(int socket) {
  const int fds[] = {socket};
  POSTERN_CHECK(ask("add client", ChannelType::add_client, Nothing{}, fds));
  return {};
}

Result<void> WorkerLink::confirm(std::uint64_t id, const Result<void>& outcome) {
  Reply reply;
  if (!outcome) reply.code = outcome.error().code == 0 ? EIO : outcome.error().code;
  return channel_send(channel_.fd(), ChannelType::reply, id, reply);
}

Result<void> WorkerLink::start_capture(CaptureSide side, std::uint32_t snap_bytes, int socket) {
  const int fds[] = {socket};
  POSTERN_CHECK(ask("start capture", ChannelType::start_capture, StartCapture{side, snap_bytes}, fds));
  return {};
}

Result<void> WorkerLink::stop_capture() {
  POSTERN_CHECK(ask("stop capture", ChannelType::stop_capture, Nothing{}));
  return {};
}

Result<void> WorkerLink::refresh_counters() {
  POSTERN_CHECK(ask("refresh counters", ChannelType::refresh_counters, Nothing{}, {}, heartbeat_answer_ms));
  return {};
}

Result<void> WorkerLink::shutdown() {
  POSTERN_CHECK(ask("shut down", ChannelType::shutdown, Nothing{}));
  return {};
}

}  // namespace postern::loader
