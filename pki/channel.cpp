#include "pki/channel.hpp"

#include <concepts>
#include <type_traits>

#include <sys/socket.h>

#include "base/secret.hpp"

namespace postern::pki {
namespace {

constexpr std::size_t most_elements = 4096;

template <class T, class... Any>
concept OneOf = (std::same_as<std::remove_const_t<T>, Any> || ...);

// The fields of each struct once, for both directions.
template <class C, OneOf<CertificatePayload> T>
void fields(C& c, T& v) {
  c(v.encoding), c(v.data);
}
template <class C, OneOf<SignQuestion> T>
void fields(C& c, T& v) {
  c(v.trustpoint), c(v.kind), c(v.message), c(v.peer_hashes), c(v.allow_sha1), c(v.rsa_pkcs1);
}
template <class C, OneOf<TrustRule> T>
void fields(C& c, T& v) {
  c(v.trustpoints), c(v.kind), c(v.identity_matches), c(v.maps), c(v.allow_sha1);
}
template <class C, OneOf<ValidateQuestion> T>
void fields(C& c, T& v) {
  c(v.identity_type), c(v.identity), c(v.certificates), c(v.method), c(v.auth), c(v.message), c(v.rules);
}
template <class C, OneOf<Refusal> T>
void fields(C& c, T& v) {
  c(v.kind), c(v.certificate), c(v.summary), c(v.detail), c(v.remedy);
}
template <class C, OneOf<Signed> T>
void fields(C& c, T& v) {
  c(v.method), c(v.data), c(v.certificates), c(v.valid_s), c(v.algorithm);
}
template <class C, OneOf<Validated> T>
void fields(C& c, T& v) {
  c(v.verdicts), c(v.subject), c(v.issuer), c(v.valid_s), c(v.algorithm);
}
template <class C, OneOf<TrustpointFacts> T>
void fields(C& c, T& v) {
  c(v.name), c(v.authorities), c(v.subject);
}
template <class C, OneOf<Facts> T>
void fields(C& c, T& v) {
  c(v.trustpoints);
}

template <class C, OneOf<TlsQuestion> T>
void fields(C& c, T& v) {
  c(v.conversation), c(v.begins), c(v.server), c(v.trustpoint), c(v.verify), c(v.identity_type), c(v.identity);
  c(v.records);
}
template <class C, OneOf<TlsProgress> T>
void fields(C& c, T& v) {
  c(v.records), c(v.finished), c(v.failed), c(v.why), c(v.key), c(v.subject), c(v.valid_s);
}

class Put {
 public:
  template <class T>
    requires(std::integral<T> || std::is_enum_v<T>)
  void operator()(const T& value) {
    for (std::size_t shift = sizeof(T) * 8; shift != 0;)
      out.push_back(static_cast<std::byte>(static_cast<std::uint64_t>(value) >> (shift -= 8)));
  }
  void operator()(const std::string& text) { bytes(as_bytes(text)); }
  void operator()(const Octets& data) { bytes(data); }
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
  Octets out;

 private:
  void bytes(Bytes data) {
    (*this)(static_cast<std::uint32_t>(data.size()));
    out.insert(out.end(), data.begin(), data.end());
  }
};

class Take {
 public:
  explicit Take(Bytes in) : in_(in) {}
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
  void operator()(Octets& data) {
    const Bytes in = bytes();
    data.assign(in.begin(), in.end());
  }
  template <class T>
  void operator()(std::vector<T>& all) {
    const std::uint32_t count = in_.u32();
    if (count > most_elements || count > in_.remaining()) spoil();
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

// The variant's alternative of that number; false: there is none.
template <std::size_t I = 0>
bool take_body(std::size_t kind, Take& take, FrameBody& body) {
  if constexpr (I < std::variant_size_v<FrameBody>) {
    if (kind != I) return take_body<I + 1>(kind, take, body);
    take(body.emplace<I>());
    return true;
  } else {
    return false;
  }
}

}  // namespace

Octets encode(const Frame& frame) {
  Put put;
  put(channel_version);
  put(static_cast<std::uint8_t>(frame.body.index()));
  put(frame.id);
  std::visit([&](const auto& body) { put(body); }, frame.body);
  return std::move(put.out);
}

Result<Frame> decode(Bytes datagram) {
  Take take(datagram);
  std::uint8_t version = 0, kind = 0;
  Frame frame;
  take(version);
  take(kind);
  take(frame.id);
  if (version != channel_version) return fail("pki channel: another version", EPROTO);
  if (!take_body(kind, take, frame.body) || !take.whole())
    return fail("pki channel: a frame that is not whole", EPROTO);
  return frame;
}

Result<void> send_frame(int socket, const Frame& frame) {
  Octets bytes = encode(frame);
  if (bytes.size() > max_frame_bytes) return fail("pki channel: too long", EMSGSIZE);
  const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  const int error = errno;
  wipe(bytes);  // a key of EAP-TLS may be in it
  return sent < 0 ? fail("pki channel", error) : Result<void>();
}

Result<std::optional<Frame>> receive_frame(int socket, std::vector<std::byte>& buffer) {
  buffer.resize(max_frame_bytes);
  const ssize_t got = ::recv(socket, buffer.data(), buffer.size(), MSG_DONTWAIT | MSG_TRUNC);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return std::optional<Frame>();
  if (got < 0) return fail_errno("pki channel");
  if (got == 0) return fail("pki channel: closed", ECONNRESET);
  if (static_cast<std::size_t>(got) > buffer.size()) return fail("pki channel: too long", EMSGSIZE);
  const auto filled = MutableBytes(buffer).first(static_cast<std::size_t>(got));
  auto decoded = decode(filled);
  wipe(filled);
  POSTERN_TRY(frame, std::move(decoded));
  return std::optional<Frame>(std::move(frame));
}

}  // namespace postern::pki
