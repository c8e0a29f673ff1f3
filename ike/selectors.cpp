#include "ike/selectors.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace postern::ike {
namespace {

constexpr std::uint32_t opaque_port = 65536, no_protocol = 255;

// A selector as a box: protocol, port and address ranges, all inclusive. OPAQUE is the port behind the last one, so
// that ANY, which is all ports, holds it too (RFC 4301 §4.4.1.1); protocol ANY is all protocols.
struct Box {
  std::uint32_t first_protocol, last_protocol, first_port, last_port;
  IpAddress first, last;
};

Box box_of(const Selector& s) {
  Box box{s.protocol, s.protocol, s.first_port, s.last_port, s.first, s.last};
  if (s.protocol == 0) box.last_protocol = no_protocol;
  if (is_opaque(s))
    box.first_port = box.last_port = opaque_port;
  else if (s.first_port == 0 && s.last_port == 65535)
    box.last_port = opaque_port;
  return box;
}

bool overlap(const Box& a, const Box& b) {
  return a.first_protocol <= b.last_protocol && b.first_protocol <= a.last_protocol && a.first_port <= b.last_port &&
         b.first_port <= a.last_port && a.first <= b.last && b.first <= a.last;
}

IpAddress neighbour(const IpAddress& address, int step) {
  auto bytes = address.mapped();
  for (std::size_t i = bytes.size(); i-- != 0;) {
    bytes[i] = static_cast<std::uint8_t>(bytes[i] + step);
    if (bytes[i] != (step > 0 ? 0x00 : 0xff)) break;
  }
  return IpAddress::from_mapped(bytes);
}

// What is left of `inner` without `hole`: up to six boxes that do not overlap.
void subtract(Box inner, const Box& hole, std::vector<Box>& out) {
  if (!overlap(inner, hole)) {
    out.push_back(inner);
    return;
  }
  const auto keep_below = [&](auto first, auto last, auto below) {
    if (!(inner.*first < hole.*first)) return;
    Box part = inner;
    part.*last = below;
    out.push_back(part);
    inner.*first = hole.*first;
  };
  const auto keep_above = [&](auto first, auto last, auto above) {
    if (!(hole.*last < inner.*last)) return;
    Box part = inner;
    part.*first = above;
    out.push_back(part);
    inner.*last = hole.*last;
  };
  keep_below(&Box::first_protocol, &Box::last_protocol, hole.first_protocol - 1);
  keep_above(&Box::first_protocol, &Box::last_protocol, hole.last_protocol + 1);
  keep_below(&Box::first_port, &Box::last_port, hole.first_port - 1);
  keep_above(&Box::first_port, &Box::last_port, hole.last_port + 1);
  keep_below(&Box::first, &Box::last, neighbour(hole.first, -1));
  keep_above(&Box::first, &Box::last, neighbour(hole.last, 1));
}

// Of a box with some ports and OPAQUE the ports alone.
std::optional<Selector> selector_of_box(const Box& box) {
  Selector out;
  if (box.first_protocol != box.last_protocol && (box.first_protocol != 0 || box.last_protocol != no_protocol))
    return std::nullopt;
  out.protocol = static_cast<std::uint8_t>(box.first_protocol);
  const bool opaque = box.first_port == opaque_port;
  out.first_port = opaque ? 65535 : static_cast<std::uint16_t>(box.first_port);
  out.last_port = opaque ? 0 : static_cast<std::uint16_t>(std::min<std::uint32_t>(box.last_port, 65535));
  out.first = box.first;
  out.last = box.last;
  return out;
}

bool contains(const Selector& outer, const Selector& inner) {
  const auto common = intersect(outer, inner);
  return common && *common == inner;
}

std::size_t partners(const Selector& one, std::span<const Selector> others) {
  return static_cast<std::size_t>(
      std::ranges::count_if(others, [&](const Selector& other) { return pair_up(one, other); }));
}

std::string addresses(const Selector& selector) {
  const unsigned bits = selector.family() == Family::v4 ? 32 : 128;
  for (unsigned length = 0; length <= bits; ++length) {
    const Prefix prefix{selector.first, static_cast<std::uint8_t>(length)};
    if (prefix.first() == selector.first && prefix.last() == selector.last) return prefix.text();
  }
  return selector.first.text() + "-" + selector.last.text();
}

std::string ports(const Selector& selector) {
  if (selector.first_port > selector.last_port) return "opaque";
  if (selector.first_port == 0 && selector.last_port == 65535) return "0";
  if (selector.first_port == selector.last_port) return std::to_string(selector.first_port);
  return fmt::format("{}-{}", selector.first_port, selector.last_port);
}

}  // namespace

Selector selector_of(const Prefix& prefix, std::uint8_t protocol, std::uint16_t first_port, std::uint16_t last_port) {
  return {protocol, first_port, last_port, prefix.first(), prefix.last()};
}

Selector any_selector(Family family) { return selector_of({family == Family::v4 ? IpAddress::v4(0) : IpAddress{}, 0}); }

std::optional<Selector> intersect(const Selector& a, const Selector& b) {
  const Box x = box_of(a), y = box_of(b);
  if (a.family() != b.family() || !overlap(x, y)) return std::nullopt;
  Selector out;
  out.protocol = a.protocol == 0 ? b.protocol : a.protocol;
  const std::uint32_t first_port = std::max(x.first_port, y.first_port), last_port = std::min(x.last_port, y.last_port);
  const bool opaque = first_port == opaque_port;
  out.first_port = opaque ? 65535 : static_cast<std::uint16_t>(first_port);
  out.last_port = opaque ? 0 : static_cast<std::uint16_t>(std::min<std::uint32_t>(last_port, 65535));
  out.first = std::max(x.first, y.first);
  out.last = std::min(x.last, y.last);
  return out;
}

bool covers(std::span<const Selector> outer, const Selector& inner) {
  constexpr std::size_t most_pieces = 4096;  // selectors that a peer chose must not cost more
  std::vector<Box> left{box_of(inner)};
  for (const Selector& selector : outer) {
    if (selector.family() != inner.family()) continue;
    std::vector<Box> next;
    for (const Box& box : left) subtract(box, box_of(selector), next);
    left = std::move(next);
    if (left.empty()) return true;
    if (left.size() > most_pieces) return false;
  }
  return false;
}

std::optional<std::vector<Selector>> without(std::span<const Selector> from, std::span<const Selector> holes,
                                             std::size_t max) {
  std::vector<Box> left;
  std::vector<Selector> out;
  for (const Selector& whole : from) {
    left.assign(1, box_of(whole));
    for (const Selector& hole : holes) {
      if (hole.family() != whole.family()) continue;
      std::vector<Box> next;
      for (const Box& box : left) subtract(box, box_of(hole), next);
      left = std::move(next);
      if (left.size() > max) return std::nullopt;
    }
    for (const Box& box : left) {
      const auto piece = selector_of_box(box);
      if (!piece || out.size() >= max) return std::nullopt;
      out.push_back(*piece);
    }
  }
  return out;
}

bool same(std::span<const Selector> a, std::span<const Selector> b) {
  const auto within = [](std::span<const Selector> outer, std::span<const Selector> inner) {
    return std::ranges::all_of(inner, [&](const Selector& one) { return covers(outer, one); });
  };
  return within(a, b) && within(b, a);
}

std::vector<Selector> narrow(std::span<const Selector> offered, std::span<const Selector> allowed, std::size_t max) {
  std::vector<Selector> out;
  for (const Selector& wanted : offered)
    for (const Selector& policy : allowed) {
      const auto common = intersect(wanted, policy);
      if (!common || std::ranges::any_of(out, [&](const Selector& s) { return contains(s, *common); })) continue;
      // A wider one takes the place of the first that it holds.
      const auto held = [&](const Selector& s) { return contains(*common, s); };
      const auto place = std::ranges::find_if(out, held);
      if (place == out.end()) {
        if (out.size() < max) out.push_back(*common);
        continue;
      }
      *place = *common;
      out.erase(std::remove_if(place + 1, out.end(), held), out.end());
    }
  return out;
}

bool pair_up(const Selector& local, const Selector& remote) {
  return local.family() == remote.family() &&
         (local.protocol == remote.protocol || local.protocol == 0 || remote.protocol == 0);
}

std::size_t pair_count(std::span<const Selector> local, std::span<const Selector> remote) {
  std::size_t out = 0;
  for (const Selector& one : local) out += partners(one, remote);
  return out;
}

bool cut_to_fit(std::vector<Selector>& local, std::vector<Selector>& remote, std::size_t most, std::size_t most_pairs) {
  if (local.size() <= most && remote.size() <= most && pair_count(local, remote) <= most_pairs) return false;
  const auto alone = [](const std::vector<Selector>& others) {
    return [&others](const Selector& one) { return partners(one, others) == 0; };
  };
  std::erase_if(local, alone(remote));
  std::erase_if(remote, alone(local));
  // The sides take turns, so that neither is cut more than it has to be.
  std::size_t ours = 0, theirs = 0, pairs = 0;
  const auto take = [&](const std::vector<Selector>& from, std::size_t& taken, std::span<const Selector> others) {
    if (taken == std::min(from.size(), most)) return false;
    const std::size_t more = partners(from[taken], others);
    if (pairs + more > most_pairs) return false;
    pairs += more;
    ++taken;
    return true;
  };
  for (bool more = true; more;) {
    more = take(local, ours, std::span(remote).first(theirs));
    more = take(remote, theirs, std::span(local).first(ours)) || more;
  }
  const bool cut = ours < local.size() || theirs < remote.size();
  local.resize(ours);
  remote.resize(theirs);
  return cut;
}

std::vector<SelectorSides> in_parts(const std::vector<Selector>& local, const std::vector<Selector>& remote,
                                    std::size_t most_pairs) {
  std::vector<SelectorSides> out, left{{local, remote}};
  while (!left.empty()) {
    SelectorSides part = std::move(left.back());
    left.pop_back();
    const std::size_t pairs = pair_count(part.first, part.second);
    if (pairs == 0) continue;
    if (pairs <= most_pairs) {
      out.push_back(std::move(part));
      continue;
    }
    const bool halve_local = part.first.size() > part.second.size();
    SelectorSides rest = part;
    std::vector<Selector>&half = halve_local ? part.first : part.second,
    &other = halve_local ? rest.first : rest.second;
    const auto middle = static_cast<std::ptrdiff_t>(half.size() / 2);
    half.erase(half.begin() + middle, half.end());
    other.erase(other.begin(), other.begin() + middle);
    left.push_back(std::move(rest));
    left.push_back(std::move(part));
  }
  return out;
}

bool contains(const Selector& selector, const IpAddress& address, std::uint8_t protocol, std::uint16_t port) {
  if (address.family() != selector.family()) return false;
  if (selector.protocol != 0 && selector.protocol != protocol) return false;
  return selector.first <= address && address <= selector.last && selector.first_port <= port &&
         port <= selector.last_port;
}

std::string text(const Selector& selector) {
  const bool any_port = selector.first_port == 0 && selector.last_port == 65535;
  if (selector.protocol == 0 && any_port) return addresses(selector);
  return fmt::format("{}/{}/{}", addresses(selector), selector.protocol, ports(selector));
}

std::string listed(std::span<const Selector> selectors) {
  std::string out;
  for (const Selector& one : selectors) out += (out.empty() ? "" : ", ") + text(one);
  return out;
}

}  // namespace postern::ike
