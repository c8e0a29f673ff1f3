// Half-open IKE SAs (RFC 7296 §2.6) by who began them, and which gives way when there are too many. Who asks has shown
// by a cookie that it receives at its address; behind that address there may be a NAT with many others, so it counts by
// its port too. Of IPv6 a /64 is one site's, which has every address of it: it counts as one address.
//
// The largest share gives up its oldest for a smaller one, and for no other: a flood from one port takes from itself
// alone, and one from many keeps nobody out for longer than it takes to fill all places anew. Every operation is
// logarithmic. One thread; the limits, and the end of what gives way, are the caller's.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

#include "ike/actions.hpp"

namespace postern::ike {

class HalfOpen {
 public:
  using Key = std::uint64_t;  // the responder's SPI

  void add(const Endpoint& who, Key key);
  void remove(Key key);  // one that is not here is no fault

  [[nodiscard]] std::size_t size() const { return places_.size(); }
  // Of the address of `who`, or of its /64.
  [[nodiscard]] std::size_t of_address(const Endpoint& who) const;

  // The one that makes room for another of `who`; nothing: nobody has more than `who` has. `address_full`: it is of the
  // same address.
  [[nodiscard]] std::optional<Key> gives_way_to(const Endpoint& who, bool address_full) const;

 private:
  using Order = std::uint64_t;                 // rises: the smallest is the oldest
  using Rank = std::pair<std::size_t, Order>;  // how many, and ~ the oldest of them: the greatest gives way first
  using Owner = std::pair<IpAddress, std::uint16_t>;
  struct Share {
    std::map<Order, Key> sas;
    [[nodiscard]] Rank rank() const { return {sas.size(), ~sas.begin()->first}; }
  };
  template <class Id>
  using Ranking = std::set<std::pair<Rank, Id>>;
  struct Site {
    Share all;
    std::map<Owner, Share> shares;
    Ranking<Owner> ranking;
  };
  struct Place {
    IpAddress site;
    Owner owner;
    Order order = 0;
  };

  [[nodiscard]] static IpAddress site_of(const IpAddress& address);
  template <class Change>
  void change(const Place& place, Change&& by);

  std::map<IpAddress, Site> sites_;
  Ranking<IpAddress> ranking_;
  std::unordered_map<Key, Place> places_;
  Order next_ = 0;
};

}  // namespace postern::ike
