#include "pki/bundle.hpp"

#include <optional>

namespace postern::pki {
namespace {

constexpr std::uint8_t sequence_tag = 0x30, certificate_tag = 0xa0, crl_tag = 0xa1;

struct Element {
  std::uint8_t tag = 0;
  Bytes content;
};

// X.690 §10.1: the definite form, in as few octets as will do. Nothing: it is not.
std::optional<std::size_t> length_of(ByteReader& in) {
  const std::uint8_t first = in.u8();
  if (first < 0x80) return first;
  const std::size_t octets = first & 0x7fU;
  if (octets < 1 || octets > 3) return std::nullopt;
  const std::size_t length = octets == 1 ? in.u8() : octets == 2 ? in.u16() : in.u24();
  const std::size_t least = octets == 1 ? 0x80 : std::size_t{1} << (8 * (octets - 1));
  return length >= least ? std::optional(length) : std::nullopt;
}

std::optional<Element> next_element(ByteReader& in) {
  Element out;
  out.tag = in.u8();
  const auto length = length_of(in);
  if (!length) return std::nullopt;
  out.content = in.take(*length);
  return in.ok() ? std::optional(out) : std::nullopt;
}

void put(Octets& out, std::uint8_t tag, Bytes content) {
  out.push_back(std::byte{tag});
  const std::size_t size = content.size();
  const int octets = size < 0x80 ? 0 : size < 0x100 ? 1 : size < 0x10000 ? 2 : 3;
  if (octets != 0) out.push_back(static_cast<std::byte>(0x80 | octets));
  for (int shift = octets == 0 ? 0 : 8 * (octets - 1); shift >= 0; shift -= 8)
    out.push_back(static_cast<std::byte>(size >> shift));
  out.insert(out.end(), content.begin(), content.end());
}

}  // namespace

Result<std::vector<Bytes>> read_bundle(Bytes der) {
  ByteReader in(der);
  const auto whole = next_element(in);
  if (!whole || whole->tag != sequence_tag || in.remaining() != 0)
    return fail("it is no CertificateBundle of RFC 7296");
  std::vector<Bytes> out;
  ByteReader inside(whole->content);
  while (inside.remaining() != 0) {
    const auto one = next_element(inside);
    if (!one || (one->tag != certificate_tag && one->tag != crl_tag))
      return fail("the bundle holds what is neither a certificate nor a CRL, or is cut");
    if (one->tag == crl_tag) continue;
    if (out.size() == max_certificates)
      return fail("the bundle holds more than " + std::to_string(max_certificates) + " certificates");
    out.push_back(one->content);
  }
  if (out.empty()) return fail("the bundle holds no certificate");
  return out;
}

Octets write_bundle(const std::vector<Octets>& certificates) {
  Octets inside, out;
  for (const Octets& one : certificates) put(inside, certificate_tag, one);
  put(out, sequence_tag, inside);
  return out;
}

}  // namespace postern::pki
