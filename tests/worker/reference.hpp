// Plain and slow implementations of what the data plane does fast: they share no code with it.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"
#include "base/net_types.hpp"

namespace postern::reference {

using Octets = std::vector<std::uint8_t>;

inline Octets octets(Bytes bytes) {
  Octets out(bytes.size());
  if (!bytes.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}
inline Bytes view(const Octets& data) { return std::as_bytes(std::span(data)); }

inline Octets from_hex(std::string_view text) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : (c | 32) - 'a' + 10; };
  Octets out;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    out.push_back(static_cast<std::uint8_t>(digit(text[i]) * 16 + digit(text[i + 1])));
  return out;
}
inline std::string to_hex(const Octets& data) {
  std::string out;
  for (const std::uint8_t b : data) {
    out += "0123456789abcdef"[b >> 4];
    out += "0123456789abcdef"[b & 15];
  }
  return out;
}

inline unsigned be16(const Octets& p, std::size_t at) { return static_cast<unsigned>(p.at(at) << 8 | p.at(at + 1)); }
inline std::uint32_t be32(const Octets& p, std::size_t at) { return be16(p, at) << 16 | be16(p, at + 2); }
inline void put16(Octets& p, std::size_t at, unsigned v) {
  p.at(at) = static_cast<std::uint8_t>(v >> 8);
  p.at(at + 1) = static_cast<std::uint8_t>(v);
}
inline void put32(Octets& p, std::size_t at, std::uint32_t v) {
  put16(p, at, v >> 16);
  put16(p, at + 2, v & 0xffff);
}

// RFC 1071, as its text says: 16 bits at a time.
inline unsigned sum(const Octets& p, std::size_t from, std::size_t to, unsigned start = 0) {
  unsigned total = start;
  for (std::size_t i = from; i < to; i += 2) {
    total += static_cast<unsigned>(p.at(i) << 8) + (i + 1 < to ? p.at(i + 1) : 0U);
    total = (total & 0xffff) + (total >> 16);
  }
  return total;
}

struct Shape {
  bool v4 = true;
  std::size_t network = 0;  // header bytes, IPv6 without extension headers
  unsigned protocol = 0;
};
inline Shape shape(const Octets& p) {
  if (p.at(0) >> 4 == 4) return {true, (p[0] & 15U) * 4, p.at(9)};
  return {false, 40, p.at(6)};
}

inline unsigned pseudo(const Octets& p, const Shape& s, std::size_t upper) {
  const unsigned addresses = s.v4 ? sum(p, 12, 20) : sum(p, 8, 40);
  const Octets rest = {static_cast<std::uint8_t>(upper >> 24),
                       static_cast<std::uint8_t>(upper >> 16),
                       static_cast<std::uint8_t>(upper >> 8),
                       static_cast<std::uint8_t>(upper),
                       0,
                       static_cast<std::uint8_t>(s.protocol)};
  return sum(rest, 0, rest.size(), addresses);
}

inline std::size_t checksum_at(const Shape& s) { return s.network + (s.protocol == 6 ? 16 : s.protocol == 17 ? 6 : 2); }

// Writes lengths and every checksum of a TCP, UDP or ICMP packet without extension headers.
inline void finish(Octets& p) {
  const Shape s = shape(p);
  if (s.v4) {
    put16(p, 2, static_cast<unsigned>(p.size()));
    put16(p, 10, 0);
    put16(p, 10, ~sum(p, 0, s.network) & 0xffff);
  } else {
    put16(p, 4, static_cast<unsigned>(p.size() - 40));
  }
  if (s.protocol == 17) put16(p, s.network + 4, static_cast<unsigned>(p.size() - s.network));
  if (s.protocol != 6 && s.protocol != 17 && s.protocol != 1 && s.protocol != 58) return;
  put16(p, checksum_at(s), 0);
  const unsigned start = s.protocol == 1 ? 0 : pseudo(p, s, p.size() - s.network);
  unsigned value = ~sum(p, s.network, p.size(), start) & 0xffff;
  if (value == 0 && s.protocol == 17) value = 0xffff;
  put16(p, checksum_at(s), value);
}

// True when every checksum of the packet is right.
inline bool checksums_ok(const Octets& p) {
  const Shape s = shape(p);
  if (s.v4 && sum(p, 0, s.network) != 0xffff) return false;
  if (s.v4 && (be16(p, 6) & 0x3fff) != 0) return true;  // a fragment: the upper layer is elsewhere
  if (s.protocol != 6 && s.protocol != 17 && s.protocol != 1 && s.protocol != 58) return true;
  const unsigned start = s.protocol == 1 ? 0 : pseudo(p, s, p.size() - s.network);
  return sum(p, s.network, p.size(), start) == 0xffff;
}

// What a NIC would make of a TCP super-packet (no extension headers): the plainest loop that is right.
inline std::vector<Octets> tso(const Octets& super, std::size_t mss) {
  const Shape s = shape(super);
  const std::size_t header = s.network + (super.at(s.network + 12) >> 4) * 4U;
  std::vector<Octets> out;
  for (std::size_t at = header; at < super.size() || out.empty(); at += mss) {
    const std::size_t end = std::min(super.size(), at + mss);
    Octets one(super.begin(), super.begin() + static_cast<std::ptrdiff_t>(header));
    one.insert(one.end(), super.begin() + static_cast<std::ptrdiff_t>(at),
               super.begin() + static_cast<std::ptrdiff_t>(end));
    if (s.v4) put16(one, 4, (be16(super, 4) + static_cast<unsigned>(out.size())) & 0xffff);
    put32(one, s.network + 4, be32(super, s.network + 4) + static_cast<std::uint32_t>(at - header));
    if (end != super.size()) one.at(s.network + 13) &= 0xf6;  // FIN, PSH
    if (!out.empty()) one.at(s.network + 13) &= 0x7f;         // CWR
    finish(one);
    out.push_back(one);
  }
  return out;
}

// RFC 791 §3.2 and RFC 8200 §4.5, the receiver's side: pieces of one packet, in any order, without options.
inline Octets reassemble(const std::vector<Octets>& pieces) {
  Octets out;
  for (const Octets& p : pieces) {
    const Shape s = shape(p);
    const std::size_t header = s.v4 ? s.network : 48;
    const std::size_t offset = s.v4 ? (be16(p, 6) & 0x1fff) * 8 : be16(p, 42) & 0xfff8;
    const std::size_t base = s.v4 ? s.network : 40;
    if (out.size() < base + offset + p.size() - header) out.resize(base + offset + p.size() - header);
    std::copy(p.begin() + static_cast<std::ptrdiff_t>(header), p.end(),
              out.begin() + static_cast<std::ptrdiff_t>(base + offset));
    if (offset == 0) {
      std::copy(p.begin(), p.begin() + static_cast<std::ptrdiff_t>(base), out.begin());
      if (!s.v4) out[6] = p[40];
    }
  }
  if (out.at(0) >> 4 == 4) {
    put16(out, 2, static_cast<unsigned>(out.size()));
    put16(out, 6, be16(out, 6) & 0x4000);
    put16(out, 10, 0);
    put16(out, 10, ~sum(out, 0, (out[0] & 15U) * 4) & 0xffff);
  } else {
    put16(out, 4, static_cast<unsigned>(out.size() - 40));
  }
  return out;
}

}  // namespace postern::reference
