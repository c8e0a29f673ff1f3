// EAP packets of a peer and of a server. The first byte chooses whose, the second the methods; each further packet has
// its length in front. Identifiers are set right where the second byte says so, so that what only a patient peer can
// send is reached. Where postern-pki is asked, the next byte is its answer. An end says how it goes on with every
// packet, never twice after its end, never that it is done without the password, none of which is among the bytes, or
// TLS's own word; and TLS is never given more than its bound.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "ike/eap_peer.hpp"

namespace postern::ike {
namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

EapRandom counting() {
  return [n = std::uint8_t{0}](MutableBytes out) mutable -> Result<void> {
    for (std::byte& b : out) b = static_cast<std::byte>(n++);
    return {};
  };
}

void check_codec(Bytes packet) {
  const auto parsed = parse_eap(packet);
  if (!parsed) return;
  const Octets again = encode_eap(*parsed);
  require(std::ranges::equal(again, packet));
}

// What TLS makes of a message; and whether it has ever come to its end.
class Tls {
 public:
  template <class End>
  EapStep settled(End& end, EapStep step, ByteReader& in) {
    if (step.kind != EapStep::Kind::ask) return step;
    require(step.question && step.question->records.size() <= max_eap_tls_bytes);
    const std::uint8_t how = in.remaining() == 0 ? std::uint8_t{0} : in.u8();
    pki::TlsProgress progress;
    progress.finished = how % 4 == 1;
    progress.failed = how % 4 == 2;
    progress.by_peer = how % 8 == 2;
    progress.records = Octets(std::size_t{how / 8U} * 100);
    if (progress.finished) progress.key = Secret::copy_of(as_bytes(key));
    finished_ |= progress.finished;
    step = end.on_tls(progress);
    require(step.kind != EapStep::Kind::ask);
    return step;
  }
  [[nodiscard]] bool finished() const { return finished_; }

 private:
  static constexpr std::string_view key = "what the two ends of a handshake have in common";
  bool finished_ = false;
};

constexpr std::string_view long_password = "thirty-two bytes that are no luck";

void run_server(std::uint8_t choice, ByteReader in) {
  EapServer::Setup setup;
  if ((choice & 1) != 0) setup.methods.push_back(EapType::mschapv2);
  if ((choice & 2) != 0) setup.methods.push_back(EapType::md5);
  if ((choice & 32) != 0) setup.methods.push_back(EapType::tls);
  setup.context.tls.identity = octets_of(as_bytes("user"));
  setup.query_identity = (choice & 4) != 0;
  setup.context.random = counting();
  setup.context.password = [](std::string_view name) {
    return name.size() % 2 == 0 ? std::optional(Secret::copy_of(as_bytes(long_password))) : std::nullopt;
  };
  if ((choice & 8) != 0) setup.context.user = "user";
  EapServer server(std::move(setup));
  Tls tls;
  EapStep step = server.start();
  for (std::size_t rounds = 0; in.remaining() != 0; ++rounds) {
    require(rounds <= max_eap_rounds || step.kind == EapStep::Kind::failed);
    Octets packet = octets_of(in.take(std::min<std::size_t>(in.u8(), in.remaining())));
    if ((choice & 16) != 0 && packet.size() >= 4) {
      packet[0] = std::byte{2};
      packet[1] = step.packet[1];
      store_be16(packet.data() + 2, static_cast<std::uint16_t>(packet.size()));
    }
    check_codec(packet);
    const bool over = step.kind != EapStep::Kind::more;
    step = tls.settled(server, server.on_packet(packet), in);
    require(!over || step.kind == EapStep::Kind::failed);
    require(step.kind != EapStep::Kind::done || tls.finished());
    require(parse_eap(step.packet).has_value());
  }
  require(server.key().empty() || tls.finished());
}

void run_peer(std::uint8_t choice, ByteReader in) {
  EapPeer::Setup setup;
  if ((choice & 1) != 0) setup.methods.push_back(EapType::mschapv2);
  if ((choice & 2) != 0) setup.methods.push_back(EapType::md5);
  if ((choice & 32) != 0) setup.methods.push_back(EapType::tls);
  setup.context = {counting(), "user", Secret::copy_of(as_bytes(long_password))};
  EapPeer peer(std::move(setup));
  Tls tls;
  EapStep step;
  while (in.remaining() != 0) {
    Octets packet = octets_of(in.take(std::min<std::size_t>(in.u8(), in.remaining())));
    if ((choice & 16) != 0 && packet.size() >= 4)
      store_be16(packet.data() + 2, static_cast<std::uint16_t>(packet.size()));
    check_codec(packet);
    const bool over = step.kind != EapStep::Kind::more;
    step = tls.settled(peer, peer.on_packet(packet), in);
    require(!over || step.kind == EapStep::Kind::failed);
    if (step.kind == EapStep::Kind::more) require(parse_eap(step.packet)->code == EapCode::response);
    // Only EAP-MD5 takes the server's word for it.
    if (step.kind == EapStep::Kind::done) require(peer.method() == EapType::md5 || tls.finished());
  }
}

}  // namespace
}  // namespace postern::ike

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  postern::ByteReader in(std::as_bytes(std::span(data, size)));
  const std::uint8_t whose = in.u8(), choice = in.u8();
  if (!in.ok()) return 0;
  if (whose % 2 == 0)
    postern::ike::run_server(choice, in);
  else
    postern::ike::run_peer(choice, in);
  return 0;
}
