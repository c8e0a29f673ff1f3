#include "ike/half_open.hpp"

namespace postern::ike {
namespace {

constexpr std::uint8_t site_bits = 64;  // RFC 4291 §2.5.4, RFC 6177 §2: no site has less

template <class Ranking, class Share, class Id>
void rank(Ranking& ranking, const Share& share, const Id& id) {
  if (!share.sas.empty()) ranking.insert({share.rank(), id});
}

template <class Ranking, class Share, class Id>
void unrank(Ranking& ranking, const Share& share, const Id& id) {
  if (!share.sas.empty()) ranking.erase({share.rank(), id});
}

}  // namespace

IpAddress HalfOpen::site_of(const IpAddress& address) {
  return address.family() == Family::v4 ? address : Prefix{address, site_bits}.first();
}

template <class Change>
void HalfOpen::change(const Place& place, Change&& by) {
  Site& site = sites_[place.site];
  Share& share = site.shares[place.owner];
  unrank(ranking_, site.all, place.site);
  unrank(site.ranking, share, place.owner);
  by(site.all.sas);
  by(share.sas);
  rank(ranking_, site.all, place.site);
  rank(site.ranking, share, place.owner);
  if (share.sas.empty()) site.shares.erase(place.owner);
  if (site.all.sas.empty()) sites_.erase(place.site);
}

void HalfOpen::add(const Endpoint& who, Key key) {
  const Place place{site_of(who.address), {who.address, who.port}, next_++};
  if (!places_.emplace(key, place).second) return;
  change(place, [&](auto& sas) { sas.emplace(place.order, key); });
}

void HalfOpen::remove(Key key) {
  const auto known = places_.find(key);
  if (known == places_.end()) return;
  const Place place = known->second;
  places_.erase(known);
  change(place, [&](auto& sas) { sas.erase(place.order); });
}

std::size_t HalfOpen::of_address(const Endpoint& who) const {
  const auto site = sites_.find(site_of(who.address));
  return site == sites_.end() ? 0 : site->second.all.sas.size();
}

std::optional<HalfOpen::Key> HalfOpen::gives_way_to(const Endpoint& who, bool address_full) const {
  const IpAddress address = site_of(who.address);
  const auto own = sites_.find(address);
  if (!address_full && !ranking_.empty()) {
    const auto& [rank, largest] = *ranking_.rbegin();
    const std::size_t ours = own == sites_.end() ? 0 : own->second.all.sas.size();
    if (rank.first > ours) {
      const Site& site = sites_.at(largest);
      return site.shares.at(site.ranking.rbegin()->second).sas.begin()->second;
    }
  }
  if (own == sites_.end() || own->second.ranking.empty()) return std::nullopt;
  const auto& [rank, largest] = *own->second.ranking.rbegin();
  const auto share = own->second.shares.find({who.address, who.port});
  const std::size_t ours = share == own->second.shares.end() ? 0 : share->second.sas.size();
  if (rank.first <= ours) return std::nullopt;
  return own->second.shares.at(largest).sas.begin()->second;
}

}  // namespace postern::ike
