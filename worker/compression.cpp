#include "worker/compression.hpp"

#include <algorithm>
#include <new>

namespace postern {
namespace {

// A receiver with a smaller window than the sender's cannot follow it, and Linux has one of 2 KB. We take any.
constexpr int our_window_bits = 11, any_window_bits = 15;
// Hash heads that are cleared for every packet: 4096 of 2 bytes. Symbols enough for a block as large as a packet.
constexpr int memory_level = 5;
constexpr std::size_t arena_bytes = 48 << 10;

Bytef* bytes_of(const std::byte* data) {
  return const_cast<Bytef*>(reinterpret_cast<const Bytef*>(data));  // zlib's next_in is not const
}

void set_buffers(z_stream& stream, Bytes in, std::byte* out, std::size_t room) {
  stream.next_in = bytes_of(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = bytes_of(out);
  stream.avail_out = static_cast<uInt>(room);
}

}  // namespace

z_stream DeflateArena::stream() {
  z_stream out{};
  out.zalloc = take;
  out.zfree = give;
  out.opaque = this;
  return out;
}

void* DeflateArena::take(void* arena, unsigned items, unsigned bytes) {
  DeflateArena& self = *static_cast<DeflateArena*>(arena);
  constexpr std::size_t alignment = 16;
  const std::size_t wanted = (std::size_t{items} * bytes + alignment - 1) / alignment * alignment;
  if (wanted > self.size_ - self.used_) return Z_NULL;
  void* const out = self.memory_.get() + self.used_;
  self.used_ += wanted;
  return out;
}

void DeflateArena::give(void*, void*) {}

Compression::Compression()
    : deflate_memory_(arena_bytes),
      inflate_memory_(arena_bytes),
      deflate_(deflate_memory_.stream()),
      inflate_(inflate_memory_.stream()),
      out_(std::make_unique_for_overwrite<std::byte[]>(longest_plain)) {
  // Negative: RFC 1951's format as it is, without zlib's header and checksum.
  if (deflateInit2(&deflate_, Z_BEST_SPEED, Z_DEFLATED, -our_window_bits, memory_level, Z_DEFAULT_STRATEGY) != Z_OK ||
      inflateInit2(&inflate_, -any_window_bits) != Z_OK)
    throw std::bad_alloc();
}

Compression::~Compression() {
  deflateEnd(&deflate_);
  inflateEnd(&inflate_);
}

std::optional<MutableBytes> Compression::compress(Bytes payload, std::uint8_t next_header, std::uint16_t cpi) {
  if (payload.size() < least_to_compress || payload.size() > longest_plain) return std::nullopt;
  deflateReset(&deflate_);
  set_buffers(deflate_, payload, out_.get() + ipcomp_header, payload.size() - ipcomp_header - 1);
  if (::deflate(&deflate_, Z_FINISH) != Z_STREAM_END) return std::nullopt;
  out_[0] = static_cast<std::byte>(next_header);
  out_[1] = std::byte{0};
  store_be16(out_.get() + 2, cpi);
  return MutableBytes(out_.get(), ipcomp_header + deflate_.total_out);
}

std::expected<Decompressed, Drop> Compression::decompress(Bytes ipcomp, std::uint16_t cpi, std::size_t longest) {
  ByteReader header(ipcomp);
  const std::uint8_t next_header = header.u8();
  header.skip(1);  // RFC 3173 §3.1: flags are ignored
  if (header.u16() != cpi || !header.ok()) return std::unexpected(Drop::ipcomp_header);
  if (inflateReset(&inflate_) != Z_OK) return std::unexpected(Drop::ipcomp_data);
  const std::size_t room = std::min<std::size_t>(longest, longest_plain);
  set_buffers(inflate_, header.rest(), out_.get(), room);
  const int ended = ::inflate(&inflate_, Z_FINISH);
  // zlib stops at a full buffer, whether or not more input is there: a stream that fits ends by itself.
  if (ended != Z_STREAM_END)
    return std::unexpected(ended == Z_BUF_ERROR && inflate_.avail_out == 0 ? Drop::ipcomp_too_long : Drop::ipcomp_data);
  return Decompressed{Bytes(out_.get(), inflate_.total_out), next_header};
}

}  // namespace postern
