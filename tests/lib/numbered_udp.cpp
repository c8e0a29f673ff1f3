// A numbered UDP stream that costs little CPU: batches of system calls, no allocation per packet.
//   numbered_udp send ADDRESS PORT COUNT RATE SIZE     until COUNT or SIGTERM; prints {"sent": n, "late": n, "seconds":
//   x} numbered_udp receive ADDRESS PORT [QUIET]          prints READY; ends at SIGTERM, or after QUIET seconds without
//   a packet;
//                                                      prints {"received", "distinct", "duplicate", "reordered",
//                                                      "wrong", ...}
// A packet is: "psn1", 4 bytes of size, 8 bytes of number, then the number again in every following 8 bytes.
#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kHeader = 16, kBatch = 64, kLargest = 9000;
constexpr char kMagic[4] = {'p', 's', 'n', '1'};
volatile std::sig_atomic_t stop = 0;

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Address {
  sockaddr_storage bytes{};
  socklen_t length = 0;
};

Address parse(const char* text, const char* port) {
  Address made;
  const auto number = htons(static_cast<std::uint16_t>(std::strtoul(port, nullptr, 10)));
  if (auto* v4 = reinterpret_cast<sockaddr_in*>(&made.bytes); inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = number;
    made.length = sizeof *v4;
  } else if (auto* v6 = reinterpret_cast<sockaddr_in6*>(&made.bytes); inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = number;
    made.length = sizeof *v6;
  } else {
    std::fprintf(stderr, "not an address: %s\n", text);
    std::exit(2);
  }
  return made;
}

int open_socket(const Address& address) {
  const int made = socket(address.bytes.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (made < 0) die("socket");
  return made;
}

void fill(std::uint8_t* packet, std::size_t size, std::uint64_t number) {
  const auto length = static_cast<std::uint32_t>(size);
  std::memcpy(packet, kMagic, 4);
  std::memcpy(packet + 4, &length, 4);
  for (std::size_t at = 8; at + 8 <= size; at += 8) std::memcpy(packet + at, &number, 8);
}

bool right(const std::uint8_t* packet, std::size_t size, std::uint64_t& number) {
  std::uint32_t length = 0;
  if (size < kHeader || std::memcmp(packet, kMagic, 4) != 0) return false;
  std::memcpy(&length, packet + 4, 4);
  std::memcpy(&number, packet + 8, 8);
  if (length != size) return false;
  for (std::size_t at = 16; at + 8 <= size; at += 8)
    if (std::memcmp(packet + at, packet + 8, 8) != 0) return false;
  return true;
}

struct Batch {
  std::array<std::array<std::uint8_t, kLargest>, kBatch> data{};
  std::array<iovec, kBatch> vectors{};
  std::array<mmsghdr, kBatch> messages{};
  explicit Batch(std::size_t size) {
    for (std::size_t i = 0; i < kBatch; ++i) {
      vectors[i] = {data[i].data(), size};
      messages[i].msg_hdr.msg_iov = &vectors[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
  }
};

int send_stream(const Address& to, std::uint64_t count, double rate, std::size_t size) {
  const int out = open_socket(to);
  const int deep = 8 << 20;
  setsockopt(out, SOL_SOCKET, SO_SNDBUFFORCE, &deep, sizeof deep);
  if (connect(out, reinterpret_cast<const sockaddr*>(&to.bytes), to.length) < 0) die("connect");
  static Batch batch(0);
  for (auto& one : batch.vectors) one.iov_len = size;
  const auto start = Clock::now();
  std::uint64_t sent = 0, refused = 0;
  double worst = 0;
  while (sent < count && !stop) {
    const auto due = std::min(count, static_cast<std::uint64_t>(seconds_since(start) * rate) + 1);
    worst = std::max(worst, static_cast<double>(due - sent) / rate);
    while (sent < due && !stop) {
      const auto wanted = static_cast<unsigned>(std::min<std::uint64_t>(kBatch, due - sent));
      for (unsigned i = 0; i < wanted; ++i) fill(batch.data[i].data(), size, sent + i);
      const int done = sendmmsg(out, batch.messages.data(), wanted, 0);
      if (done > 0)
        sent += static_cast<std::uint64_t>(done);
      else if (errno != EINTR)
        ++refused;  // an ICMP error about an earlier packet: this one was not sent, and is offered again
      if (refused > 1000) die("sendmmsg");
    }
    const timespec nap{0, 400'000};
    nanosleep(&nap, nullptr);
  }
  std::printf("{\"sent\": %llu, \"seconds\": %.3f, \"worst_delay_s\": %.4f}\n", static_cast<unsigned long long>(sent),
              seconds_since(start), worst);
  return 0;
}

struct Tally {
  std::vector<bool> seen;
  std::uint64_t received = 0, distinct = 0, duplicate = 0, reordered = 0, wrong = 0, next = 0;
  double gap = 0;
  Clock::time_point first, last;

  void take(const std::uint8_t* packet, std::size_t size, Clock::time_point now) {
    if (received++ == 0)
      first = now;
    else
      gap = std::max(gap, std::chrono::duration<double>(now - last).count());
    last = now;
    std::uint64_t number = 0;
    if (!right(packet, size, number) || number > (1ULL << 32)) {
      ++wrong;
      return;
    }
    if (number >= seen.size()) seen.resize(std::max<std::size_t>(number + 1, seen.size() * 2 + 1024));
    if (seen[number]) {
      ++duplicate;
      return;
    }
    seen[number] = true;
    ++distinct;
    if (number < next)
      ++reordered;
    else
      next = number + 1;
  }
};

int receive_stream(const Address& at, double quiet) {
  const int in = open_socket(at);
  const int deep = 64 << 20, yes = 1;
  setsockopt(in, SOL_SOCKET, SO_RCVBUFFORCE, &deep, sizeof deep);
  setsockopt(in, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(in, reinterpret_cast<const sockaddr*>(&at.bytes), at.length) < 0) die("bind");
  std::puts("READY");
  std::fflush(stdout);
  static Batch batch(kLargest);
  Tally tally;
  while (!stop) {
    pollfd one{in, POLLIN, 0};
    if (poll(&one, 1, 50) <= 0) {
      if (quiet > 0 && tally.received && seconds_since(tally.last) > quiet) break;
      continue;
    }
    const int got = recvmmsg(in, batch.messages.data(), kBatch, MSG_DONTWAIT, nullptr);
    const auto now = Clock::now();
    for (int i = 0; i < got; ++i)
      tally.take(batch.data[static_cast<std::size_t>(i)].data(), batch.messages[static_cast<std::size_t>(i)].msg_len,
                 now);
  }
  // Numbers not seen below the largest one, in runs: where a loss happened says what caused it.
  std::uint64_t lost = 0, runs = 0, first_lost = 0;
  bool before = true;
  for (std::uint64_t i = 0; i < tally.next; ++i) {
    if (!tally.seen[i] && lost++ == 0) first_lost = i;
    if (!tally.seen[i] && before) ++runs;
    before = tally.seen[i];
  }
  std::printf(
      "{\"received\": %llu, \"distinct\": %llu, \"duplicate\": %llu, \"reordered\": %llu, \"wrong\": %llu, "
      "\"missing_between\": %llu, \"missing_runs\": %llu, \"first_missing\": %llu, \"largest_gap_s\": %.4f, "
      "\"seconds\": %.3f}\n",
      static_cast<unsigned long long>(tally.received), static_cast<unsigned long long>(tally.distinct),
      static_cast<unsigned long long>(tally.duplicate), static_cast<unsigned long long>(tally.reordered),
      static_cast<unsigned long long>(tally.wrong), static_cast<unsigned long long>(lost),
      static_cast<unsigned long long>(runs), static_cast<unsigned long long>(first_lost), tally.gap,
      tally.received ? std::chrono::duration<double>(tally.last - tally.first).count() : 0.0);
  return 0;
}

}  // namespace

int main(int count, char** words) {
  struct sigaction action{};
  action.sa_handler = [](int) { stop = 1; };
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  const std::string_view verb = count > 1 ? words[1] : "";
  if (verb == "send" && count == 7) {
    const auto size = std::clamp<std::size_t>(std::strtoul(words[6], nullptr, 10) / 8 * 8, kHeader, kLargest);
    return send_stream(parse(words[2], words[3]), std::strtoull(words[4], nullptr, 10), std::strtod(words[5], nullptr),
                       size);
  }
  if (verb == "receive" && (count == 4 || count == 5))
    return receive_stream(parse(words[2], words[3]), count == 5 ? std::strtod(words[4], nullptr) : 0);
  std::fprintf(stderr, "usage: numbered_udp send ADDRESS PORT COUNT RATE SIZE | receive ADDRESS PORT [QUIET]\n");
  return 2;
}
