#include <string>

#include <doctest/doctest.h>

#include "ike/payloads.hpp"
#include "wire.hpp"

namespace postern::ike {
namespace {

using test::octets;
using enum ParseError;

struct Row {
  std::string what;
  std::string hex;
  std::optional<ParseError> error;
  std::string again = {};  // what it is written as, when not as it came
};

void check(PayloadType type, std::span<const Row> rows) {
  for (const Row& row : rows) {
    CAPTURE(row.what);
    const auto payload = parse_payload(type, octets(row.hex));
    REQUIRE(payload.has_value() == !row.error);
    if (row.error) {
      CHECK(payload.error().error == *row.error);
      CHECK(payload.error().payload == type);
    } else {
      CHECK(payload->type == type);
      CHECK(encode_payload(*payload) == octets(row.again.empty() ? row.hex : row.again));
    }
  }
}

const std::string encr = "03 00 000c 01 00 000c 800e 0080", prf = "03 00 0008 02 00 0005",
                  integ = "03 00 0008 03 00 000c", last_group = "00 00 0008 04 00 000e",
                  last_esn = "00 00 0008 05 00 0000";

std::string repeated(const std::string& text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

}  // namespace

TEST_CASE("payloads: SA: proposals, their lengths, markers and SPIs (RFC 7296 3.3.1)") {
  const std::string ike = "01 01 00 04" + encr + prf + integ + last_group;
  const Row rows[] = {
      {"an IKE proposal", "00 00 002c" + ike, {}},
      {"its reserved byte is not looked at", "00 ff 002c" + ike, {}, "00 00 002c" + ike},
      {"length one less", "00 00 002b" + ike, bad_value},
      {"length one more", "00 00 002d" + ike, truncated},
      {"length below its own header", "00 00 0007" + ike, bad_length},
      {"no proposal", "", truncated},
      {"half a header", "00 00 00", truncated},
      {"a last one that says there are more", "02 00 002c" + ike, bad_value},
      {"two, ESP after IKE", "02 00 002c" + ike + "00 00 0020 02 03 04 02 11223344" + encr + last_esn, {}},
      {"the first of two says last", "00 00 002c" + ike + "00 00 0020 02 03 04 02 11223344" + encr + last_esn,
       bad_value},
      {"one transform fewer than announced", "00 00 0024 01 03 04 03 11223344" + encr + last_esn + "", truncated},
      {"one transform more than announced", "00 00 0020 01 03 04 01 11223344" + encr + last_esn, bad_value},
      {"bytes behind the last transform", "00 00 0024 01 03 04 02 11223344" + encr + last_esn + "00000000", bad_length},
      {"IKE rekeyed: 8 bytes of SPI", "00 00 0034 01 01 08 04 1122334455667788" + encr + prf + integ + last_group, {}},
      {"IKE with 4", "00 00 0030 01 01 04 04 11223344" + encr + prf + integ + last_group, bad_value},
      {"ESP with 8", "00 00 0024 01 03 08 02 1122334455667788" + encr + last_esn, bad_value},
      {"ESP with none", "00 00 001c 01 03 00 02" + encr + last_esn, bad_value},
      {"AH with 4", "00 00 001c 01 02 04 02 11223344 0300 0008 0300 000c" + last_esn, {}},
      {"a protocol that we do not know, with any SPI", "00 00 000a 01 07 02 00 1122", {}},
      {"an SPI that is longer than the proposal", "00 00 0008 01 03 04 00", truncated},
      {"64 proposals", repeated("02 00 0008 01 07 00 00", 63) + "00 00 0008 01 07 00 00", {}},
      {"65 proposals", repeated("02 00 0008 01 07 00 00", 64) + "00 00 0008 01 07 00 00", too_many},
      {"128 transforms", "00 00 0408 01 07 00 80" + repeated(prf, 127) + "00 00 0008 02 00 0005", {}},
      {"129 transforms", "00 00 0410 01 07 00 81" + repeated(prf, 128) + "00 00 0008 02 00 0005", too_many},
  };
  check(PayloadType::sa, rows);
}

TEST_CASE("payloads: SA: transforms and attributes (RFC 7296 3.3.2, 3.3.5)") {
  const Row rows[] = {
      {"reserved bytes are not looked at",
       "00 00 0014 01 01 00 01 00 ff 000c 01 ff 000c 800e 0080",
       {},
       "00 00 0014 01 01 00 01 00 00 000c 01 00 000c 800e 0080"},
      {"a middle one that says last", "00 00 0018 01 01 00 02 00 00 0008 02 00 0005" + last_group, bad_value},
      {"a last one that says more", "00 00 0018 01 01 00 02" + prf + prf, bad_value},
      {"the proposals' marker", "00 00 0018 01 01 00 02 02 00 0008 02 00 0005" + last_group, bad_value},
      {"length below its header", "00 00 0010 01 01 00 01 00 00 0007 02 00 0005", bad_length},
      {"length past the proposal", "00 00 0010 01 01 00 01 00 00 0009 02 00 0005", truncated},
      {"an unknown type and id are kept", "00 00 0010 01 01 00 01 00 00 0008 f1 00 fedc", {}},
      {"half an attribute", "00 00 0012 01 01 00 01 00 00 000a 01 00 000c 800e", truncated},
      {"a long attribute past its transform", "00 00 0014 01 01 00 01 00 00 000c 01 00 000c 0007 0001", truncated},
  };
  check(PayloadType::sa, rows);

  struct Attribute {
    const char* what;
    std::string hex;
    std::optional<std::uint16_t> key_bits;
    bool unknown;
  };
  const Attribute attributes[] = {
      {"key length", "00 00 0014 01 01 00 01 00 00 000c 01 00 000c 800e 0100", 256, false},
      {"none", "00 00 0010 01 01 00 01 00 00 0008 01 00 000c", {}, false},
      {"an unknown short one", "00 00 0014 01 01 00 01 00 00 000c 01 00 000c 8011 0100", {}, true},
      {"an unknown long one", "00 00 0017 01 01 00 01 00 00 000f 01 00 000c 0011 0003 010203", {}, true},
      {"key length beside an unknown one", "00 00 0018 01 01 00 01 00 00 0010 01 00 000c 800e 0100 8011 0001", 256,
       true},
      {"key length twice", "00 00 0018 01 01 00 01 00 00 0010 01 00 000c 800e 0100 800e 0080", 256, true},
      {"key length in the long format", "00 00 0016 01 01 00 01 00 00 000e 01 00 000c 000e 0002 0100", {}, true},
  };
  for (const Attribute& row : attributes) {
    CAPTURE(row.what);
    const auto payload = parse_payload(PayloadType::sa, octets(row.hex));
    REQUIRE(payload);
    const Transform& transform = std::get<SaPayload>(payload->body).proposals.at(0).transforms.at(0);
    CHECK(transform.type == TransformType::encryption);
    CHECK(transform.id == 12);
    CHECK(transform.key_bits == row.key_bits);
    CHECK(transform.unknown_attribute == row.unknown);
  }
}

TEST_CASE("payloads: KE and nonce (RFC 7296 3.4, 3.9)") {
  const Row ke[] = {
      {"group 19", "0013 0000 1122", {}},
      {"a group that nobody knows", "fedc 0000 11", {}},
      {"reserved bytes are not looked at", "0013 ffff 1122", {}, "0013 0000 1122"},
      {"no data", "0013 0000", bad_length},
      {"cut short", "0013 00", truncated},
  };
  check(PayloadType::ke, ke);
  const Row nonce[] = {
      {"16 bytes", repeated("5a", 16), {}},
      {"15 bytes", repeated("5a", 15), bad_length},
      {"256 bytes", repeated("5a", 256), {}},
      {"257 bytes", repeated("5a", 257), bad_length},
      {"nothing", "", bad_length},
  };
  check(PayloadType::nonce, nonce);
}

TEST_CASE("payloads: identities and AUTH (RFC 7296 3.5, 3.8)") {
  const Row id[] = {
      {"an IPv4 address", "01 000000 c0000201", {}},
      {"of 5 bytes", "01 000000 c000020101", bad_value},
      {"an IPv6 address", "05 000000 20010db8000000000000000000000001", {}},
      {"of 4 bytes", "05 000000 20010db8", bad_value},
      {"a name", "02 000000 612e62", {}},
      {"reserved bytes are not looked at", "02 ffffff 612e62", {}, "02 000000 612e62"},
      {"a name with its terminator", "02 000000 612e6200", bad_value},
      {"a name of two lines", "03 000000 610a62", bad_value},
      {"an empty name", "02 000000", bad_value},
      {"a key ID may be anything", "0b 000000 000a00", {}},
      {"an unknown type too", "c8 000000 000a00", {}},
      {"cut short", "02 0000", truncated},
  };
  check(PayloadType::id_initiator, id);
  check(PayloadType::id_responder, id);
  CHECK(id_octets({IdType::fqdn, octets("612e62")}) == octets("02 000000 612e62"));

  const Row auth[] = {
      {"a shared key", "02 000000 aabb", {}},
      {"reserved bytes are not looked at", "02 123456 aabb", {}, "02 000000 aabb"},
      {"no data", "02 000000", bad_length},
      {"cut short", "02 00", truncated},
  };
  check(PayloadType::auth, auth);
}

TEST_CASE("payloads: notify (RFC 7296 3.10)") {
  const Row rows[] = {
      {"a flag", "00 00 4007", {}},
      {"its protocol is ignored without an SPI", "01 00 4007", {}, "00 00 4007"},
      {"an unknown protocol too", "7f 00 4007", {}, "00 00 4007"},
      {"an unknown status type with data", "00 00 ffff 0102", {}},
      {"an unknown error type", "00 00 1fff", {}},
      {"cut short", "00 00 40", truncated},
      {"an SPI that is not there", "03 04 4009 112233", truncated},
      {"REKEY_SA of ESP", "03 04 4009 11223344", {}},
      {"with an SPI of 8", "03 08 4009 1122334455667788", bad_value},
      {"without one", "03 00 4009", bad_value},
      {"of IKE, which has no SPI here", "01 08 4009 1122334455667788", bad_value},
      {"INVALID_KE_PAYLOAD names a group", "00 00 0011 0013", {}},
      {"in two bytes", "00 00 0011 13", bad_value},
      {"and no more", "00 00 0011 000013", bad_value},
      {"a cookie of 1", "00 00 4006 01", {}},
      {"a cookie of 64", "00 00 4006" + repeated("01", 64), {}},
      {"a cookie of 0", "00 00 4006", bad_value},
      {"a cookie of 65", "00 00 4006" + repeated("01", 65), bad_value},
      {"a NAT hash", "00 00 4004" + repeated("01", 20), {}},
      {"of 19 bytes", "00 00 4004" + repeated("01", 19), bad_value},
      {"the other NAT hash of 21", "00 00 4005" + repeated("01", 21), bad_value},
      {"UNSUPPORTED_CRITICAL_PAYLOAD names a type", "00 00 0001 35", {}},
      {"and must", "00 00 0001", bad_value},
      {"SET_WINDOW_SIZE", "00 00 4001 00000005", {}},
      {"in four bytes", "00 00 4001 0005", bad_value},
      {"a token of RFC 6290", "00 00 4023" + repeated("01", 16), {}},
      {"of 15 bytes", "00 00 4023" + repeated("01", 15), bad_value},
      {"of 128", "00 00 4023" + repeated("01", 128), {}},
      {"of 129", "00 00 4023" + repeated("01", 129), bad_value},
      {"COOKIE2 of 8", "00 00 4011" + repeated("01", 8), {}},
      {"of 64", "00 00 4011" + repeated("01", 64), {}},
      {"COOKIE2 of 7", "00 00 4011" + repeated("01", 7), bad_value},
      {"of 65", "00 00 4011" + repeated("01", 65), bad_value},
  };
  check(PayloadType::notify, rows);
  const auto ignored = parse_payload(PayloadType::notify, octets("01 00 4007"));
  REQUIRE(ignored);
  CHECK(std::get<NotifyPayload>(ignored->body).protocol == ProtocolId::none);
}

TEST_CASE("payloads: delete (RFC 7296 3.11)") {
  const Row rows[] = {
      {"the IKE SA", "01 00 0000", {}},
      {"its SPI is in the header", "01 08 0001 1122334455667788", bad_value},
      {"two ESP SAs", "03 04 0002 11223344 55667788", {}},
      {"one is missing", "03 04 0002 11223344", truncated},
      {"one is too much", "03 04 0001 11223344 55667788", bad_length},
      {"ESP with SPIs of 8 bytes", "03 08 0001 1122334455667788", bad_value},
      {"ESP with SPIs of none", "03 00 0001", bad_value},
      {"AH", "02 04 0001 11223344", {}},
      {"an unknown protocol", "04 04 0001 11223344", bad_value},
      {"256", "03 04 0100" + repeated("11223344", 256), {}},
      {"257", "03 04 0101" + repeated("11223344", 257), too_many},
      {"cut short", "03 04 00", truncated},
  };
  check(PayloadType::delete_, rows);
}

TEST_CASE("payloads: traffic selectors (RFC 7296 3.13)") {
  const std::string v4 = "07 06 0010 0050 0050 0a010000 0a01ffff";
  const std::string v6 = "08 00 0028 0000 ffff 20010db8000000000000000000000000 20010db80000000000000000ffffffff";
  const Row rows[] = {
      {"IPv4 and IPv6", "02 000000" + v4 + v6, {}},
      {"reserved bytes are not looked at", "01 abcdef" + v4, {}, "01 000000" + v4},
      {"none", "00 000000", bad_value},
      {"one fewer than announced", "02 000000" + v4, truncated},
      {"one more than announced", "01 000000" + v4 + v4, bad_length},
      {"an unknown type is skipped", "02 000000 09 00 0008 01020304" + v4, {}, "01 000000" + v4},
      {"however long", "02 000000 09 00 0004" + v4, {}, "01 000000" + v4},
      {"but its length is believed", "02 000000 09 00 0003" + v4, bad_length},
      {"as far as it goes", "01 000000 09 00 0009 01020304", truncated},
      {"IPv4 with the length of IPv6", "01 000000 07 06 0028" + v6.substr(11), bad_length},
      {"IPv6 with the length of IPv4", "01 000000 08 06 0010 0050 0050 0a010000 0a01ffff", bad_length},
      {"first address above the last", "01 000000 07 06 0010 0050 0050 0a010001 0a010000", bad_value},
      {"first port above the last", "01 000000 07 06 0010 0051 0050 0a010000 0a010000", bad_value},
      {"but OPAQUE", "01 000000 07 06 0010 ffff 0000 0a010000 0a010000", {}},
      {"and near it", "01 000000 07 06 0010 ffff 0001 0a010000 0a010000", bad_value},
      {"v4-mapped addresses are in no packet",
       "02 000000 08 00 0028 0000 ffff 00000000000000000000ffff0a010000 00000000000000000000ffff0a01ffff" + v4,
       {},
       "01 000000" + v4},
      {"64 of them", "40 000000" + repeated(v4, 64), {}},
      {"65 of them", "41 000000" + repeated(v4, 65), too_many},
      {"cut short", "01 0000", truncated},
  };
  check(PayloadType::ts_initiator, rows);
  check(PayloadType::ts_responder, rows);
}

TEST_CASE("payloads: certificates and requests for them (RFC 7296 3.6, 3.7)") {
  const std::string hash = repeated("5a", 20);
  const Row certificates[] = {
      {"X.509", "04 3082", {}},
      {"of an encoding that we do not know", "63 00", {}},
      {"without one", "04", bad_length},
      {"empty", "", truncated},
  };
  check(PayloadType::certificate, certificates);
  const Row requests[] = {
      {"two CAs", "04" + hash + hash, {}},
      {"any CA", "04", {}},
      {"a hash that is cut short", "04" + hash + hash.substr(2), bad_length},
      {"of an encoding that we do not know", "63 00", {}},
      {"empty", "", truncated},
  };
  check(PayloadType::certificate_request, requests);
}

TEST_CASE("payloads: what is only carried") {
  const auto vendor = parse_payload(PayloadType::vendor_id, octets("010203"));
  REQUIRE(vendor);
  CHECK(std::get<VendorIdPayload>(vendor->body).data == octets("010203"));
  for (const PayloadType type : {PayloadType::eap, PayloadType{200}}) {
    const auto raw = parse_payload(type, octets("010203"));
    REQUIRE(raw);
    CHECK(std::holds_alternative<RawPayload>(raw->body));
    CHECK(encode_payload(*raw) == octets("010203"));
  }
}

TEST_CASE("payloads: names") {
  CHECK(text(PayloadType::id_initiator) == "IDi");
  CHECK(text(PayloadType{222}) == "222");
  CHECK(text(NotifyType::no_proposal_chosen) == "NO_PROPOSAL_CHOSEN");
  CHECK(text(NotifyType{44444}) == "44444");
  CHECK(text(ExchangeType::create_child_sa) == "CREATE_CHILD_SA");
  CHECK(text(ProtocolId::esp) == "ESP");
  CHECK(text(AuthMethod::psk) == "PSK");
  CHECK(text(IdType::key_id) == "ID_KEY_ID");
  CHECK(text(ParseFailure{bad_value, PayloadType::sa}) == "SA payload: a field holds what it must not");
  CHECK(text(ParseFailure{truncated, PayloadType::none}) == "message: cut short");
  CHECK(is_error(NotifyType::child_sa_not_found));
  CHECK(!is_error(NotifyType::initial_contact));
}

}  // namespace postern::ike
