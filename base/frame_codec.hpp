// Typed frames of the channels between our processes: a SOCK_SEQPACKET pair that posternd makes and gives each an end
// of. One datagram a frame: version, kind, id, and the fields of one struct in order. Numbers are big-endian; lists and
// texts have their length in front. A room lists the fields of its structs once, for both directions, as
// `template <class C, FieldsOf<T> V> void fields(C& c, V& v)` in the struct's own namespace. What is read is checked:
// the other end may be a process that a peer has taken over.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "base/secret.hpp"

namespace postern {

inline constexpr std::size_t most_frame_elements = 4096;

// `const T` when it is written, `T` when it is read.
template <class T, class... Any>
concept FieldsOf = (std::same_as<std::remove_const_t<T>, Any> || ...);

// A question has the id that its answer comes back with; what comes unasked has 0.
template <class Body>
struct NumberedFrame {
  std::uint64_t id = 0;
  Body body;
};

class FrameWriter {
 public:
  template <class T>
    requires(std::integral<T> || std::is_enum_v<T>)
  void operator()(const T& value) {
    for (std::size_t shift = sizeof(T) * 8; shift != 0;)
      out.push_back(static_cast<std::byte>(static_cast<std::uint64_t>(value) >> (shift -= 8)));
  }
  void operator()(const std::string& text) { bytes(as_bytes(text)); }
  void operator()(const std::vector<std::byte>& data) { bytes(data); }
  void operator()(const Secret& key) { bytes(key.bytes()); }
  template <class T>
  void operator()(const std::vector<T>& all) {
    (*this)(static_cast<std::uint32_t>(all.size()));
    for (const T& one : all) (*this)(one);
  }
  template <class T>
  void operator()(const std::optional<T>& one) {
    (*this)(static_cast<std::uint8_t>(one.has_value()));
    if (one) (*this)(*one);
  }
  template <class T>
    requires std::is_class_v<T>
  void operator()(const T& object) {
    fields(*this, object);
  }
  std::vector<std::byte> out;

 private:
  void bytes(Bytes data) {
    (*this)(static_cast<std::uint32_t>(data.size()));
    out.insert(out.end(), data.begin(), data.end());
  }
};

class FrameReader {
 public:
  explicit FrameReader(Bytes in) : in_(in) {}
  template <class T>
    requires(std::integral<T> || std::is_enum_v<T>)
  void operator()(T& value) {
    std::uint64_t number = 0;
    for (const std::byte b : in_.take(sizeof(T))) number = number << 8 | std::to_integer<std::uint64_t>(b);
    if (std::same_as<T, bool> && number > 1) spoil();
    value = static_cast<T>(number);
  }
  void operator()(std::string& text) {
    const Bytes data = bytes();
    text.assign(reinterpret_cast<const char*>(data.data()), data.size());
  }
  void operator()(std::vector<std::byte>& data) {
    const Bytes in = bytes();
    data.assign(in.begin(), in.end());
  }
  void operator()(Secret& key) { key = Secret::copy_of(bytes()); }
  template <class T>
  void operator()(std::vector<T>& all) {
    const std::uint32_t count = in_.u32();
    if (count > most_frame_elements || count > in_.remaining()) spoil();
    all.clear();
    for (std::uint32_t i = 0; i < count && in_.ok(); ++i) (*this)(all.emplace_back());
  }
  template <class T>
  void operator()(std::optional<T>& one) {
    one.reset();
    bool there = false;
    (*this)(there);
    if (there) (*this)(one.emplace());
  }
  template <class T>
    requires std::is_class_v<T>
  void operator()(T& object) {
    fields(*this, object);
  }
  [[nodiscard]] bool whole() const { return in_.ok() && in_.remaining() == 0; }

 private:
  // Not what anybody writes: the frame is not whole.
  void spoil() { in_.skip(in_.remaining() + 1); }
  Bytes bytes() {
    const std::uint32_t size = in_.u32();
    return in_.take(size);
  }
  ByteReader in_;
};

// What a channel is called in errors, and its bounds.
struct FrameChannel {
  const char* name;
  std::uint8_t version;
  std::size_t max_bytes;
};

// `expected`: bytes that are set aside at once, so that a frame with a key in it is in one place, where it can be
// wiped.
template <class Body>
[[nodiscard]] std::vector<std::byte> encode_frame(const FrameChannel& channel, const NumberedFrame<Body>& frame,
                                                  std::size_t expected = 0) {
  FrameWriter put;
  put.out.reserve(expected);
  put(channel.version);
  put(static_cast<std::uint8_t>(frame.body.index()));
  put(frame.id);
  std::visit([&](const auto& body) { put(body); }, frame.body);
  return std::move(put.out);
}

// The variant's alternative of that number; false: there is none.
template <std::size_t I = 0, class Body>
bool take_frame_body(std::size_t kind, FrameReader& take, Body& body) {
  if constexpr (I < std::variant_size_v<Body>) {
    if (kind != I) return take_frame_body<I + 1>(kind, take, body);
    take(body.template emplace<I>());
    return true;
  } else {
    return false;
  }
}

// Error: not whole, not of this version, or with bytes left over.
template <class Body>
[[nodiscard]] Result<NumberedFrame<Body>> decode_frame(const FrameChannel& channel, Bytes datagram) {
  FrameReader take(datagram);
  std::uint8_t version = 0, kind = 0;
  NumberedFrame<Body> frame;
  take(version);
  take(kind);
  take(frame.id);
  if (version != channel.version) return fail(std::string(channel.name) + " channel: another version", EPROTO);
  if (!take_frame_body(kind, take, frame.body) || !take.whole())
    return fail(std::string(channel.name) + " channel: a frame that is not whole", EPROTO);
  return frame;
}

// One datagram, never waiting: EAGAIN when the socket is full.
[[nodiscard]] Result<void> send_frame_bytes(int socket, const FrameChannel& channel, Bytes bytes);
// Its bytes, in `buffer`. Nothing: none is there. Error: the other end is gone, or sends what is too long.
[[nodiscard]] Result<std::optional<Bytes>> receive_frame_bytes(int socket, const FrameChannel& channel,
                                                               std::vector<std::byte>& buffer);

}  // namespace postern
