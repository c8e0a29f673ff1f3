// postern-pki --node NAME --listen-fd N
#include <charconv>
#include <cstdio>
#include <string>
#include <string_view>

#include "base/log.hpp"
#include "crypto/random.hpp"
#include "crypto/tls.hpp"
#include "pki/daemon.hpp"

namespace {

struct Options {
  std::string node;
  int listen_fd = -1;
};

postern::Result<Options> parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i], value = argv[i + 1];
    if (name == "--node") options.node = value;
    if (name == "--listen-fd") std::from_chars(value.data(), value.data() + value.size(), options.listen_fd);
  }
  if (options.node.empty() || options.listen_fd < 3 || argc != 5)
    return postern::fail("usage: postern-pki --node NAME --listen-fd N (started by posternd)");
  return options;
}

postern::Result<void> run(const Options& options) {
  // OpenSSL reads its configuration when it is first used, which the sandbox would forbid.
  std::array<std::byte, 32> bytes{};
  POSTERN_CHECK(postern::crypto::random_bytes(bytes));
  POSTERN_CHECK(postern::crypto::wake_signatures());
  POSTERN_CHECK(postern::crypto::wake_tls());
  if (const auto locked = postern::crypto::lock_private_keys(); !locked) spdlog::warn("{}", locked.error().message());
  POSTERN_TRY(daemon, postern::pki::Daemon::create(postern::Fd(options.listen_fd)));
  spdlog::info("starting");  // also makes the C library read its time zone, which the sandbox would forbid
  POSTERN_CHECK(postern::pki::enter_sandbox());
  return daemon->run();
}

}  // namespace

int main(int argc, char** argv) {
  const auto options = parse(argc, argv);
  if (!options) {
    std::fprintf(stderr, "%s\n", options.error().message().c_str());
    return 2;
  }
  postern::start_log("postern-pki", options->node);
  if (const auto outcome = run(*options); !outcome) {
    spdlog::error("{}", outcome.error().message());
    return 1;
  }
  spdlog::info("stopped");
  return 0;
}
