// Addresses that a responder lends to peers which ask for one (RFC 7296 §2.19, §3.15). One thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>

#include "base/net_types.hpp"

namespace postern::ike {

class AddressPools {
 public:
  // One of `pool` for `owner`: that which it has, else `wanted` where it is free, else the one that it had before, else
  // the next. Each take() wants a give_back(). Nothing: all are lent. IPv4 leaves out the first and the last.
  [[nodiscard]] std::optional<IpAddress> take(const Prefix& pool, const std::string& owner,
                                              const std::optional<IpAddress>& wanted);
  void give_back(const IpAddress& address, const std::string& owner);
  [[nodiscard]] std::size_t lent() const { return leases_.size(); }

 private:
  struct Lease {
    std::string owner;
    unsigned holders = 0;  // IKE SAs of this owner: while it comes anew there are two
  };
  [[nodiscard]] bool free(const Prefix& pool, const IpAddress& address) const;
  std::optional<IpAddress> lend(const IpAddress& address, const std::string& owner);

  std::map<IpAddress, Lease> leases_;
  std::map<std::string, IpAddress> remembered_;  // by owner and pool; bounded
};

}  // namespace postern::ike
