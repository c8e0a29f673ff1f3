// RFC 7383: messages in fragments and back, and what a peer or a stranger may try with them.
#include <algorithm>
#include <numeric>
#include <random>

#include <doctest/doctest.h>

#include "ike/reassembly.hpp"

using namespace postern;
using namespace postern::ike;

namespace {

constexpr std::size_t plenty = 65535;

crypto::IkeCipher cipher_of(crypto::Cipher cipher, std::uint16_t bits, crypto::Integrity integrity) {
  const crypto::Transform transform{cipher, bits, integrity};
  const auto sizes = crypto::ike_sizes_of(transform);
  REQUIRE(sizes);
  return *crypto::IkeCipher::create(transform, Octets(sizes->key_bytes, std::byte{1}),
                                    Octets(sizes->integrity_key_bytes, std::byte{2}));
}
crypto::IkeCipher cbc() { return cipher_of(crypto::Cipher::aes_cbc, 128, crypto::Integrity::hmac_sha256_128); }
crypto::IkeCipher gcm() { return cipher_of(crypto::Cipher::aes_gcm_16, 256, crypto::Integrity::none); }

Message message_of(std::size_t bytes, std::uint32_t id = 7) {
  Message out{{1, 2, ExchangeType::ike_auth, true, false, id}, {}};
  out.add(PayloadType::vendor_id, VendorIdPayload{Octets(3, std::byte{9})});
  Octets data(bytes);
  for (std::size_t i = 0; i < bytes; ++i) data[i] = static_cast<std::byte>(i);
  for (std::size_t at = 0; at < bytes; at += 1000)
    out.add(PayloadType::vendor_id,
            VendorIdPayload{Octets(data.begin() + static_cast<std::ptrdiff_t>(at),
                                   data.begin() + static_cast<std::ptrdiff_t>(std::min(bytes, at + 1000)))});
  return out;
}

std::vector<Octets> cut(const Message& message, crypto::IkeCipher& cipher, std::size_t most) {
  auto out = seal_message_within(message, cipher, most);
  REQUIRE(out);
  return std::move(*out);
}

TEST_CASE(
    "RFC 7383 §2.5: no datagram is longer than wanted, none is shorter than it need be, and what fits stays whole") {
  for (auto* const make : {&cbc, &gcm}) {
    crypto::IkeCipher cipher = make();
    for (std::size_t most = 200; most < 1500; most += 61) {
      CAPTURE(most);
      const Message message = message_of(4000);
      const auto datagrams = cut(message, cipher, most);
      REQUIRE(datagrams.size() > 1);
      Reassembly gathered;
      for (std::size_t i = 0; i < datagrams.size(); ++i) {
        CHECK(datagrams[i].size() <= most);
        if (i + 1 < datagrams.size()) CHECK(datagrams[i].size() + cipher.sizes().block_bytes > most);
        const auto place = fragment_number(datagrams[i]);
        REQUIRE(place);
        CHECK(place->number == i + 1);
        CHECK(place->total == datagrams.size());
        CHECK_FALSE(open_message(datagrams[i], cipher));  // no Encrypted payload
        const auto one = open_fragment(datagrams[i], cipher);
        REQUIRE(one);
        CHECK(one->first_inside == (i == 0 ? PayloadType::vendor_id : PayloadType::none));
        const auto whole = gathered.take(datagrams[i], cipher, plenty);
        REQUIRE(whole.has_value() == (i + 1 == datagrams.size()));
        if (!whole) continue;
        REQUIRE(*whole);
        CHECK((*whole)->header == message.header);
        CHECK(encode_message(**whole) == encode_message(message));
        CHECK(gathered.first_datagram() == datagrams.front());
        CHECK(gathered.bytes() == 0);
      }
    }
    const auto fits = cut(message_of(10), cipher, 1400);
    REQUIRE(fits.size() == 1);
    CHECK(open_message(fits[0], cipher));
    CHECK_FALSE(fragment_number(fits[0]));
  }
  auto cipher = cbc();
  CHECK_FALSE(seal_message_within(message_of(500), cipher, 60));     // nothing fits beside the headers
  CHECK_FALSE(seal_message_within(message_of(60000), cipher, 200));  // more fragments than anybody takes
}

TEST_CASE("RFC 7383 §2.6: in any order, each counts once") {
  auto cipher = gcm();
  auto datagrams = cut(message_of(6000), cipher, 400);
  std::mt19937 random(3);
  for (int round = 0; round < 20; ++round) {
    std::ranges::shuffle(datagrams, random);
    Reassembly gathered;
    for (std::size_t i = 0; i < datagrams.size(); ++i) {
      const auto whole = gathered.take(datagrams[i], cipher, plenty);
      CHECK(whole.has_value() == (i + 1 == datagrams.size()));
      const std::size_t bytes = gathered.bytes();
      if (i + 1 < datagrams.size()) {
        CHECK_FALSE(gathered.take(datagrams[i], cipher, plenty));
        CHECK(gathered.bytes() == bytes);
      }
    }
  }
}

TEST_CASE("RFC 7383 §2.6: nothing forged is kept") {
  auto cipher = gcm();
  const auto datagrams = cut(message_of(3000), cipher, 500);
  Reassembly gathered;
  for (std::size_t i = 0; i < datagrams.front().size(); ++i) {
    Octets bad = datagrams.front();
    bad[i] ^= std::byte{0x10};
    CHECK_FALSE(gathered.take(bad, cipher, plenty));
  }
  CHECK(gathered.bytes() == 0);
  // Another's key.
  auto other = cipher_of(crypto::Cipher::aes_gcm_16, 128, crypto::Integrity::none);
  for (const Octets& one : datagrams) CHECK_FALSE(gathered.take(one, other, plenty));
  CHECK(gathered.bytes() == 0);
  // A forged one takes no true one's place.
  Octets bad = datagrams[1];
  bad.back() ^= std::byte{1};
  for (std::size_t i = 0; i < datagrams.size(); ++i) {
    if (i == 1) CHECK_FALSE(gathered.take(bad, cipher, plenty));
    CHECK(gathered.take(datagrams[i], cipher, plenty).has_value() == (i + 1 == datagrams.size()));
  }
}

TEST_CASE("RFC 7383 §2.6: numbers that cannot be, and payloads beside the fragment") {
  auto cipher = gcm();
  const Octets good = cut(message_of(3000), cipher, 500).front();
  const auto with = [&](std::size_t at, std::uint16_t value) {
    Octets bad = good;
    store_be16(bad.data() + at, value);
    return bad;
  };
  CHECK(fragment_number(good));
  CHECK_FALSE(fragment_number(with(32, 0)));    // number 0
  CHECK_FALSE(fragment_number(with(34, 0)));    // of none
  CHECK_FALSE(fragment_number(with(32, 100)));  // behind the last
  CHECK_FALSE(fragment_number(with(30, 20)));   // something would follow
  CHECK_FALSE(fragment_number(Bytes(good).first(35)));
  // Really sealed, but with an IKE header that names another payload first: whole and fragment in one.
  Octets mixed = good;
  mixed[16] = static_cast<std::byte>(PayloadType::notify);
  CHECK_FALSE(fragment_number(mixed));
  CHECK_FALSE(open_message(mixed, cipher));
}

TEST_CASE(
    "RFC 7383 §2.6: a message that is cut anew, into more pieces, takes the place; into fewer, it is passed over") {
  auto cipher = gcm();
  const auto wide = cut(message_of(3000), cipher, 900), narrow = cut(message_of(3000), cipher, 400);
  Reassembly gathered;
  CHECK_FALSE(gathered.take(wide[0], cipher, plenty));
  CHECK_FALSE(gathered.take(narrow[1], cipher, plenty));
  CHECK_FALSE(gathered.take(wide[1], cipher, plenty));
  CHECK_FALSE(gathered.take(wide[2], cipher, plenty));
  CHECK_FALSE(gathered.take(wide[3], cipher, plenty));
  for (std::size_t i = 0; i < narrow.size(); ++i) {
    if (i == 1) continue;
    CHECK(gathered.take(narrow[i], cipher, plenty).has_value() == (i + 1 == narrow.size()));
  }
}

TEST_CASE("a peer may have us keep so many bytes and no more, and one message at a time") {
  auto cipher = gcm();
  const auto datagrams = cut(message_of(6000), cipher, 500);
  Reassembly gathered;
  for (const Octets& one : datagrams) CHECK_FALSE(gathered.take(one, cipher, 5000));
  CHECK(gathered.bytes() <= 5000);
  gathered.clear();
  // Of another message: what was begun goes.
  const auto others = cut(message_of(3000, 8), cipher, 500);
  CHECK_FALSE(gathered.take(datagrams[0], cipher, plenty));
  for (std::size_t i = 0; i < others.size(); ++i)
    CHECK(gathered.take(others[i], cipher, plenty).has_value() == (i + 1 == others.size()));
  // A total that no message needs.
  Octets many = datagrams[0];
  store_be16(many.data() + 34, max_fragments + 1);
  CHECK(fragment_number(many));
  CHECK_FALSE(gathered.take(many, cipher, plenty));
}

}  // namespace
