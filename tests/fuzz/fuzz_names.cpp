// What a postern-resolver that somebody has taken over may say: a frame is refused or is one that we could have
// written, of its addresses none is taken that no peer has, and what it brings of a URL has its bounds. And which texts
// of a peer are URLs.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "ike/peer_names.hpp"
#include "resolver/channel.hpp"

namespace {

using namespace postern;

void require(bool holds) {
  if (!holds) std::abort();
}

void check_url(std::string_view text) {
  if (!is_http_url(text)) return;
  require(text.starts_with("http://") && text.size() <= max_url_bytes);
  for (const char c : text) require(c > 0x20 && c < 0x7f);
  const auto authority = text.substr(7, text.find('/', 7) - 7);
  require(!authority.empty() && authority.find_first_of("@?#%\\") == std::string_view::npos);
  require(text.find("/../") == std::string_view::npos || text.find('?') < text.find("/../"));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  check_url({reinterpret_cast<const char*>(data), size});
  const auto frame = resolver::decode(std::as_bytes(std::span(data, size)));
  if (!frame) return 0;
  const auto again = resolver::decode(resolver::encode(*frame));
  require(again.has_value() && again->id == frame->id && again->body.index() == frame->body.index());
  if (const auto* const found = std::get_if<resolver::UrlAnswer>(&frame->body))
    require(found->body.size() <= resolver::max_body_bytes);
  if (const auto* const url = std::get_if<resolver::UrlQuestion>(&frame->body)) check_url(url->url);
  const auto* const answer = std::get_if<resolver::Answer>(&frame->body);
  if (answer == nullptr) return 0;
  const Time now{std::chrono::hours(1)};
  const IpAddress own = IpAddress::v4(0xc0000201);
  for (const Family family : {Family::v4, Family::v6}) {
    ike::PeerNames names;
    const ike::PeerName name{"vpn.example.net", family};
    names.keep({name});
    require(names.ask(name, now) && names.settle(name, *answer, {own}, now));
    const auto& state = *names.find(name);
    require(state.address.has_value() == state.problem.empty());
    if (!state.address) continue;
    require(state.address->family() == family && *state.address != own);
    require(!state.address->is_unspecified() && !state.address->is_multicast());
  }
  return 0;
}
