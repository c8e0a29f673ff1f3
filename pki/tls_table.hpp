// TLS handshakes under way for EAP-TLS (RFC 5216, RFC 9190). They run here because their private keys are here: what
// leaves are records, and the key at the end. Bounded: of postern-ike's conversations, so many at once and each for so
// long. The oldest makes room: whoever begins handshakes to leave them has to do so as fast as others end theirs.
#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include "base/clock.hpp"
#include "crypto/tls.hpp"
#include "pki/store.hpp"

namespace postern::pki {

class TlsTable {
 public:
  static constexpr std::size_t most = 512;
  static constexpr Duration patience = std::chrono::seconds(90);

  explicit TlsTable(crypto::TlsEnd::Newest newest = crypto::TlsEnd::Newest::tls13) : newest_(newest) {}
  // `wall`: seconds since 1970, for certificates.
  [[nodiscard]] Answer answer(const TlsQuestion& question, const Store& store, std::int64_t wall, Time now);
  void clear() { conversations_.clear(); }
  [[nodiscard]] std::size_t size() const { return conversations_.size(); }

 private:
  struct Conversation {
    std::unique_ptr<crypto::TlsEnd> end;
    Time until;
    std::shared_ptr<struct TlsPeer> peer;  // what its certificate turned out to be
  };
  void make_room();
  [[nodiscard]] Result<Conversation, Refusal> begin(const TlsQuestion& question, const Store& store, std::int64_t wall,
                                                    Time now) const;
  crypto::TlsEnd::Newest newest_;
  std::map<std::uint64_t, Conversation> conversations_;
};

}  // namespace postern::pki
