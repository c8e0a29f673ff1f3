// One netlink socket (libnl's) and one message being built: the transport under netlink.cpp and plain_side.cpp.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>

#include "base/net_types.hpp"
#include "base/result.hpp"

namespace postern::loader {

// A request: netlink header, one family header, attributes. Owner: the builder.
class NetlinkMessage {
 public:
  // `type` as the family numbers it; NLM_F_REQUEST is added to `flags`.
  template <class Header>
  NetlinkMessage(int type, int flags, const Header& header)
      : message_(nlmsg_alloc_simple(type, flags | NLM_F_REQUEST), &nlmsg_free) {
    append(&header, sizeof header);
  }

  NetlinkMessage& put(int attribute, std::span<const std::byte> bytes);
  NetlinkMessage& put_u8(int attribute, std::uint8_t value);
  NetlinkMessage& put_u32(int attribute, std::uint32_t value);
  NetlinkMessage& put_text(int attribute, std::string_view text);        // NUL-terminated
  NetlinkMessage& put_address(int attribute, const IpAddress& address);  // 4 or 16 bytes
  // Puts what `fill` puts into a nested attribute.
  NetlinkMessage& nest(int attribute, const std::function<void(NetlinkMessage&)>& fill);

  [[nodiscard]] nl_msg* get() const { return message_.get(); }
  [[nodiscard]] bool ok() const { return ok_; }

 private:
  void append(const void* bytes, std::size_t size);
  std::unique_ptr<nl_msg, decltype(&nlmsg_free)> message_;
  bool ok_ = true;
};

// The attributes of a received message, by number. Borrows the message.
class Attributes {
 public:
  static constexpr int limit = 128;
  // After a family header of `header_bytes`.
  Attributes(const nlmsghdr* message, std::size_t header_bytes);
  explicit Attributes(const nlattr* nest);

  [[nodiscard]] bool has(int attribute) const { return at(attribute) != nullptr; }
  [[nodiscard]] const nlattr* at(int attribute) const {
    return attribute >= 0 && attribute < limit ? table_[static_cast<std::size_t>(attribute)] : nullptr;
  }
  [[nodiscard]] std::span<const std::byte> bytes(int attribute) const;
  [[nodiscard]] std::string text(int attribute) const;
  [[nodiscard]] std::optional<IpAddress> address(int attribute) const;  // of 4 or 16 bytes
  [[nodiscard]] Attributes nested(int attribute) const { return Attributes(at(attribute)); }
  // The value when the attribute has at least T's size, else `otherwise`.
  template <class T>
  [[nodiscard]] T value(int attribute, T otherwise = {}) const {
    const auto in = bytes(attribute);
    if (in.size() < sizeof(T)) return otherwise;
    T out;
    std::memcpy(&out, in.data(), sizeof out);
    return out;
  }

 private:
  void fill(const nlattr* first, int bytes);
  std::array<const nlattr*, limit> table_{};
};

// Requests and their answers. Not thread-safe. Bound to the network namespace in which it was opened.
class NetlinkSocket {
 public:
  using Each = std::function<void(const nlmsghdr*)>;

  [[nodiscard]] static Result<NetlinkSocket> open(int protocol);
  // Sends and waits for the acknowledgement; `each` sees the messages that come before it.
  [[nodiscard]] Result<void> ask(NetlinkMessage& request, std::string_view what, const Each& each = {});
  // NLM_F_DUMP: begins again, up to 4 times, when the kernel says that the dump was interrupted (`restart` is called
  // first).
  [[nodiscard]] Result<void> dump(NetlinkMessage& request, std::string_view what, const Each& each,
                                  const std::function<void()>& restart);

  [[nodiscard]] int fd() const { return nl_socket_get_fd(socket_.get()); }
  [[nodiscard]] nl_sock* get() const { return socket_.get(); }

 private:
  explicit NetlinkSocket(nl_sock* socket) : socket_(socket, &nl_socket_free) {}
  struct Answer;
  [[nodiscard]] Result<void> send(NetlinkMessage& request, std::string_view what);
  [[nodiscard]] Result<Answer> receive_answer(std::uint32_t sequence, std::string_view what, const Each& each);
  std::unique_ptr<nl_sock, decltype(&nl_socket_free)> socket_;
};

}  // namespace postern::loader
