#include "ike/reassembly.hpp"

namespace postern::ike {

void Reassembly::clear() {
  header_.reset();
  pieces_.clear();
  bytes_ = missing_ = 0;
}

// A message that is cut anew, into more pieces, takes the place of what there is (§2.6).
bool Reassembly::begin(const Fragment& fragment) {
  const bool same = header_ && *header_ == fragment.header;
  if (same && fragment.place.total < pieces_.size()) return false;
  if (same && fragment.place.total == pieces_.size()) return true;
  clear();
  header_ = fragment.header;
  pieces_.resize(fragment.place.total);
  missing_ = fragment.place.total;
  return true;
}

std::optional<Parsed<Message>> Reassembly::take(Bytes datagram, const crypto::IkeCipher& cipher,
                                                std::size_t most_bytes) {
  const auto place = fragment_number(datagram);
  if (!place || place->total > max_fragments) return std::nullopt;
  // §2.6: what is here already costs no decryption.
  const auto header = parse_header(datagram);
  if (header && header_ == *header && place->total <= pieces_.size() &&
      (place->total < pieces_.size() || pieces_[place->number - 1U]))
    return std::nullopt;
  auto fragment = open_fragment(datagram, cipher);
  if (!fragment || !begin(*fragment)) return std::nullopt;
  if (bytes_ + fragment->plain.size() > most_bytes) {
    clear();
    return std::nullopt;
  }
  bytes_ += fragment->plain.size();
  if (place->number == 1) {
    first_inside_ = fragment->first_inside;
    first_datagram_ = octets_of(datagram);
  }
  pieces_[place->number - 1U] = std::move(fragment->plain);
  if (--missing_ != 0) return std::nullopt;
  Octets whole;
  whole.reserve(bytes_);
  for (const auto& piece : pieces_) whole.insert(whole.end(), piece->begin(), piece->end());
  const Header of = *header_;
  clear();
  return join_fragments(of, first_inside_, whole);
}

}  // namespace postern::ike
