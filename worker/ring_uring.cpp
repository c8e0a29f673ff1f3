#include "worker/ring_uring.hpp"

#include <cstring>

#include <poll.h>
#include <sys/mman.h>

namespace postern {
namespace {

constexpr unsigned queue_entries = 256;
constexpr unsigned completion_entries = 4096;
constexpr std::uint16_t buffer_group = 0;
constexpr std::uint8_t op_read_multishot = 49;  // kernel 6.7; the headers of Debian 12 do not name it
constexpr int reads_without_multishot = 8;      // outstanding on each queue

constexpr std::array operations = {std::uint8_t{IORING_OP_POLL_ADD}, std::uint8_t{IORING_OP_ASYNC_CANCEL},
                                   std::uint8_t{IORING_OP_READ},     op_read_multishot,
                                   std::uint8_t{IORING_OP_WRITEV},   std::uint8_t{IORING_OP_SEND},
                                   std::uint8_t{IORING_OP_RECV},     std::uint8_t{IORING_OP_SENDMSG}};

template <class T>
T load_acquire(const T* at) {
  return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}
template <class T>
void store_release(T* at, T value) {
  __atomic_store_n(at, value, __ATOMIC_RELEASE);
}

Result<void> check(int result, const char* what) {
  if (result < 0) return fail(std::string("io_uring: ") + what, -result);
  return {};
}

// SINGLE_ISSUER and DEFER_TASKRUN: kernel 6.1. Without them completions interrupt the thread instead.
Result<bool> set_up_queues(io_uring& ring) {
  for (const bool deferred : {true, false}) {
    io_uring_params parameters{};
    parameters.flags =
        IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_TASKRUN_FLAG;
    parameters.flags |= deferred ? IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN : IORING_SETUP_COOP_TASKRUN;
    parameters.cq_entries = completion_entries;
    const int result = io_uring_queue_init_params(queue_entries, &ring, &parameters);
    if (result == 0) return deferred;
    if (result != -EINVAL || !deferred) return fail("io_uring_setup", -result);
  }
  std::unreachable();
}

}  // namespace

Result<std::unique_ptr<UringRing>> UringRing::create() {
  POSTERN_TRY(buffers, map_buffers());
  std::unique_ptr<UringRing> ring(new UringRing(std::move(buffers)));
  POSTERN_CHECK(ring->set_up());
  return ring;
}

UringRing::~UringRing() {
  if (ready_) io_uring_queue_exit(&ring_);
}

Result<void> UringRing::set_up() {
  POSTERN_TRY(deferred, set_up_queues(ring_));
  ready_ = true;
  deferred_ = deferred;
  if ((ring_.features & IORING_FEAT_EXT_ARG) == 0 || (ring_.features & IORING_FEAT_CQE_SKIP) == 0)
    return fail("io_uring: this kernel lacks EXT_ARG or CQE_SKIP", ENOSYS);
  for (unsigned i = 0; i < queue_entries; ++i) ring_.sq.array[i] = i;
  starved_.reserve(ring_files * reads_without_multishot);
  stash_.reserve(completion_entries);
  POSTERN_CHECK(register_resources());
  return restrict_and_enable();
}

Result<void> UringRing::register_resources() {
  POSTERN_CHECK(check(io_uring_register_files_sparse(&ring_, ring_files), "register files"));
  io_uring_probe* const probe = io_uring_get_probe_ring(&ring_);
  if (probe == nullptr) return fail("io_uring: probe", ENOMEM);
  multishot_read_ = probe->last_op >= op_read_multishot;
  io_uring_free_probe(probe);
  POSTERN_TRY(buffer_ring, Mapping::map(sizeof(io_uring_buf) * read_buffers, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, "read buffer ring"));
  buffer_ring_ = std::move(buffer_ring);
  io_uring_buf_reg registration{};
  registration.ring_addr = reinterpret_cast<std::uint64_t>(buffer_ring_.data());
  registration.ring_entries = read_buffers;
  registration.bgid = buffer_group;
  POSTERN_CHECK(check(io_uring_register_buf_ring(&ring_, &registration, 0), "register read buffers"));
  for (std::uint16_t id = 0; id < read_buffers; ++id) recycle(id);
  publish_buffers();
  return check(io_uring_register_ring_fd(&ring_), "register ring");
}

Result<void> UringRing::restrict_and_enable() {
  std::array<io_uring_restriction, operations.size() + 3> rules{};
  std::size_t count = 0;
  for (const auto operation : operations) {
    if (operation == op_read_multishot && !multishot_read_) continue;
    rules[count].opcode = IORING_RESTRICTION_SQE_OP;
    rules[count++].sqe_op = operation;
  }
  rules[count].opcode = IORING_RESTRICTION_REGISTER_OP;
  rules[count++].register_op = IORING_REGISTER_FILES_UPDATE;
  rules[count].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
  rules[count++].sqe_flags = IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT | IOSQE_CQE_SKIP_SUCCESS;
  rules[count].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
  rules[count++].sqe_flags = IOSQE_FIXED_FILE;
  // liburing 2.3 declares calls for these two and does not export them.
  const auto ring = static_cast<unsigned>(ring_.ring_fd);
  POSTERN_CHECK(check(io_uring_register(ring, IORING_REGISTER_RESTRICTIONS, rules.data(), static_cast<unsigned>(count)),
                      "restrict"));
  return check(io_uring_register(ring, IORING_REGISTER_ENABLE_RINGS, nullptr, 0), "enable");
}

Result<void> UringRing::attach(std::uint32_t file, int fd) {
  files_[file] = {};
  // Not through liburing: its call would use the registered ring, whose register call kernels before 6.3 refuse.
  io_uring_files_update update{};
  update.offset = file;
  update.fds = reinterpret_cast<std::uint64_t>(&fd);
  const int done = io_uring_register(static_cast<unsigned>(ring_.ring_fd), IORING_REGISTER_FILES_UPDATE, &update, 1);
  return check(done, "register a file");
}

void UringRing::detach(std::uint32_t file) {
  files_[file].closing = true;
  std::erase_if(starved_, [&](Token token) { return token.file() == file; });
  io_uring_sqe& sqe = next({}, IORING_OP_ASYNC_CANCEL);
  sqe.fd = static_cast<std::int32_t>(file);
  sqe.flags |= IOSQE_CQE_SKIP_SUCCESS;
  sqe.cancel_flags = IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_FD_FIXED | IORING_ASYNC_CANCEL_ALL;
  for (int attempt = 0; attempt < 20; ++attempt) {
    const unsigned waiting = flush_queue();
    const bool quiet = files_[file].under_way == 0;
    if (quiet && waiting == 0) break;
    enter(waiting, quiet ? 0 : 1, IORING_ENTER_GETEVENTS, 50'000'000);
    Completions arrived;
    collect(arrived);
    stash_.insert(stash_.end(), arrived.begin(), arrived.end());
  }
  std::erase_if(stash_, [&](const Completion& entry) {
    if (entry.token.file() != file || !ends_with_file(entry.token.event)) return false;
    if (entry.buffer != no_buffer) recycle(entry.buffer);
    return true;
  });
  int nothing = -1;
  io_uring_files_update update{};
  update.offset = file;
  update.fds = reinterpret_cast<std::uint64_t>(&nothing);
  io_uring_register(static_cast<unsigned>(ring_.ring_fd), IORING_REGISTER_FILES_UPDATE, &update, 1);
}

io_uring_sqe& UringRing::next(Token token, std::uint8_t operation) {
  io_uring_sq& queue = ring_.sq;
  for (int attempt = 0; queue.sqe_tail - load_acquire(queue.khead) >= queue_entries; ++attempt) {
    // The kernel takes every entry at once unless it is out of memory for requests.
    if (attempt > 0) enter(flush_queue(), 0, IORING_ENTER_GETEVENTS, 0);
    submit();
  }
  io_uring_sqe& sqe = queue.sqes[queue.sqe_tail++ & (queue_entries - 1)];
  std::memset(&sqe, 0, sizeof sqe);
  sqe.opcode = operation;
  sqe.flags = IOSQE_FIXED_FILE;
  sqe.fd = static_cast<std::int32_t>(token.file());
  sqe.user_data = token.bits();
  return sqe;
}

void UringRing::arm_watch(Token token) {
  io_uring_sqe& sqe = next(token, IORING_OP_POLL_ADD);
  sqe.poll32_events = POLLIN;
  sqe.len = IORING_POLL_ADD_MULTI;
  ++files_[token.file()].under_way;
}

void UringRing::arm_read(Token token) {
  io_uring_sqe& sqe = next(token, multishot_read_ ? op_read_multishot : std::uint8_t{IORING_OP_READ});
  sqe.flags |= IOSQE_BUFFER_SELECT;
  sqe.buf_group = buffer_group;
  sqe.off = ~std::uint64_t{0};  // no file position
  ++files_[token.file()].under_way;
}

void UringRing::watch(Token token) { arm_watch(token); }

void UringRing::receive(Token token) {
  for (int i = 0; i < (multishot_read_ ? 1 : reads_without_multishot); ++i) arm_read(token);
}

void UringRing::write(Token token, std::span<const iovec> parts) {
  io_uring_sqe& sqe = next(token, IORING_OP_WRITEV);
  sqe.addr = reinterpret_cast<std::uint64_t>(parts.data());
  sqe.len = static_cast<std::uint32_t>(parts.size());
  sqe.off = ~std::uint64_t{0};
  ++files_[token.file()].under_way;
}

void UringRing::send(Token token, const msghdr& message) {
  io_uring_sqe& sqe = next(token, IORING_OP_SENDMSG);
  sqe.addr = reinterpret_cast<std::uint64_t>(&message);
  sqe.len = 1;
  sqe.msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL;
  ++files_[token.file()].under_way;
}

void UringRing::send(Token token, Bytes data) {
  io_uring_sqe& sqe = next(token, IORING_OP_SEND);
  sqe.addr = reinterpret_cast<std::uint64_t>(data.data());
  sqe.len = static_cast<std::uint32_t>(data.size());
  sqe.msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL;
  ++files_[token.file()].under_way;
}

void UringRing::kick(Token token) {
  io_uring_sqe& sqe = next(token, IORING_OP_SEND);
  sqe.flags |= IOSQE_CQE_SKIP_SUCCESS;
  sqe.msg_flags = MSG_DONTWAIT;
}

void UringRing::wake_receive(Token token) {
  io_uring_sqe& sqe = next(token, IORING_OP_RECV);
  sqe.flags |= IOSQE_CQE_SKIP_SUCCESS;
  sqe.msg_flags = MSG_DONTWAIT;
}

unsigned UringRing::flush_queue() {
  io_uring_sq& queue = ring_.sq;
  store_release(queue.ktail, queue.sqe_tail);
  return queue.sqe_tail - load_acquire(queue.khead);
}

int UringRing::enter(unsigned submit, unsigned wanted, unsigned flags, std::int64_t wait_ns) {
  __kernel_timespec limit{wait_ns / 1'000'000'000, wait_ns % 1'000'000'000};
  io_uring_getevents_arg argument{};
  argument.sigmask_sz = _NSIG / 8;
  if (wait_ns >= 0 && wanted > 0) argument.ts = reinterpret_cast<std::uint64_t>(&limit);
  ++system_calls_;
  return io_uring_enter2(static_cast<unsigned>(ring_.enter_ring_fd), submit, wanted,
                         flags | IORING_ENTER_EXT_ARG | IORING_ENTER_REGISTERED_RING,
                         reinterpret_cast<sigset_t*>(&argument), sizeof argument);
}

bool UringRing::kernel_has_news() const {
  return (__atomic_load_n(ring_.sq.kflags, __ATOMIC_RELAXED) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

void UringRing::turn(std::int64_t wait_ns, Completions& out) {
  publish_buffers();
  if (!starved_.empty()) {
    for (const Token token : starved_) arm_read(token);
    starved_.clear();
  }
  const unsigned waiting = flush_queue();
  const bool nothing_yet = stash_.empty() && load_acquire(ring_.cq.ktail) == *ring_.cq.khead;
  if (wait_ns != 0 && nothing_yet) {
    ++sleeps_;
    enter(waiting, 1, IORING_ENTER_GETEVENTS, wait_ns);
  } else if (waiting > 0 || kernel_has_news()) {
    enter(waiting, 0, IORING_ENTER_GETEVENTS, 0);
  }
  out.insert(out.end(), stash_.begin(), stash_.end());
  stash_.clear();
  collect(out);
}

void UringRing::submit() {
  const unsigned waiting = flush_queue();
  if (waiting > 0) enter(waiting, 0, 0, 0);
}

void UringRing::collect(Completions& out) {
  io_uring_cq& queue = ring_.cq;
  unsigned head = *queue.khead;
  for (const unsigned tail = load_acquire(queue.ktail); head != tail; ++head)
    take(queue.cqes[head & (ring_.cq.ring_entries - 1)], out);
  store_release(queue.khead, head);
}

void UringRing::take(const io_uring_cqe& entry, Completions& out) {
  const Token token = Token::of(entry.user_data);
  const std::uint16_t buffer = (entry.flags & IORING_CQE_F_BUFFER) != 0
                                   ? static_cast<std::uint16_t>(entry.flags >> IORING_CQE_BUFFER_SHIFT)
                                   : no_buffer;
  if (token.event == Event::none) return;
  if (token.event == Event::kicked) {  // not counted as under way: it says nothing when all is well
    if (entry.res < 0) out.push_back({token, entry.res});
    return;
  }
  const bool more = (entry.flags & IORING_CQE_F_MORE) != 0;
  if (!more) --files_[token.file()].under_way;
  const bool starved = token.event == Event::packet && entry.res == -ENOBUFS;
  if (!starved) out.push_back({token, entry.res, buffer});
  if (!more) renew(token, entry.res);
}

// A standing request that ended by itself is set up again, unless its file failed.
void UringRing::renew(Token token, std::int32_t result) {
  const File& file = files_[token.file()];
  if (file.closing) return;
  if (token.event == Event::readable && result >= 0) arm_watch(token);
  if (token.event == Event::packet && (result >= 0 || result == -ENOBUFS)) starved_.push_back(token);
}

void UringRing::recycle(std::uint16_t id) {
  auto* const entries = buffer_ring_.as<io_uring_buf>();
  io_uring_buf& entry = entries[buffer_tail_++ & (read_buffers - 1)];
  entry.addr = reinterpret_cast<std::uint64_t>(buffer(id));
  entry.len = read_buffer_bytes;
  entry.bid = id;
}

void UringRing::publish_buffers() { store_release(&buffer_ring_.as<io_uring_buf_ring>()->tail, buffer_tail_); }

}  // namespace postern
