// Names by the C library.
#include <cstring>
#include <memory>

#include <netdb.h>
#include <nss.h>
#include <sys/socket.h>

#include "resolver/lookups.hpp"

namespace postern::resolver {
namespace {

IpAddress address_of(const sockaddr& from) {
  if (from.sa_family == AF_INET)
    return IpAddress::v4(ntohl(reinterpret_cast<const sockaddr_in&>(from).sin_addr.s_addr));
  std::array<std::uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), &reinterpret_cast<const sockaddr_in6&>(from).sin6_addr, bytes.size());
  return IpAddress::from_mapped(bytes);
}

Answer answer_of(int code) {
  switch (code) {
    case EAI_NONAME: return {Outcome::no_name, {}, {}};
    case EAI_NODATA:
    case EAI_ADDRFAMILY: return {Outcome::no_address, {}, {}};
    case EAI_AGAIN: return {Outcome::unreachable, {}, {}};
    default: break;
  }
  return {Outcome::failed, code == EAI_SYSTEM ? std::strerror(errno) : ::gai_strerror(code), {}};
}

}  // namespace

Answer ask_c_library(const Question& question) {
  addrinfo hints{};
  hints.ai_family = question.family == Family::v4 ? AF_INET : AF_INET6;
  hints.ai_socktype = SOCK_DGRAM;  // one row an address
  addrinfo* found = nullptr;
  if (const int code = ::getaddrinfo(question.name.c_str(), nullptr, &hints, &found); code != 0) return answer_of(code);
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> rows(found, ::freeaddrinfo);
  Answer out{Outcome::found, {}, {}};
  for (const addrinfo* row = found; row != nullptr && out.addresses.size() < max_addresses; row = row->ai_next)
    if (const IpAddress address = address_of(*row->ai_addr); address.family() == question.family)
      out.addresses.push_back(address);
  if (out.addresses.empty()) out.outcome = Outcome::no_address;
  return out;
}

Result<void> choose_services() {
  if (::__nss_configure_lookup("hosts", "files dns") != 0) return fail_errno("choose the services of \"hosts\"");
  return {};
}

}  // namespace postern::resolver
