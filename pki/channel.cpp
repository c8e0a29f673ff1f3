#include "pki/channel.hpp"

namespace postern::pki {

// The fields of each struct once, for both directions.
template <class C, FieldsOf<CertificatePayload> T>
void fields(C& c, T& v) {
  c(v.encoding), c(v.data);
}
template <class C, FieldsOf<SignQuestion> T>
void fields(C& c, T& v) {
  c(v.trustpoint), c(v.kind), c(v.message), c(v.peer_hashes), c(v.allow_sha1), c(v.rsa_pkcs1), c(v.peer_fetches);
}
template <class C, FieldsOf<TrustRule> T>
void fields(C& c, T& v) {
  c(v.trustpoints), c(v.kind), c(v.identity_matches), c(v.maps), c(v.allow_sha1);
}
template <class C, FieldsOf<ValidateQuestion> T>
void fields(C& c, T& v) {
  c(v.identity_type), c(v.identity), c(v.certificates), c(v.method), c(v.auth), c(v.message), c(v.rules);
  c(v.own_hashes), c(v.peer_said_hashes);
}
template <class C, FieldsOf<Refusal> T>
void fields(C& c, T& v) {
  c(v.kind), c(v.certificate), c(v.summary), c(v.detail), c(v.remedy);
}
template <class C, FieldsOf<Signed> T>
void fields(C& c, T& v) {
  c(v.method), c(v.data), c(v.certificates), c(v.valid_s), c(v.algorithm);
}
template <class C, FieldsOf<Validated> T>
void fields(C& c, T& v) {
  c(v.verdicts), c(v.subject), c(v.issuer), c(v.valid_s), c(v.algorithm);
}
template <class C, FieldsOf<TrustpointFacts> T>
void fields(C& c, T& v) {
  c(v.name), c(v.authorities), c(v.subject);
}
template <class C, FieldsOf<Facts> T>
void fields(C& c, T& v) {
  c(v.trustpoints);
}
template <class C, FieldsOf<TlsQuestion> T>
void fields(C& c, T& v) {
  c(v.conversation), c(v.begins), c(v.server), c(v.trustpoint), c(v.verify), c(v.identity_type), c(v.identity);
  c(v.records);
}
template <class C, FieldsOf<TlsProgress> T>
void fields(C& c, T& v) {
  c(v.key), c(v.records), c(v.finished), c(v.failed), c(v.by_peer), c(v.why), c(v.subject), c(v.valid_s);
}

namespace {

constexpr FrameChannel channel{"pki", channel_version, max_frame_bytes};

}  // namespace

Octets encode(const Frame& frame) {
  const auto* const tls = std::get_if<TlsProgress>(&frame.body);
  if (tls == nullptr) return encode_frame(channel, frame);
  constexpr std::size_t numbers = 64;
  return encode_frame(channel, frame,
                      numbers + tls->key.size() + tls->records.size() + tls->why.size() + tls->subject.size());
}

Result<Frame> decode(Bytes datagram) { return decode_frame<FrameBody>(channel, datagram); }

// The bytes are wiped: an EAP method's key may be among them.
Result<void> send_frame(int socket, const Frame& frame) {
  Octets bytes = encode(frame);
  auto sent = send_frame_bytes(socket, channel, bytes);
  wipe(bytes);
  return sent;
}

Result<std::optional<Frame>> receive_frame(int socket, std::vector<std::byte>& buffer) {
  POSTERN_TRY(bytes, receive_frame_bytes(socket, channel, buffer));
  if (!bytes) return std::optional<Frame>();
  auto frame = decode(*bytes);
  wipe(MutableBytes(buffer).first(bytes->size()));
  if (!frame) return std::unexpected(frame.error());
  return std::optional<Frame>(std::move(*frame));
}

}  // namespace postern::pki
