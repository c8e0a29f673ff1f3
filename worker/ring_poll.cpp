#include "worker/ring_poll.hpp"

#include <algorithm>
#include <cerrno>

namespace postern {
namespace {

constexpr int packets_a_turn = 32;  // read from one queue before the others have their turn

}  // namespace

Result<std::unique_ptr<PollRing>> PollRing::create() {
  POSTERN_TRY(buffers, map_buffers());
  return std::unique_ptr<PollRing>(new PollRing(std::move(buffers)));
}

PollRing::PollRing(Mapping buffers) : Ring(std::move(buffers)) {
  fds_.fill(-1);
  polled_.reserve(ring_files);
  tokens_.reserve(ring_files);
  free_.reserve(read_buffers);
  for (std::uint16_t id = 0; id < read_buffers; ++id) free_.push_back(id);
  done_.reserve(1024);
}

Result<void> PollRing::attach(std::uint32_t file, int fd) {
  fds_[file] = fd;
  return {};
}

void PollRing::detach(std::uint32_t file) {
  for (std::size_t i = tokens_.size(); i-- > 0;) {
    if (tokens_[i].file() != file) continue;
    tokens_.erase(tokens_.begin() + static_cast<std::ptrdiff_t>(i));
    polled_.erase(polled_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  std::erase_if(done_, [&](const Completion& entry) {
    if (entry.token.file() != file || !ends_with_file(entry.token.event)) return false;
    if (entry.buffer != no_buffer) recycle(entry.buffer);
    return true;
  });
  fds_[file] = -1;
}

void PollRing::poll_for(Token token) {
  polled_.push_back({fds_[token.file()], POLLIN, 0});
  tokens_.push_back(token);
}
void PollRing::watch(Token token) { poll_for(token); }
void PollRing::receive(Token token) { poll_for(token); }

void PollRing::ended(Token token, ssize_t result) {
  done_.push_back({token, static_cast<std::int32_t>(result < 0 ? -errno : result)});
}

void PollRing::write(Token token, std::span<const iovec> parts) {
  ++system_calls_;
  ended(token, ::writev(fds_[token.file()], parts.data(), static_cast<int>(parts.size())));
}

void PollRing::send(Token token, const msghdr& message) {
  ++system_calls_;
  ended(token, ::sendmsg(fds_[token.file()], &message, MSG_DONTWAIT | MSG_NOSIGNAL));
}

void PollRing::send(Token token, Bytes data) {
  ++system_calls_;
  ended(token, ::send(fds_[token.file()], data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
}

void PollRing::kick(Token token) {
  ++system_calls_;
  if (::send(fds_[token.file()], nullptr, 0, MSG_DONTWAIT) < 0) ended(token, -1);
}

void PollRing::wake_receive(Token token) {
  ++system_calls_;
  if (::recv(fds_[token.file()], nullptr, 0, MSG_DONTWAIT) < 0 && errno != EAGAIN) ended(token, -1);
}

void PollRing::read_packets(std::size_t entry) {
  const Token token = tokens_[entry];
  for (int i = 0; i < packets_a_turn && !free_.empty(); ++i) {
    const std::uint16_t id = free_.back();
    ++system_calls_;
    const ssize_t got = ::read(fds_[token.file()], buffer(id), read_buffer_bytes);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got < 0) {
      polled_[entry].fd = -1;  // poll() skips it: receive() ends after an error
      ended(token, -1);
      return;
    }
    free_.pop_back();
    done_.push_back({token, static_cast<std::int32_t>(got), id});
  }
}

void PollRing::turn(std::int64_t wait_ns, Completions& out) {
  timespec limit{wait_ns / 1'000'000'000, wait_ns % 1'000'000'000};
  if (!done_.empty()) limit = {};
  if (wait_ns != 0 && done_.empty()) ++sleeps_;
  ++system_calls_;
  const bool limited = wait_ns >= 0 || !done_.empty();
  int ready = ::ppoll(polled_.data(), polled_.size(), limited ? &limit : nullptr, nullptr);
  for (std::size_t i = 0; i < polled_.size() && ready > 0; ++i) {
    if (polled_[i].fd < 0 || polled_[i].revents == 0) continue;
    --ready;
    if (tokens_[i].event == Event::packet)
      read_packets(i);
    else
      done_.push_back({tokens_[i], polled_[i].revents});
  }
  collect(out);
}

void PollRing::collect(Completions& out) {
  out.insert(out.end(), done_.begin(), done_.end());
  done_.clear();
}

}  // namespace postern
