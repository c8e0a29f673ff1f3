#include "cli/capture.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "base/clock.hpp"
#include "cli/text.hpp"
#include "worker/sa_channel.hpp"

namespace postern::cli {
namespace {

constexpr std::size_t max_datagram = sizeof(CaptureRecord) + 262144;

std::unexpected<Failure> capture_failure(Exit exit, std::string message, std::string hint = {}) {
  return std::unexpected(Failure{exit, std::move(message), std::move(hint)});
}

// SIGINT and SIGTERM as a descriptor, and SIGPIPE off, for as long as this lives.
class Interrupts {
 public:
  Interrupts() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    ::sigprocmask(SIG_BLOCK, &set, &before_);
    pipe_before_ = ::signal(SIGPIPE, SIG_IGN);  // blocked, it would come once it is unblocked
    fd_ = Fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  }
  ~Interrupts() {
    ::signal(SIGPIPE, pipe_before_);
    ::sigprocmask(SIG_SETMASK, &before_, nullptr);
  }
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  sigset_t before_{};
  sighandler_t pipe_before_ = SIG_DFL;
  Fd fd_;
};

// EPIPE: whoever read (wireshark -k -i -) has had enough; that is an end and no error.
enum class Written : std::uint8_t { all, reader_gone };

Outcome<Written> write_all(int output, Bytes bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(output, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EPIPE) return Written::reader_gone;
    if (count < 0) return capture_failure(Exit::failed, fail_errno("write the capture").error().message());
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return Written::all;
}

enum class Event : std::uint8_t { record, end };

Event wait_for_record(int records, int interrupts, std::optional<Time> deadline) {
  for (;;) {
    int left = -1;
    if (deadline) {
      const auto until = std::chrono::duration_cast<std::chrono::milliseconds>(*deadline - Clock::now()).count();
      if (until <= 0) return Event::end;
      left = static_cast<int>(std::min<std::int64_t>(until + 1, 3600000));
    }
    pollfd both[2] = {{records, POLLIN, 0}, {interrupts, POLLIN, 0}};
    if (::poll(both, 2, left) < 0 && errno != EINTR) return Event::end;
    if (both[1].revents != 0) return Event::end;
    if (both[0].revents != 0) return Event::record;
  }
}

}  // namespace

Result<CapturedPacket> parse_record(Bytes datagram) {
  CaptureRecord record;
  if (datagram.size() < sizeof record) return fail("shorter than its header");
  std::memcpy(&record, datagram.data(), sizeof record);
  const Bytes packet = datagram.subspan(sizeof record);
  if (record.captured_bytes != packet.size() || record.original_bytes < record.captured_bytes)
    return fail("lengths disagree");
  if (record.linktype > 0xffff) return fail("no pcap link type");
  return CapturedPacket{record.realtime_ns,
                        record.original_bytes,
                        record.linktype,
                        record.ifindex,
                        static_cast<std::uint32_t>(record.side),
                        record.outbound != 0,
                        packet};
}

Outcome<Fd> open_output(const std::string& file) {
  if (file == "-") {
    if (::isatty(STDOUT_FILENO) == 1)
      return capture_failure(Exit::usage, "a capture is binary and standard output is a terminal",
                             "use -w FILE, or pipe it: postern capture | tshark -r -");
    Fd copy(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
    if (!copy) return capture_failure(Exit::failed, fail_errno("standard output").error().message());
    return copy;
  }
  Fd opened(::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!opened) return capture_failure(Exit::failed, fail_errno("open " + printable(file)).error().message());
  return opened;
}

Outcome<CaptureResult> copy_records(int records, int output, const CaptureOptions& options, std::string_view node,
                                    std::map<std::uint32_t, std::string> names) {
  const Interrupts interrupts;
  const auto deadline =
      options.seconds == 0 ? std::nullopt : std::optional(Clock::now() + std::chrono::seconds(options.seconds));
  PcapngWriter writer(std::move(names));
  CaptureResult result;
  std::vector<std::byte> buffer(max_datagram);
  POSTERN_TRY(begun, write_all(output, writer.section(node)));
  bool going = begun == Written::all;
  while (going && (options.count == 0 || result.packets < options.count)) {
    if (wait_for_record(records, interrupts.fd(), deadline) == Event::end) break;
    const ssize_t size = ::recv(records, buffer.data(), buffer.size(), MSG_TRUNC | MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    result.ended_by_node = size <= 0;
    if (size <= 0) break;
    const auto taken = std::min(static_cast<std::size_t>(size), buffer.size());
    const auto packet = parse_record(Bytes(buffer).first(taken));
    if (!packet) {
      ++result.malformed;
      continue;
    }
    POSTERN_TRY(written, write_all(output, writer.packet(*packet)));
    going = written == Written::all;
    ++result.packets;
  }
  return result;
}

}  // namespace postern::cli
