// postern-pki --node NAME --listen-fd N
#include <array>

#include "base/child_loop.hpp"
#include "base/log.hpp"
#include "crypto/random.hpp"
#include "crypto/tls.hpp"
#include "pki/daemon.hpp"

namespace {

postern::Result<void> run(postern::Fd listener) {
  // OpenSSL reads its configuration when it is first used, which the sandbox would forbid.
  std::array<std::byte, 32> bytes{};
  POSTERN_CHECK(postern::crypto::random_bytes(bytes));
  POSTERN_CHECK(postern::crypto::wake_signatures());
  POSTERN_CHECK(postern::crypto::wake_tls());
  if (const auto locked = postern::crypto::lock_private_keys(); !locked) spdlog::warn("{}", locked.error().message());
  POSTERN_TRY(daemon, postern::pki::Daemon::create(std::move(listener)));
  spdlog::info("starting");  // also makes the C library read its time zone, which the sandbox would forbid
  POSTERN_CHECK(postern::pki::enter_sandbox());
  return daemon->run();
}

}  // namespace

int main(int argc, char** argv) { return postern::run_child("postern-pki", argc, argv, run); }
