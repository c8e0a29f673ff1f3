#include "loader/netlink_socket.hpp"

#include <cerrno>
#include <cstdlib>

#include <linux/netlink.h>
#include <sys/socket.h>

namespace postern::loader {
namespace {

constexpr int dump_attempts = 4;

// The kernel's own words for a refusal, after the header that the acknowledgement echoes.
std::string kernel_text(const nlmsghdr* header, const nlmsgerr* error) {
  if ((header->nlmsg_flags & NLM_F_ACK_TLVS) == 0) return {};
  std::size_t skip = sizeof(nlmsgerr);
  if ((header->nlmsg_flags & NLM_F_CAPPED) == 0) skip += NLMSG_ALIGN(error->msg.nlmsg_len) - sizeof(nlmsghdr);
  if (header->nlmsg_len < NLMSG_HDRLEN + skip) return {};
  const std::string text = Attributes(header, skip).text(NLMSGERR_ATTR_MSG);
  return text.empty() ? text : " (" + text + ")";
}

}  // namespace

NetlinkMessage& NetlinkMessage::put(int attribute, std::span<const std::byte> bytes) {
  ok_ = ok_ && nla_put(message_.get(), attribute, static_cast<int>(bytes.size()), bytes.data()) == 0;
  return *this;
}

NetlinkMessage& NetlinkMessage::put_u8(int attribute, std::uint8_t value) {
  return put(attribute, std::as_bytes(std::span(&value, 1)));
}

NetlinkMessage& NetlinkMessage::put_u32(int attribute, std::uint32_t value) {
  return put(attribute, std::as_bytes(std::span(&value, 1)));
}

NetlinkMessage& NetlinkMessage::put_text(int attribute, std::string_view text) {
  const std::string terminated(text);
  return put(attribute, std::as_bytes(std::span(terminated.c_str(), terminated.size() + 1)));
}

NetlinkMessage& NetlinkMessage::put_address(int attribute, const IpAddress& address) {
  const auto bytes = std::as_bytes(std::span(address.mapped()));
  return put(attribute, address.family() == Family::v4 ? bytes.last(4) : bytes);
}

NetlinkMessage& NetlinkMessage::nest(int attribute, const std::function<void(NetlinkMessage&)>& fill) {
  nlattr* const start = nla_nest_start(message_.get(), attribute);
  if (start == nullptr) {
    ok_ = false;
    return *this;
  }
  fill(*this);
  nla_nest_end(message_.get(), start);
  return *this;
}

void NetlinkMessage::append(const void* bytes, std::size_t size) {
  if (message_ == nullptr || nlmsg_append(message_.get(), const_cast<void*>(bytes), size, NLMSG_ALIGNTO) != 0)
    ok_ = false;
}

Attributes::Attributes(const nlmsghdr* message, std::size_t header_bytes) {
  const auto skip = static_cast<int>(header_bytes);
  fill(nlmsg_attrdata(message, skip), nlmsg_attrlen(message, skip));
}

Attributes::Attributes(const nlattr* nest) {
  if (nest != nullptr) fill(static_cast<const nlattr*>(nla_data(nest)), nla_len(nest));
}

void Attributes::fill(const nlattr* first, int bytes) {
  int left = bytes;
  for (const nlattr* at = first; nla_ok(at, left); at = nla_next(at, &left)) {
    const int type = nla_type(at);
    if (type < limit) table_[static_cast<std::size_t>(type)] = at;
  }
}

std::span<const std::byte> Attributes::bytes(int attribute) const {
  const nlattr* const found = at(attribute);
  if (found == nullptr) return {};
  return {static_cast<const std::byte*>(nla_data(found)), static_cast<std::size_t>(nla_len(found))};
}

std::string Attributes::text(int attribute) const {
  const auto in = bytes(attribute);
  const auto* const first = reinterpret_cast<const char*>(in.data());
  return in.empty() ? std::string{} : std::string(first, ::strnlen(first, in.size()));
}

std::optional<IpAddress> Attributes::address(int attribute) const {
  const auto in = bytes(attribute);
  std::array<std::uint8_t, 16> mapped{};
  if (in.size() == 16) {
    std::memcpy(mapped.data(), in.data(), 16);
  } else if (in.size() == 4) {
    mapped[10] = mapped[11] = 0xff;
    std::memcpy(mapped.data() + 12, in.data(), 4);
  } else {
    return std::nullopt;
  }
  return IpAddress::from_mapped(mapped);
}

struct NetlinkSocket::Answer {
  bool finished = false;     // acknowledged or NLMSG_DONE
  bool interrupted = false;  // NLM_F_DUMP_INTR: the tables changed while they were being dumped
};

Result<NetlinkSocket> NetlinkSocket::open(int protocol) {
  NetlinkSocket socket(nl_socket_alloc());
  if (socket.get() == nullptr) return fail("netlink socket", ENOMEM);
  // A negative result of libnl is its own numbering: errno of the failed system call is what a person can use.
  errno = 0;
  if (nl_connect(socket.get(), protocol) < 0) return fail("open netlink socket", errno == 0 ? EPROTO : errno);
  const int on = 1;
  // Only better texts: kernels that lack it still answer.
  (void)::setsockopt(socket.fd(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  // Filters in dump requests are obeyed (4.20 and newer); the callers check what comes anyway.
  if (protocol == NETLINK_ROUTE) (void)::setsockopt(socket.fd(), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);
  nl_socket_enable_msg_peek(socket.get());
  return socket;
}

Result<void> NetlinkSocket::send(NetlinkMessage& request, std::string_view what) {
  if (!request.ok()) return fail(std::string(what) + ": request does not fit its message");
  if (nl_send_auto(socket_.get(), request.get()) < 0) return fail_errno(std::string(what) + ": send");
  return {};
}

// One datagram. Answers to an earlier request (after an error in the middle of a dump) are skipped by their number.
Result<NetlinkSocket::Answer> NetlinkSocket::receive_answer(std::uint32_t sequence, std::string_view what,
                                                            const Each& each) {
  sockaddr_nl from{};
  unsigned char* buffer = nullptr;
  errno = 0;
  const int received = nl_recv(socket_.get(), &from, &buffer, nullptr);
  const std::unique_ptr<unsigned char, decltype(&std::free)> owned(buffer, &std::free);
  if (received <= 0) return fail(std::string(what) + ": receive", errno == 0 ? EPIPE : errno);
  if (from.nl_pid != 0) return Answer{};

  Answer answer;
  int left = received;
  for (auto* header = reinterpret_cast<nlmsghdr*>(buffer); nlmsg_ok(header, left); header = nlmsg_next(header, &left)) {
    if (header->nlmsg_seq != sequence) continue;
    if ((header->nlmsg_flags & NLM_F_DUMP_INTR) != 0) answer.interrupted = true;
    if (header->nlmsg_type == NLMSG_ERROR || header->nlmsg_type == NLMSG_DONE) {
      answer.finished = true;
      if (header->nlmsg_len < NLMSG_HDRLEN + sizeof(int)) continue;
      const int code = *static_cast<const int*>(nlmsg_data(header));
      if (code == 0 || header->nlmsg_type == NLMSG_DONE) {
        if (code < 0) return fail(std::string(what), -code);
        continue;
      }
      if (header->nlmsg_len < NLMSG_HDRLEN + sizeof(nlmsgerr)) return fail(std::string(what), -code);
      return fail(std::string(what) + kernel_text(header, static_cast<const nlmsgerr*>(nlmsg_data(header))), -code);
    }
    if (header->nlmsg_type >= NLMSG_MIN_TYPE && each) each(header);
  }
  return answer;
}

Result<void> NetlinkSocket::ask(NetlinkMessage& request, std::string_view what, const Each& each) {
  if (request.ok()) nlmsg_hdr(request.get())->nlmsg_flags |= NLM_F_ACK;
  POSTERN_CHECK(send(request, what));
  while (true) {
    POSTERN_TRY(answer, receive_answer(nlmsg_hdr(request.get())->nlmsg_seq, what, each));
    if (answer.finished) return {};
  }
}

Result<void> NetlinkSocket::dump(NetlinkMessage& request, std::string_view what, const Each& each,
                                 const std::function<void()>& restart) {
  for (int attempt = 0; attempt < dump_attempts; ++attempt) {
    restart();
    if (request.ok()) {
      nlmsg_hdr(request.get())->nlmsg_flags |= NLM_F_DUMP;
      nlmsg_hdr(request.get())->nlmsg_seq = NL_AUTO_SEQ;
    }
    POSTERN_CHECK(send(request, what));
    bool interrupted = false;
    for (bool finished = false; !finished;) {
      POSTERN_TRY(answer, receive_answer(nlmsg_hdr(request.get())->nlmsg_seq, what, each));
      finished = answer.finished;
      interrupted = interrupted || answer.interrupted;
    }
    if (!interrupted) return {};
  }
  return fail(std::string(what) + ": the tables kept changing", EINTR);
}

}  // namespace postern::loader
