// EAP packets of a peer and of a server. The first byte chooses whose, the second the methods; each further packet has
// its length in front. Identifiers are set right where the second byte says so, so that what only a patient peer can
// send is reached. An end says how it goes on with every packet, never twice after its end, and never that it is done
// without the password: none of ours is among the bytes.
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

constexpr std::string_view long_password = "thirty-two bytes that are no luck";

void run_server(std::uint8_t choice, ByteReader in) {
  EapServer::Setup setup;
  if ((choice & 1) != 0) setup.methods.push_back(EapType::mschapv2);
  if ((choice & 2) != 0) setup.methods.push_back(EapType::md5);
  setup.query_identity = (choice & 4) != 0;
  setup.context.random = counting();
  setup.context.password = [](std::string_view name) {
    return name.size() % 2 == 0 ? std::optional(Secret::copy_of(as_bytes(long_password))) : std::nullopt;
  };
  if ((choice & 8) != 0) setup.context.user = "user";
  EapServer server(std::move(setup));
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
    step = server.on_packet(packet);
    require(!over || step.kind == EapStep::Kind::failed);
    require(step.kind != EapStep::Kind::done);
    require(parse_eap(step.packet).has_value());
  }
  require(server.key().empty());
}

void run_peer(std::uint8_t choice, ByteReader in) {
  EapPeer::Setup setup;
  if ((choice & 1) != 0) setup.methods.push_back(EapType::mschapv2);
  if ((choice & 2) != 0) setup.methods.push_back(EapType::md5);
  setup.context = {counting(), "user", Secret::copy_of(as_bytes(long_password))};
  EapPeer peer(std::move(setup));
  EapStep step;
  while (in.remaining() != 0) {
    Octets packet = octets_of(in.take(std::min<std::size_t>(in.u8(), in.remaining())));
    if ((choice & 16) != 0 && packet.size() >= 4)
      store_be16(packet.data() + 2, static_cast<std::uint16_t>(packet.size()));
    check_codec(packet);
    const bool over = step.kind != EapStep::Kind::more;
    step = peer.on_packet(packet);
    require(!over || step.kind == EapStep::Kind::failed);
    if (step.kind == EapStep::Kind::more) require(parse_eap(step.packet)->code == EapCode::response);
    // Only EAP-MD5 takes the server's word for it.
    if (step.kind == EapStep::Kind::done) require(peer.method() == EapType::md5);
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
