#include <string>

#include <doctest/doctest.h>

#include "ike/message.hpp"
#include "strongswan.hpp"
#include "wire.hpp"

namespace postern::ike {
namespace {

using test::octets;
using enum ParseError;

const std::string spis = "1111111111111111 0000000000000000";
const std::string nonce_body = "00 00 0014 000102030405060708090a0b0c0d0e0f";

// AES-CBC-128 with HMAC-SHA256-128, as both directions of a test.
crypto::IkeCipher cipher(std::uint8_t integrity_key = 0x43) {
  const Octets encryption(16, std::byte{0x42}), integrity(32, std::byte{integrity_key});
  auto made = crypto::IkeCipher::create({crypto::Cipher::aes_cbc, 128, crypto::Integrity::hmac_sha256_128}, encryption,
                                        integrity);
  REQUIRE(made);
  return std::move(*made);
}

Message informational(std::uint32_t id = 7) {
  return {{0x1122334455667788, 0x99aabbccddeeff00, ExchangeType::informational, true, false, id}, {}};
}

// `plain` as the inside of an Encrypted payload, whose first payload is `first`.
Octets sealed(PayloadType first, const Octets& plain) {
  auto key = cipher();
  const std::size_t body = key.sealed_bytes(plain.size());
  Message empty = informational();
  OctetWriter out;
  out.bytes(encode_message(empty));
  out.u8(static_cast<std::uint8_t>(first));
  out.u8(0);
  out.u16(static_cast<std::uint16_t>(4 + body));
  Octets header = out.take();
  header[16] = std::byte{46};
  store_be32(header.data() + 24, static_cast<std::uint32_t>(header.size() + body));
  const auto protected_part = key.seal(header, plain);
  REQUIRE(protected_part);
  header.insert(header.end(), protected_part->begin(), protected_part->end());
  return header;
}

}  // namespace

TEST_CASE("message: the header (RFC 7296 3.1)") {
  struct Row {
    std::string what;
    std::string hex;
    std::optional<ParseError> error;
  };
  const Row rows[] = {
      {"IKE_SA_INIT without payloads", spis + "00 20 22 08 00000000 0000001c", {}},
      {"another minor version", spis + "00 2f 22 08 00000000 0000001c", {}},
      {"reserved flags, and V", spis + "00 20 22 df 00000000 0000001c", {}},
      {"major version 3", spis + "00 30 22 08 00000000 0000001c", unsupported_version},
      {"major version 1", spis + "00 10 22 08 00000000 0000001c", bad_value},
      {"an unknown exchange is the caller's to judge", spis + "00 20 f0 08 00000000 0000001c", {}},
      {"a length below the datagram's", spis + "00 20 22 08 00000000 0000001c 00", bad_length},
      {"a length above the datagram's", spis + "00 20 22 08 00000000 0000001d", truncated},
      {"27 bytes", spis + "00 20 22 08 00000000 00001c", truncated},
      {"nothing", "", truncated},
      {"no initiator SPI", "0000000000000000 0000000000000000 00 20 22 08 00000000 0000001c", bad_value},
      {"but INFORMATIONAL outside an SA", "0000000000000000 0000000000000000 00 20 25 08 00000000 0000001c", {}},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    const auto header = parse_header(octets(row.hex));
    REQUIRE(header.has_value() == !row.error);
    if (row.error) CHECK(header.error().error == *row.error);
    const auto message = parse_message(octets(row.hex));
    REQUIRE(message.has_value() == !row.error);
    if (row.error) CHECK(message.error().error == *row.error);
  }
  const auto header = parse_header(octets("1111111111111111 2222222222222222 00 20 24 20 01020304 0000001c"));
  REQUIRE(header);
  CHECK(*header ==
        Header{0x1111111111111111, 0x2222222222222222, ExchangeType::create_child_sa, false, true, 0x01020304});
}

TEST_CASE("message: the chain of payloads (RFC 7296 2.5, 3.2)") {
  struct Row {
    std::string what;
    const char* first;
    std::string chain;
    std::optional<ParseFailure> failure;
    std::size_t payloads = 0;
  };
  const auto failure = [](ParseError error, int type) {
    return std::optional(ParseFailure{error, PayloadType{static_cast<std::uint8_t>(type)}});
  };
  std::string many, too_much;
  for (int i = 0; i < 63; ++i) many += "2b 00 0004";
  too_much = "2b 00 0004" + many + "00 00 0004";
  many += "00 00 0004";
  const Row rows[] = {
      {"one", "28", nonce_body, {}, 1},
      {"reserved bits of the payload header", "28", "00 7f" + nonce_body.substr(5), {}, 1},
      {"the critical bit of a known type", "28", "00 80" + nonce_body.substr(5), {}, 1},
      {"of CP too", "2f", "00 80 0008 01000000", {}, 1},
      {"of EAP too, which we only carry", "30", "00 80 0005 01", {}, 1},
      {"an unknown type", "c8", "28 00 0005 01" + nonce_body, {}, 2},
      {"an unknown type, critical", "c8", "28 80 0005 01" + nonce_body, failure(unsupported_critical, 200), 0},
      {"behind a known one", "28", "31" + nonce_body.substr(2) + "00 80 0004", failure(unsupported_critical, 49), 0},
      {"a fragment, critical", "35", "00 80 0008 00010001", failure(unsupported_critical, 53), 0},
      {"a length below its header", "28", "00 00 0003", failure(bad_length, 40), 0},
      {"a length past the end", "28", "00 00 0015" + nonce_body.substr(10), failure(truncated, 40), 0},
      {"no payload where one is announced", "28", "", failure(truncated, 40), 0},
      {"bytes behind the last", "28", nonce_body + "00", failure(bad_length, 0), 0},
      {"a payload that is wrong inside", "28", "00 00 0005 01", failure(bad_length, 40), 0},
      {"Encrypted where none may be", "2e", "00 00 0004", failure(bad_value, 46), 0},
      {"64", "2b", many, {}, 64},
      {"65", "2b", too_much, failure(too_many, 43), 0},
  };
  for (const Row& row : rows) {
    CAPTURE(row.what);
    Octets datagram = octets(spis + row.first + "20 22 08 00000000 00000000" + row.chain);
    store_be32(datagram.data() + 24, static_cast<std::uint32_t>(datagram.size()));
    const auto message = parse_message(datagram);
    REQUIRE(message.has_value() == !row.failure);
    if (row.failure) {
      CHECK(message.error().error == row.failure->error);
      CHECK(message.error().payload == row.failure->payload);
    } else {
      CHECK(message->payloads.size() == row.payloads);
      const auto again = parse_message(encode_message(*message));
      REQUIRE(again);
      CHECK(encode_message(*again) == encode_message(*message));
    }
    // The same chain inside an Encrypted payload is judged alike.
    const auto first = PayloadType{static_cast<std::uint8_t>(octets(row.first)[0])};
    const auto opened = open_message(sealed(first, octets(row.chain)), cipher());
    REQUIRE(opened.has_value() == !row.failure);
    if (row.failure) CHECK(opened.error().error == row.failure->error);
  }
}

TEST_CASE("message: finding and adding payloads") {
  Message message = informational();
  CHECK(message.find<SaPayload>(PayloadType::sa) == nullptr);
  CHECK(message.error() == nullptr);
  message.add(PayloadType::nonce, NoncePayload{Octets(16)})
      .add_notify(NotifyType::initial_contact)
      .add_notify(NotifyType::ts_unacceptable)
      .add_notify(NotifyType::rekey_sa, {}, ProtocolId::esp, octets("01020304"));
  CHECK(message.find<NoncePayload>(PayloadType::nonce)->data.size() == 16);
  CHECK(message.find<SaPayload>(PayloadType::nonce) == nullptr);
  CHECK(message.error()->type == NotifyType::ts_unacceptable);
  CHECK(message.notify(NotifyType::rekey_sa)->protocol == ProtocolId::esp);
  CHECK(message.notify(NotifyType::cookie) == nullptr);
}

TEST_CASE("message: sealed and opened; every changed byte is noticed") {
  auto key = cipher();
  Message message = informational();
  message.add(PayloadType::delete_, DeletePayload{ProtocolId::esp, {0x11223344}});
  const auto datagram = seal_message(message, key);
  REQUIRE(datagram);
  const auto opened = open_message(*datagram, key);
  REQUIRE(opened);
  CHECK(opened->header == message.header);
  CHECK(opened->find<DeletePayload>(PayloadType::delete_)->spis == std::vector<std::uint32_t>{0x11223344});
  CHECK(parse_message(*datagram).error().payload == PayloadType::encrypted);

  for (std::size_t at = 0; at < datagram->size(); ++at) {
    CAPTURE(at);
    Octets changed = *datagram;
    changed[at] ^= std::byte{0x40};
    const auto refused = open_message(changed, key);
    REQUIRE(!refused);
    // Nothing in it may be believed.
    CHECK((refused.error().error == not_authentic || refused.error().error == not_protected));
  }
  for (std::size_t size = 0; size < datagram->size(); ++size)
    CHECK(open_message(Bytes(*datagram).first(size), key).error().error == not_protected);
  CHECK(open_message(*datagram, cipher(0x44)).error().error == not_authentic);
}

TEST_CASE("message: an Encrypted payload is the first and the last (RFC 7296 3.14)") {
  auto key = cipher();
  const auto empty = seal_message(informational(), key);
  REQUIRE(empty);
  const auto opened = open_message(*empty, key);
  REQUIRE(opened);
  CHECK(opened->payloads.empty());

  // Bytes behind it, in a message whose length counts them.
  Octets longer = *empty;
  longer.insert(longer.end(), 4, std::byte{0});
  store_be32(longer.data() + 24, static_cast<std::uint32_t>(longer.size()));
  CHECK(open_message(longer, key).error().error == not_protected);
  // Another payload before it.
  Message plain = informational();
  plain.add_notify(NotifyType::initial_contact);
  CHECK(open_message(encode_message(plain), key).error().error == not_protected);
  CHECK(open_message(encode_message(informational()), key).error().error == not_protected);
  // More than a datagram holds.
  Message huge = informational();
  for (int i = 0; i < 2; ++i) huge.add(PayloadType::vendor_id, VendorIdPayload{Octets(33000)});
  CHECK(!seal_message(huge, key));
}

TEST_CASE("message: strongSwan's IKE_SA_INIT is written as it was read") {
  for (const auto* run : {&strongswan::cbc(), &strongswan::gcm()}) {
    CAPTURE(run->name);
    for (const auto index : {strongswan::init_request, strongswan::init_response}) {
      const Octets datagram = octets(run->messages[index]);
      const auto message = parse_message(datagram);
      REQUIRE(message);
      CHECK(message->header.response == (index == strongswan::init_response));
      CHECK(message->find<SaPayload>(PayloadType::sa)->proposals.size() == 1);
      CHECK(message->find<KePayload>(PayloadType::ke)->group == run->suite.group);
      CHECK(message->notify(NotifyType::fragmentation_supported) != nullptr);
      CHECK(encode_message(*message) == datagram);
    }
  }
}

}  // namespace postern::ike
