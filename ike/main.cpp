// postern-ike --node NAME --listen-fd N
#include <array>

#include "base/child_loop.hpp"
#include "base/log.hpp"
#include "crypto/dh.hpp"
#include "crypto/prf.hpp"
#include "crypto/random.hpp"
#include "ike/daemon.hpp"
#include "ike/sandbox.hpp"

namespace {

// OpenSSL reads its configuration file when it is first used, which the sandbox would forbid.
postern::Result<void> wake_crypto() {
  using namespace postern::crypto;
  std::array<std::byte, 32> bytes{};
  POSTERN_CHECK(random_bytes(bytes));
  POSTERN_CHECK(prf(Prf::hmac_sha256, bytes, {}));
  for (const DhGroup group : {DhGroup::modp2048, DhGroup::ecp256, DhGroup::curve25519})
    POSTERN_CHECK(DhExchange::create(group));
  return {};
}

postern::Result<void> run(postern::Fd listener) {
  POSTERN_CHECK(wake_crypto());
  POSTERN_TRY(daemon, postern::ike::Daemon::create(std::move(listener)));
  spdlog::info("starting");  // also makes the C library read its time zone, which the sandbox would forbid
  POSTERN_CHECK(postern::ike::enter_sandbox());
  return daemon->run();
}

}  // namespace

int main(int argc, char** argv) { return postern::run_child("postern-ike", argc, argv, run); }
