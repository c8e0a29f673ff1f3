#include "ike/address_pool.hpp"

#include <algorithm>

namespace postern::ike {
namespace {

constexpr std::size_t most_remembered = 4096;
constexpr std::size_t most_tried = 65536;  // of a pool that is wider, the rest is for nobody

IpAddress next_of(const IpAddress& address) {
  auto bytes = address.mapped();
  for (std::size_t i = bytes.size(); i-- != 0;)
    if (++bytes[i] != 0) break;
  return IpAddress::from_mapped(bytes);
}

bool is_usable(const Prefix& pool, const IpAddress& address) {
  if (address.family() != pool.address.family() || address < pool.first() || pool.last() < address) return false;
  const bool has_ends = address.family() == Family::v4 ? pool.length < 31 : pool.length < 127;
  if (!has_ends) return true;
  return address != pool.first() && (address.family() == Family::v6 || address != pool.last());
}

}  // namespace

bool AddressPools::free(const Prefix& pool, const IpAddress& address) const {
  return is_usable(pool, address) && !leases_.contains(address);
}

std::optional<IpAddress> AddressPools::lend(const IpAddress& address, const std::string& owner) {
  leases_[address] = {owner, 1};
  return address;
}

std::optional<IpAddress> AddressPools::take(const Prefix& pool, const std::string& owner,
                                            const std::optional<IpAddress>& wanted) {
  for (auto& [address, lease] : leases_)
    if (lease.owner == owner && is_usable(pool, address)) {
      ++lease.holders;
      return address;
    }
  const std::string key = owner + " " + pool.text();
  if (wanted && free(pool, *wanted)) return lend(*wanted, owner);
  const auto before = remembered_.find(key);
  std::optional<IpAddress> found;
  if (before != remembered_.end() && free(pool, before->second)) found = before->second;
  IpAddress next = pool.first();
  for (std::size_t tried = 0; !found && tried < most_tried && next <= pool.last(); ++tried, next = next_of(next)) {
    if (free(pool, next)) found = next;
    if (next == pool.last()) break;
  }
  if (!found) return std::nullopt;
  if (remembered_.size() >= most_remembered) remembered_.erase(remembered_.begin());
  remembered_.insert_or_assign(key, *found);
  return lend(*found, owner);
}

void AddressPools::give_back(const IpAddress& address, const std::string& owner) {
  const auto lease = leases_.find(address);
  if (lease == leases_.end() || lease->second.owner != owner) return;
  if (--lease->second.holders == 0) leases_.erase(lease);
}

}  // namespace postern::ike
