// Fragments of one message (RFC 7383 §2.6), until they make a whole. Only what is authentic is kept, so nobody but the
// peer fills it; and of one message of each direction alone, that which is awaited.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "ike/message.hpp"

namespace postern::ike {

// What a peer that has not proved who it is may have us keep.
inline constexpr std::size_t max_unproven_bytes = 32768;

class Reassembly {
 public:
  // Another fragment, of the message that is awaited. The message, when it is whole, with what is wrong about it;
  // nothing while some are missing, and for one that is forged, doubled, of another cut, or too much.
  [[nodiscard]] std::optional<Parsed<Message>> take(Bytes datagram, const crypto::IkeCipher& cipher,
                                                    std::size_t most_bytes);
  void clear();
  // Of the message that became whole last: by it a retransmission is known (§2.6.1).
  [[nodiscard]] const Octets& first_datagram() const { return first_datagram_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  [[nodiscard]] bool begin(const Fragment& fragment);

  std::optional<Header> header_;  // of what is being gathered
  std::vector<std::optional<Octets>> pieces_;
  PayloadType first_inside_{};
  Octets first_datagram_;
  std::size_t bytes_ = 0, missing_ = 0;
};

}  // namespace postern::ike
