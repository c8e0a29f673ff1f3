#include "resolver/lookups.hpp"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

#include <netdb.h>
#include <nss.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

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

struct Lookups::Shared {
  struct Task {
    std::uint64_t channel, id;
    Question question;
  };
  Ask ask;
  Fd wake;
  std::mutex mutex;
  std::condition_variable there_is_work;
  std::deque<Task> waiting;
  std::vector<Done> done;
  bool ended = false;
};

Result<Lookups> Lookups::create(Ask ask) {
  auto shared = std::make_shared<Shared>();
  shared->ask = std::move(ask);
  shared->wake = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!shared->wake) return fail_errno("eventfd");
  return Lookups(std::move(shared));
}

Lookups::~Lookups() {
  if (!shared_) return;
  const std::scoped_lock lock(shared_->mutex);
  shared_->ended = true;
  shared_->there_is_work.notify_all();
}

Result<void> Lookups::start(std::size_t threads) try {
  for (std::size_t i = 0; i < threads; ++i) std::thread(work, shared_).detach();
  return {};
} catch (const std::system_error& error) {
  return fail("start a thread", error.code().value());
}

int Lookups::fd() const { return shared_->wake.get(); }

bool Lookups::add(std::uint64_t channel, std::uint64_t id, Question question) {
  const std::scoped_lock lock(shared_->mutex);
  if (shared_->waiting.size() >= max_waiting) return false;
  shared_->waiting.push_back({channel, id, std::move(question)});
  shared_->there_is_work.notify_one();
  return true;
}

std::vector<Lookups::Done> Lookups::take() {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto got = ::read(shared_->wake.get(), &count, sizeof count);
  const std::scoped_lock lock(shared_->mutex);
  return std::exchange(shared_->done, {});
}

void Lookups::work(const std::shared_ptr<Shared>& shared) {
  for (;;) {
    std::unique_lock lock(shared->mutex);
    shared->there_is_work.wait(lock, [&] { return shared->ended || !shared->waiting.empty(); });
    if (shared->ended) return;
    const Shared::Task task = std::move(shared->waiting.front());
    shared->waiting.pop_front();
    lock.unlock();
    Answer answer = shared->ask(task.question);
    lock.lock();
    shared->done.push_back({task.channel, task.id, std::move(answer)});
    constexpr std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(shared->wake.get(), &one, sizeof one);
  }
}

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
